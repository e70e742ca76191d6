"""`modellab evaluate`, `compare`, `report` and `demo`."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import typer

from modellab.commands.common import (
    ComputeType,
    Corpora,
    DataRev,
    Device,
    Json,
    Limit,
    NormalizerName,
    Slices,
    TaskName,
    open_lab,
    run_watched,
)
from modellab.console import TerminalProgress, err, out, print_json
from models.collector import collector_paused
from models.errors import CardError, StateError, unknown_name
from models.types import Task
from pipelines.decision import Comparison
from pipelines.types import Evaluation

Model = Annotated[str, typer.Argument(help="A model's name; see `modellab models list`.")]

OutFolder = Annotated[Path | None, typer.Option("--out", help="Also write small result files there, for DVC.")]

EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}


@dataclass(frozen=True)
class Story:
    """What `modellab demo` tells."""

    candidate: str
    baseline: str
    corpora: tuple[str, ...]
    question: str


RECOGNISERS = Story(
    "faster-whisper-base",
    "whisper-base",
    ("starter",),
    "May faster-whisper-base (8-bit, CTranslate2) replace whisper-base (openai-whisper)? Same weights.",
)
VOICES = Story(
    "hibari",
    "piper-joe",
    ("prompts-plain",),
    "May the voice hibari replace piper-joe? faster-whisper-base listens to both.",
)


def evaluate(
    model: Model,
    corpus: Corpora = None,
    slice_: Slices = None,
    limit: Limit = None,
    device: Device = None,
    compute_type: ComputeType = None,
    normalizer: NormalizerName = None,
    task: TaskName = None,
    data_rev: DataRev = None,
    out_folder: OutFolder = None,
    json_: Json = False,
) -> None:
    """Score and log one model: a recogniser on real recordings, a voice on prompts."""
    _, lab = open_lab()
    from pipelines.pinned import at_revision
    from pipelines.prepare import EvaluationRequest, begin_early, check_request

    lab = at_revision(lab, data_rev, tuple(corpus or ()), TerminalProgress().say)

    request = EvaluationRequest(
        model=model,
        corpora=tuple(corpus or ()),
        slices=tuple(slice_ or ()),
        limit=limit,
        device=device,
        compute_type=compute_type,
        normalizer=normalizer,
        task=task_named(task),
    )
    check_request(lab, request)

    def work() -> Evaluation:
        from pipelines.workers import WorkerPool

        begin_early(lab, request)
        try:
            with collector_paused():
                from flows.evaluate import evaluate as run

            return run(lab, request)
        finally:
            WorkerPool.discard()

    evaluation = run_watched(lab, work)
    if out_folder is not None:
        from pipelines.results import write_evaluation_results

        write_evaluation_results(evaluation, out_folder)
    if json_:
        print_json(evaluation)
        return
    from modellab.commands.show import show_evaluation

    show_evaluation(evaluation)


def compare(
    candidate: Model,
    against: Annotated[str, typer.Option("--against", help="A model, or `production`.")] = "production",
    corpus: Corpora = None,
    slice_: Slices = None,
    limit: Limit = None,
    device: Device = None,
    normalizer: NormalizerName = None,
    task: TaskName = None,
    data_rev: DataRev = None,
    out_folder: OutFolder = None,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 whatever the verdict.")] = False,
    json_: Json = False,
) -> None:
    """Compare a candidate with a baseline by the rules of params.yaml.

    Exits with 0 for pass, 1 for fail, 3 for inconclusive.
    """
    _, lab = open_lab()
    from pipelines.compare import ComparisonRequest, check_comparison
    from pipelines.pinned import at_revision

    lab = at_revision(lab, data_rev, tuple(corpus or ()), TerminalProgress().say)

    request = ComparisonRequest(
        candidate=candidate,
        baseline=against,
        corpora=tuple(corpus or ()),
        slices=tuple(slice_ or ()),
        limit=limit,
        device=device,
        normalizer=normalizer,
        task=task_named(task),
    )
    check_comparison(lab, request)

    def work() -> Comparison:
        with collector_paused():
            from flows.compare import compare as run

        return run(lab, request)

    comparison = run_watched(lab, work)
    if out_folder is not None:
        from pipelines.results import write_comparison_results

        write_comparison_results(comparison, out_folder)
    if json_:
        print_json(comparison)
    else:
        from modellab.commands.show import show_comparison

        show_comparison(comparison)
    raise typer.Exit(0 if exit_zero else EXIT_CODES[comparison.verdict])


def task_named(name: str | None) -> Task | None:
    """Take a task as typed.

    Raises:
        CardError: There is no such task.
    """
    if name is None:
        return None
    for task in get_args(Task):
        if name == task:
            known: Task = task
            return known
    raise CardError(*unknown_name("task", name, get_args(Task)))


def demo(
    voices: Annotated[bool, typer.Option("--voices", help="Compare two voices instead of two recognisers.")] = False,
    json_: Json = False,
) -> None:
    """Tell the whole story: may an 8-bit engine replace the reference implementation, or a new voice the old one?"""
    _, lab = open_lab()
    from pipelines.compare import ComparisonRequest

    story = VOICES if voices else RECOGNISERS
    request = ComparisonRequest(candidate=story.candidate, baseline=story.baseline, corpora=story.corpora)

    def work() -> Comparison:
        with collector_paused():
            from flows.compare import compare as run

        return run(lab, request)

    if not json_:
        err.print(story.question)
    comparison = run_watched(lab, work)
    from modellab.commands.ship import production_of, ship_winner, show_shipped, show_winner

    if json_:
        shipped = ship_winner(lab, comparison)
        print_json(comparison.model_dump(mode="json") | {"shipped": shipped.model_dump(mode="json")})
        raise typer.Exit(0 if shipped.passed else EXIT_CODES["fail"])
    from modellab.commands.show import show_comparison, show_evaluation

    for side in ("candidate", "baseline"):
        folder = lab.home.evaluations / comparison.evaluations[side]
        show_evaluation(Evaluation.model_validate_json((folder / "evaluation.json").read_text(encoding="utf-8")))
        out.print()
    show_comparison(comparison)
    show_winner(comparison, production_of(lab, "tts" if voices else "asr"))
    shipped = ship_winner(lab, comparison)
    show_shipped(shipped)
    if not shipped.passed:
        raise typer.Exit(EXIT_CODES["fail"])
    out.print("The demo ends with 0 whatever the verdict; `modellab compare` exits with 0, 1 or 3.", style="dim")


def report(
    run: Annotated[str, typer.Argument(help="A run's id, or the start of it; `latest` for the newest.")] = "latest",
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    json_: Json = False,
) -> None:
    """Print where the report of an evaluation or a comparison is."""
    _, lab = open_lab()
    found = find_report(run, [lab.home.evaluations, lab.home.comparisons])
    if json_:
        print_json({"run_id": found.parent.name, "report": str(found)})
    else:
        out.print(str(found), markup=False)
    if open_:
        webbrowser.open(found.as_uri())


def find_report(run: str, folders: list[Path]) -> Path:
    """Find a report by the start of its run's id.

    Raises:
        StateError: There is none, or the start fits several runs.
    """
    pages = [page for folder in folders for page in folder.glob("*/report.html")]
    if run == "latest" and pages:
        return max(pages, key=lambda page: page.stat().st_mtime)
    fitting = [page for page in pages if page.parent.name.startswith(run)]
    if not fitting:
        newest = sorted(pages, key=lambda page: -page.stat().st_mtime)[:8]
        raise StateError(*unknown_name("run", run, [page.parent.name for page in newest]))
    if len(fitting) > 1:
        raise StateError(f"{len(fitting)} runs begin with {run!r}.", "Give more characters of the id.")
    return fitting[0]
