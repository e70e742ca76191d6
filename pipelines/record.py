"""Writing an evaluation down: Parquet for machines, JSON for the command line, HTML for people, and MLflow's run."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from models.collector import collector_paused
from models.errors import LabError
from pipelines import tracking
from pipelines.confidence import calibrate, calibration_metrics, keep_map
from pipelines.dataversion import version_of
from pipelines.evaluate import Evaluated, Gathered, conclude, fingerprint_of, item_id, score
from pipelines.home import write_atomically
from pipelines.inference import ShardResult
from pipelines.lab import Lab
from pipelines.policy import Policy
from pipelines.prepare import Prepared
from pipelines.report.figures import Plot, drawing_of, warm_up
from pipelines.report.plots import evaluation_plots
from pipelines.scores import UtteranceScore
from pipelines.suspects import suspect_references
from pipelines.types import Evaluation, EvaluationFingerprint, Prediction, Suspect
from pipelines.validate.attach import with_validations
from pipelines.witnesses import weights_group, witnesses
from pipelines.workers import WorkerPool

Mapped = Callable[[Callable[[Plot], Markup], Iterable[Plot]], Iterable[Markup]]


def preload(lab: Lab) -> None:
    """Import what scoring and logging need, and open MLflow's store; run it in a thread while the workers infer.

    It takes seconds, and nothing waits for it: what it did not finish is done when it is needed, and errors come up there.
    """
    with collector_paused():
        import scipy.optimize  # noqa: F401

        import pipelines.report.evaluation  # noqa: F401
        from pipelines.report.page import compile_template

    compile_template("evaluation.html")
    version_of(lab)
    with contextlib.suppress(LabError):
        tracking.preload(lab)


def preload_with_drawing(lab: Lab) -> None:
    """Do `preload`, and import what draws; for an evaluation whose plots are not drawn by workers."""
    warm_up()
    preload(lab)


def prepare_to_draw(lab: Lab, pool: WorkerPool) -> None:
    """Let each worker import what draws when it has no more to infer, beside what comes before the plots."""
    pool.map(warm_up, range(lab.layout.workers))


def record_evaluation(
    lab: Lab,
    prepared: Prepared,
    gathered: Gathered,
    results: Sequence[ShardResult[Prediction]],
    policy: Policy,
    started: float,
    mapped: Mapped = map,
) -> Evaluated:
    """Score, measure, and write everything into the run's folder and MLflow.

    Args:
        lab: Where to write.
        prepared: The request, resolved.
        gathered: Usable predictions.
        results: Of the shards inferred in this run.
        policy: Gives level, resamples and seed of the intervals.
        started: ``time.perf_counter()`` when the evaluation began.
        mapped: Draws plots: the builtin here, or `WorkerPool.map` in workers that are idle.

    Raises:
        CorpusError: Nothing is left to score.
        StateError: MLflow or the home cannot be written.
    """
    scores = score(gathered)
    fingerprint = fingerprint_of(prepared, gathered, version_of(lab))
    calibration = calibrate(gathered, scores)
    if not prepared.request.selection:
        # A part of the data, or another normalizer, must not replace what all of it taught.
        keep_map(lab.home, prepared.fingerprint.digest, calibration)
    client = tracking.connect(lab)
    with tracking.tracked_run(client, lab, tracking.EVALUATIONS, prepared.card.name) as run_id:
        folder = lab.home.evaluations / run_id
        evaluation = conclude(
            lab,
            prepared,
            gathered,
            scores,
            results,
            policy,
            fingerprint=fingerprint,
            more_metrics=calibration_metrics(calibration),
            suspects=find_suspects(lab, prepared, fingerprint, scores),
            unsupported=[item.utterance.language for item in prepared.selection.unsupported],
            run_id=run_id,
            folder=folder,
            wall_s=time.perf_counter() - started,
        )
        evaluation = with_validations(lab.home, evaluation, folder)
        plots = evaluation_plots(evaluation, scores, calibration)
        drawings = mapped(drawing_of, plots)
        write_predictions(Path(evaluation.predictions), gathered, scores)
        write_atomically(folder / "evaluation.json", evaluation.model_dump_json(indent=2))
        write_atomically(folder / "calibration.json", calibration.model_dump_json(indent=1))
        tracking.log_evaluation(client, evaluation, gathered.items)
        for plot, drawing in zip(plots, drawings, strict=True):
            plot.keep(drawing)
        write_report(evaluation, scores, gathered, plots)
        client.log_artifacts(run_id, str(folder))
    return Evaluated(evaluation, scores, prepared, gathered)


def find_suspects(
    lab: Lab, prepared: Prepared, fingerprint: EvaluationFingerprint, scores: Sequence[UtteranceScore]
) -> list[Suspect]:
    """List references that this model and earlier ones, of other weights, agree against."""
    model = prepared.card.name
    others = witnesses(lab.home, fingerprint, model)
    heard = {model: scores, **{witness.evaluation.model: witness.scores for witness in others}}
    cards = lab.cards()
    return suspect_references(heard, {name: weights_group(name, cards) for name in heard})


def write_report(
    evaluation: Evaluation, scores: Sequence[UtteranceScore], gathered: Gathered, plots: Sequence[Plot]
) -> None:
    """Write the page, and its plots beside it for MLflow's artifact view."""
    from pipelines.report.evaluation import render_evaluation

    audio = {item_id(item): item.path for item in gathered.items}
    page = Path(evaluation.report)
    write_atomically(page, render_evaluation(evaluation, scores, audio, plots))
    write_plots(plots, page.parent)


def write_plots(plots: Sequence[Plot], folder: Path) -> None:
    """Write each plot as a file of its own into ``plots/``."""
    for plot in plots:
        write_atomically(folder / "plots" / f"{plot.name}.svg", plot.file())


def write_predictions(path: Path, gathered: Gathered, scores: Sequence[UtteranceScore]) -> None:
    """Write one row an utterance: what was said, what was heard, and every count."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for item, scored in zip(gathered.items, scores, strict=True):
        prediction = gathered.predictions[scored.id]
        rows.append(
            {
                "id": item.utterance.id,
                "corpus": item.corpus,
                "audio_filepath": item.utterance.audio_filepath,
                "audio_sha256": item.audio_sha256,
                "audio_s": scored.audio_s,
                "language": scored.language,
                "speaker": scored.speaker,
                "tags": json.dumps(dict(scored.tags), ensure_ascii=False, sort_keys=True),
                "normalizer": scored.normalizer,
                "reference": scored.reference,
                "hypothesis": scored.hypothesis,
                "normalized_reference": scored.normalized_reference,
                "normalized_hypothesis": scored.normalized_hypothesis,
                "hits": scored.words.hits,
                "substitutions": scored.words.substitutions,
                "deletions": scored.words.deletions,
                "insertions": scored.words.insertions,
                "character_errors": scored.characters.errors,
                "reference_characters": scored.characters.reference_length,
                "confidence": scored.confidence,
                "inference_s": scored.inference_s,
                "first_audio_s": scored.first_audio_s,
                "measures": json.dumps(dict(scored.measures), sort_keys=True),
                "transcript": prediction.transcript.model_dump_json(),
            }
        )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())
