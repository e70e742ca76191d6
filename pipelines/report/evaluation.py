"""The page of one evaluation: what was measured, how sure that is, where it goes wrong, and what it was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pipelines.report import voices
from pipelines.report.audio import AudioEmbedder, Clip
from pipelines.report.cards import Recording, heard, recording_facts
from pipelines.report.figures import Plot
from pipelines.report.formatting import (
    count_text,
    duration_text,
    interval_text,
    metric_label,
    plain,
    value_text,
)
from pipelines.report.page import Fact, render, selection_text, settings_rows
from pipelines.report.selection import headline_metrics, invented_words, worst_recordings
from pipelines.report.side import Prompted, Side
from pipelines.report.tables import level_text, loss_rows, metric_rows, slice_columns, slice_table
from pipelines.scores import UtteranceScore
from pipelines.types import Evaluation, Suspect


@dataclass(frozen=True, slots=True)
class Headline:
    """The number a page opens with."""

    label: str
    value: str
    interval: str
    level: str
    note: str


@dataclass(frozen=True, slots=True)
class SuspectRow:
    """A reference to look at, with its recording."""

    suspect: Suspect
    clip: Clip


def headlines(evaluation: Evaluation) -> list[Headline]:
    """Describe the numbers a page opens with; none when there are no metrics."""
    return [
        Headline(
            label=metric_label(name),
            value=value_text(name, metric.unit, metric.value),
            interval=interval_text(name, metric.unit, metric.ci_low, metric.ci_high),
            level=f"{metric.level:.0%} interval",
            note=metric.note or "",
        )
        for name, metric in ((name, evaluation.metrics[name]) for name in headline_metrics(evaluation))
    ]


def left_out_fact(side: Side) -> Fact:
    """Say how many items were left out, loudly when there are any."""
    evaluation = side.evaluation
    bad, unsupported = len(evaluation.quarantined), sum(evaluation.unsupported.values())
    parts = []
    if bad:
        parts.append(f"{bad} quarantined")
    if unsupported:
        parts.append(f"{unsupported} in languages the model does not claim ({', '.join(sorted(evaluation.unsupported))})")
    return Fact("Left out", str(bad + unsupported), "; ".join(parts) or f"every {side.words.item} counts", bool(parts))


def facts(side: Side) -> tuple[Fact, ...]:
    """Summarise what was evaluated: items, audio, who speaks or what was refused, and what was left out."""
    evaluation, scores, words = side.evaluation, side.scores, side.words
    silent = sum(not score.is_speech for score in scores)
    audio_s = sum(score.audio_s for score in scores) if scores else evaluation.timings.audio_s
    with_words = "all with words" if side.is_voice else "all speech"
    return (
        Fact(
            words.items.capitalize(), str(len(scores)), f"{silent} of them {words.without_words}" if silent else with_words
        ),
        Fact("Audio", duration_text(audio_s), count_text(len({s.language for s in scores}), "language")),
        voices.refused_fact(side) if side.is_voice else speakers_fact(scores),
        left_out_fact(side),
    )


def speakers_fact(scores: Sequence[UtteranceScore]) -> Fact:
    """Say how many people speak in the recordings."""
    speakers = {score.speaker for score in scores} - {"unknown", "none", ""}
    return Fact("Speakers", str(len(speakers)), "named in the manifest")


def timing_facts(side: Side) -> tuple[Fact, ...]:
    """Say what the evaluation itself cost."""
    timings, words = side.evaluation.timings, side.words
    layout = f"{count_text(timings.workers, 'worker')}, {count_text(timings.threads, 'thread')} each"
    pace = f"{plain(timings.wall_s / timings.audio_s)} s per second of audio" if timings.audio_s else "no audio"
    return (
        Fact("Wall time", duration_text(timings.wall_s), pace),
        Fact(f"Fresh {words.work}", duration_text(timings.inference_s), "summed over workers"),
        Fact(words.results.capitalize(), f"{timings.inferred} new", f"{timings.reused} reused, which enter no speed metric"),
        Fact("Layout", layout, ""),
    )


def suspect_rows(evaluation: Evaluation, scores: Sequence[UtteranceScore], embedder: AudioEmbedder) -> list[SuspectRow]:
    """Pair each suspect reference with its recording, found by id with or without the corpus before it."""
    full_ids = {score.id.rpartition("/")[2]: score.id for score in scores}
    return [SuspectRow(s, embedder.clip(full_ids.get(s.id, s.id))) for s in evaluation.suspect_references]


def recordings(scores: Sequence[UtteranceScore], embedder: AudioEmbedder, prefix: str) -> list[Recording]:
    """Make a card of each recording; their audio takes from the page's budget in this order."""
    return [
        Recording(f"{prefix}-{number}", score.id, recording_facts(score), embedder.clip(score.id), (heard(score),))
        for number, score in enumerate(scores, start=1)
    ]


def render_evaluation(
    evaluation: Evaluation,
    scores: Sequence[UtteranceScore],
    audio: Mapping[str, Path],
    plots: Sequence[Plot] = (),
    prompts: Mapping[str, Prompted] = MappingProxyType({}),
) -> str:
    """Render one evaluation as a self-contained HTML page.

    Args:
        evaluation: The record to show.
        scores: One score an utterance, in any order; the page orders what it lists.
        audio: Utterance id → file; read now, within a budget. A file that cannot be read is named, and no error.
        plots: From `evaluation_plots`; drawn once, for this page and for whoever else shows them.
        prompts: Of a voice: item's id → what it was given.

    Returns:
        The page. The same input gives the same bytes.
    """
    side = Side(evaluation, scores, audio, prompts)
    main_columns, more_columns = slice_columns(evaluation)
    return render(
        "evaluation_voice.html" if side.is_voice else "evaluation.html",
        {
            "evaluation": evaluation,
            "words": side.words,
            "headlines": headlines(evaluation),
            "facts": facts(side),
            "left_out": left_out_fact(side),
            "selection": selection_text(evaluation),
            "metric_rows": metric_rows(evaluation),
            "slices": slice_table(evaluation, main_columns),
            "losses": loss_rows(evaluation),
            "level": level_text(evaluation),
            "more_slices": slice_table(evaluation, more_columns),
            "plots": plots,
            "silent": sum(1 for s in scores if not s.is_speech),
            "timings": timing_facts(side),
            "settings": settings_rows(evaluation),
            **(voices.evaluation_values(side) if side.is_voice else recogniser_values(side)),
        },
    )


def recogniser_values(side: Side) -> dict[str, object]:
    """Say what only the page of a recogniser shows: what it heard in recordings."""
    embedder = AudioEmbedder(side.audio)
    # The recordings come before the suspects: where the budget ends, the worst errors keep their audio.
    spoken = [score for score in side.scores if score.is_speech]
    return {
        "spoken": len(spoken),
        "wrong": sum(1 for score in spoken if score.words.errors),
        "worst": recordings(worst_recordings(side.scores), embedder, "worst"),
        "invented": recordings(invented_words(side.scores), embedder, "invented"),
        "suspects": suspect_rows(side.evaluation, side.scores, embedder),
    }
