"""`modellab corpus`: what test data there is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from modellab.commands.common import Json, open_lab
from modellab.console import out, print_json
from models.types import Record
from pipelines.corpus import Corpus, corpus_folder, corpus_tasks, list_corpora, read_corpus, slice_facets
from pipelines.prompts import PromptCorpus, read_prompts

app = typer.Typer(help="Test corpora under data/, versioned by DVC.", no_args_is_help=True)

VALUES_SHOWN = 12


class CorpusSummary(Record):
    """What a corpus holds: recordings to transcribe, or prompts to speak."""

    name: str
    tasks: tuple[str, ...]
    utterances: int | None
    """Recordings; None for prompts."""
    minutes: float | None
    """Their length; None for prompts."""
    speakers: int | None
    """Who is heard in them; None for prompts."""
    prompts: int | None
    """Prompts; None for recordings."""
    words: int | None
    """Words that are to be heard, as written; None for recordings."""
    languages: tuple[str, ...]
    normalizer: dict[str, int]
    """Preset → utterances or prompts that go through it."""
    slices: dict[str, dict[str, int]]
    """Key → value → utterances or prompts."""
    licences: dict[str, int]
    """Licence → utterances or prompts; the corpus's for prompts that name none."""
    description: str

    @property
    def size(self) -> str:
        """What there is, in words."""
        if self.prompts is not None:
            return f"{self.prompts} prompts, {self.words} words"
        return f"{self.utterances} utterances, {self.minutes:.1f} min, {self.speakers} speakers"


def summary_of(corpus: Corpus | PromptCorpus) -> CorpusSummary:
    """Count what a corpus holds."""
    recordings = corpus.utterances if isinstance(corpus, Corpus) else None
    prompts = corpus.prompts if isinstance(corpus, PromptCorpus) else None
    rows = recordings or prompts or ()
    licences = [corpus.config.licence if prompts and row.license == "unknown" else row.license for row in rows]
    slices: dict[str, Counter[str]] = {}
    for row in rows:
        for key, value in slice_facets(row).items():
            slices.setdefault(key, Counter())[value] += 1
    return CorpusSummary(
        name=corpus.name,
        tasks=corpus.config.tasks,
        utterances=None if recordings is None else len(recordings),
        minutes=None if recordings is None else round(sum(u.duration for u in recordings) / 60, 2),
        speakers=None if recordings is None else len({u.speaker for u in recordings}),
        prompts=None if prompts is None else len(prompts),
        words=None if prompts is None else sum(len(prompt.reference.split()) for prompt in prompts),
        languages=tuple(sorted({row.language for row in rows})),
        normalizer=dict(Counter(corpus.config.normalizers.of(row) for row in rows)),
        slices={key: dict(counts.most_common()) for key, counts in sorted(slices.items())},
        licences=dict(Counter(licences).most_common()),
        description=corpus.config.description.strip(),
    )


def summarize(name: str, data: Path) -> CorpusSummary:
    """Read a corpus of either kind and count what it holds; one for both tasks counts as recordings."""
    folder = corpus_folder(name, data)
    return summary_of(read_prompts(folder) if corpus_tasks(folder) == ("tts",) else read_corpus(folder))


@app.command("list")
def list_all(json_: Json = False) -> None:
    """List the corpora with their size."""
    _, lab = open_lab()
    # Made from others, such as degraded variants; one of the same name under data/ is the one that the name finds.
    derived = [name for name in list_corpora(lab.derived) if name not in list_corpora(lab.data)]
    rows = [summarize(name, lab.data) for name in [*list_corpora(lab.data), *derived]]
    if json_:
        print_json(rows)
        return
    if not rows:
        out.print(f"{lab.data} holds no corpora. Run `dvc pull` for the starter corpus.", markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("corpus", "utterances", "minutes", "speakers", "prompts", "words", "languages", "tasks"):
        table.add_column(
            heading, justify="left" if heading in ("corpus", "languages", "tasks") else "right", overflow="fold"
        )
    for row in rows:
        minutes = None if row.minutes is None else f"{row.minutes:.1f}"
        counts = (row.utterances, minutes, row.speakers, row.prompts, row.words)
        numbers = ("" if count is None else str(count) for count in counts)
        table.add_row(row.name, *numbers, ", ".join(row.languages), ", ".join(row.tasks))
    out.print(table)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A corpus by name or path.")],
    json_: Json = False,
) -> None:
    """Show what a corpus holds: slices, normalizers, licences."""
    _, lab = open_lab()
    row = summarize(name, lab.data)
    if json_:
        print_json(row)
        return
    out.print(f"[bold]{row.name}[/]  {row.size}; for {', '.join(row.tasks)}")
    out.print(row.description, markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("key", style="bold")
    table.add_column("values", overflow="fold")
    for key, counts in {**row.slices, "normalizer": row.normalizer, "licence": row.licences}.items():
        shown = [f"{value} ({count})" for value, count in list(counts.items())[:VALUES_SHOWN]]
        more = [f"and {len(counts) - VALUES_SHOWN} more"] if len(counts) > VALUES_SHOWN else []
        table.add_row(key, ", ".join(shown + more))
    out.print(table)


@app.command("power")
def power(
    name: Annotated[str, typer.Argument(help="A corpus by name or path.")],
    margin: Annotated[
        list[float] | None,
        typer.Option("--margin", min=0.0001, max=1, help="Difference to rule out, 0.01 for a point of WER; repeat."),
    ] = None,
    json_: Json = False,
) -> None:
    """Say the smallest WER difference a corpus can detect, and how much more data a margin needs."""
    _, lab = open_lab()
    from pipelines.policy import read_policy
    from pipelines.power import corpus_power

    folder = corpus_folder(name, lab.data)
    voices = corpus_tasks(folder) == ("tts",)
    report = corpus_power(folder, lab.home, read_policy(lab.params, "tts" if voices else "asr"), margin or ())
    if json_:
        print_json(report)
        return
    whole = "prompts with words" if voices else f"recordings of speech by {report.speakers} speakers"
    out.print(f"[bold]{report.corpus}[/]: {report.recordings} {whole}")
    if report.detectable is None:
        out.print(
            f"Nothing can be planned from so few {'prompts' if voices else 'speakers: add recordings of more people'}."
        )
        return
    out.print(
        f"It can detect a difference of {100 * report.detectable:.2g} points of {'round-trip ' * voices}WER "
        f"(one-sided level {report.alpha:g}, power {100 * report.power:.0f}%)."
    )
    for row in report.rows:
        people = "" if voices else f"{row.speakers_needed} speakers, "
        need = f"about {people}{row.recordings_needed} {'prompts' if voices else 'recordings'} like these"
        told = "enough" if row.enough else need if row.speakers_needed else "no plan can be made"
        place = "" if row.slice == "all" else f" on {row.slice} ({row.speakers} {'prompts' if voices else 'speakers'})"
        out.print(f"  a margin of {100 * row.margin:g} points{place}: {told}")
    out.print(f"Planned from {report.basis}.", style="dim")
