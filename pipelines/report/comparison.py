"""The page of a comparison: the verdict, why, every rule, and where the two models differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.decision import Comparison, Verdict
from pipelines.report import voices
from pipelines.report.audio import AudioEmbedder
from pipelines.report.cards import Recording, errors_text, heard, recording_facts
from pipelines.report.figures import Plot
from pipelines.report.formatting import (
    delta_text,
    direction_text,
    duration_text,
    metric_label,
    short_label,
)
from pipelines.report.page import Fact, render, settings_rows
from pipelines.report.rules import SEVERITY, rule_row, why
from pipelines.report.selection import ScorePair, headline_metric, most_different, paired
from pipelines.report.side import Side
from pipelines.report.tables import ABSENT, Cell, in_reading_order, level_text, metric_cell
from pipelines.types import Evaluation, MetricResult

_MEANING: dict[Verdict, str] = {
    "pass": "may replace",
    "fail": "must not replace",
    "inconclusive": "has not been shown fit to replace",
}


@dataclass(frozen=True, slots=True)
class PairRow:
    """One metric, or one slice, of both models side by side."""

    label: str
    key: str
    direction: str
    candidate: Cell
    baseline: Cell
    difference: Cell
    better: str
    """The better one in words; empty where that cannot be told."""
    n: int
    """Recordings behind the candidate's value, or the baseline's where it has none."""


def pair_row(name: str, ours: MetricResult | None, theirs: MetricResult | None, label: str, key: str = "") -> PairRow:
    """Put one metric of both models side by side; the difference is plain, without an interval of its own."""
    known = ours or theirs
    unit = known.unit if known else ""
    delta = None
    better = ""
    if ours and theirs and ours.value is not None and theirs.value is not None:
        delta = ours.value - theirs.value
        ahead = delta > 0 if ours.higher_is_better else delta < 0
        better = "equal" if delta == 0 else "candidate better" if ahead else "baseline better"
    return PairRow(
        label=label,
        key=key,
        direction=direction_text(known.higher_is_better) if known else "",
        candidate=metric_cell(name, ours, "Candidate"),
        baseline=metric_cell(name, theirs, "Baseline"),
        difference=Cell("Difference", ABSENT if delta is None else delta_text(name, unit, delta), "", delta),
        better=better,
        n=known.n if known else 0,
    )


def metric_rows(candidate: Evaluation, baseline: Evaluation) -> list[PairRow]:
    """Put all metrics side by side, those that people ask for first."""
    names = in_reading_order(dict.fromkeys([*candidate.metrics, *baseline.metrics]))
    return [pair_row(n, candidate.metrics.get(n), baseline.metrics.get(n), metric_label(n)) for n in names]


def slice_pair_rows(candidate: Evaluation, baseline: Evaluation, metric: str) -> list[PairRow]:
    """Put one metric of every slice side by side, also of slices that only one model has."""
    rows = []
    for name in dict.fromkeys([*candidate.slices, *baseline.slices]):
        key, _, value = name.partition("=")
        ours, theirs = candidate.slices.get(name, {}).get(metric), baseline.slices.get(name, {}).get(metric)
        rows.append(pair_row(metric, ours, theirs, value, key))
    return rows


def _recording(number: int, pair: ScorePair, comparison: Comparison, embedder: AudioEmbedder) -> Recording:
    return Recording(
        anchor=f"different-{number}",
        id=pair.candidate.id,
        facts=recording_facts(pair.candidate),
        clip=embedder.clip(pair.candidate.id),
        heard=(
            heard(pair.candidate, f"Candidate: {comparison.candidate}"),
            heard(pair.baseline, f"Baseline: {comparison.baseline}"),
        ),
        summary=errors_text(pair),
    )


def different_recordings(pairs: Sequence[ScorePair], comparison: Comparison, side: Side) -> list[Recording]:
    """Make a card of each recording on which the answers differ most."""
    embedder = AudioEmbedder(side.audio)
    return [_recording(i, pair, comparison, embedder) for i, pair in enumerate(most_different(pairs), start=1)]


def setting_pairs(candidate: Evaluation, baseline: Evaluation) -> dict[str, list[tuple[str, str, str]]]:
    """Put the settings of both side by side as (name, candidate's, baseline's), group by group."""
    ours, theirs = settings_rows(candidate), settings_rows(baseline)
    return {
        group: [
            (key, ours[group].get(key, "none"), theirs[group].get(key, "none"))
            for key in dict.fromkeys([*ours[group], *theirs[group]])
        ]
        for group in ours
    }


def facts(comparison: Comparison, pairs: Sequence[ScorePair], sides: tuple[Side, Side]) -> tuple[Fact, ...]:
    """Summarise what was compared."""
    words = sides[0].words
    different = sum(1 for pair in pairs if pair.errors_delta)
    unpaired = sum(len(side.scores) for side in sides) - 2 * len(pairs)
    tally = {verdict: sum(rule.verdict == verdict for rule in comparison.rules) for verdict in SEVERITY}
    listened = (
        voices.listening_facts(pairs, sides)
        if sides[0].is_voice
        else (Fact("Paired audio", duration_text(sum(pair.candidate.audio_s for pair in pairs))),)
    )
    return (
        Fact("Rules", str(len(comparison.rules)), ", ".join(f"{count} {verdict}" for verdict, count in tally.items())),
        Fact(f"Paired {words.items}", str(len(pairs)), f"{unpaired} without a partner", bool(unpaired)),
        *listened,
        Fact(f"{words.answers} that differ", str(different), "in the number of errors"),
    )


def render_comparison(comparison: Comparison, candidate: Side, baseline: Side, plots: Sequence[Plot] = ()) -> str:
    """Render a comparison as a self-contained HTML page.

    Args:
        comparison: The record to show.
        candidate: The candidate's part.
        baseline: The baseline's; two recognisers heard the same files, so the candidate's are played.
        plots: From `comparison_plots`.

    Returns:
        The page. The same input gives the same bytes.
    """
    ours, theirs, sides = candidate.evaluation, baseline.evaluation, (candidate, baseline)
    pairs = paired(candidate.scores, baseline.scores)
    headline = headline_metric(ours)
    rules = sorted(comparison.rules, key=lambda rule: SEVERITY[rule.verdict])
    values = {
        "comparison": comparison,
        "words": candidate.words,
        "meaning": _MEANING[comparison.verdict],
        "why": why(comparison, candidate.words),
        "facts": facts(comparison, pairs, sides),
        "rules": [rule_row(rule, ours, theirs) for rule in rules],
        "plots": plots,
        "metric_rows": metric_rows(ours, theirs),
        "slice_rows": slice_pair_rows(ours, theirs, headline) if headline else [],
        "level": level_text(ours),
        "slice_metric": short_label(headline) if headline else "",
        "different_total": sum(1 for pair in pairs if pair.errors_delta),
        "settings": setting_pairs(ours, theirs),
    }
    if not candidate.is_voice:
        return render("comparison.html", values | {"different": different_recordings(pairs, comparison, candidate)})
    return render("comparison_voice.html", values | voices.comparison_values(pairs, sides))
