"""The plots of a comparison: the difference by slice against the margin, and recording by recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipelines.decision import Comparison, RuleResult
from pipelines.report.figures import Palette, Plot
from pipelines.report.formatting import count_text, delta_text, metric_label, short_label
from pipelines.report.rows import Row, draw_intervals, label_rows, percent_axis, rows_height_in, whole_numbers
from pipelines.report.selection import ScorePair, headline_metric, paired, slice_groups, word_error_rate
from pipelines.report.wording import RECORDINGS, Words, words_of
from pipelines.scores import UtteranceScore
from pipelines.types import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRED_KINDS = ("non_inferiority", "superiority")
"""Kinds of rule whose delta is a difference in the metric's own unit."""

Delta = tuple[float, float | None, float | None]
"""Candidate minus baseline with its interval; without one where no rule judges the slice."""


def paired_deltas(comparison: Comparison, candidate: Evaluation, baseline: Evaluation, metric: str) -> dict[str, Delta]:
    """Collect the difference of every slice: from the rules with intervals, from the evaluations without."""
    deltas: dict[str, Delta] = {}
    both = {"all": (candidate.metrics, baseline.metrics)}
    both |= {name: (candidate.slices[name], baseline.slices[name]) for name in candidate.slices if name in baseline.slices}
    for name, (ours, theirs) in both.items():
        if metric in ours and metric in theirs:
            mine, other = ours[metric].value, theirs[metric].value
            if mine is not None and other is not None:
                deltas[name] = (mine - other, None, None)
    for rule in _paired_rules(comparison, metric):
        if rule.delta is not None:
            deltas[rule.slice] = (rule.delta, rule.ci_low, rule.ci_high)
    return deltas


def _paired_rules(comparison: Comparison, metric: str) -> list[RuleResult]:
    return [rule for rule in comparison.rules if rule.metric == metric and rule.kind in PAIRED_KINDS]


def _rows(candidate: Evaluation, deltas: Mapping[str, Delta], metric: str) -> list[Row]:
    rows: list[Row] = [(f"all {words_of(candidate.task).items}", "all")] if "all" in deltas else []
    for group in slice_groups(candidate.slices, metric):
        ranked = sorted((name for name in group.names if name in deltas), key=lambda name: (-deltas[name][0], name))
        if ranked:
            rows += [(group.key, None), *((name.partition("=")[2] or name, name) for name in ranked)]
    return rows


def _draw_deltas(
    axes: Axes,
    palette: Palette,
    rows: Sequence[Row],
    deltas: Mapping[str, Delta],
    margins: Mapping[str, float],
    label: str,
    percent: bool,
) -> None:
    draw_intervals(axes, palette, rows, deltas)
    label_rows(axes, palette, rows)
    for y, (_, name) in enumerate(rows):
        if name is not None and name in margins:
            # A tick per row: rules of different slices may have different margins.
            axes.plot([margins[name]] * 2, [y - 0.42, y + 0.42], color=palette.deletion, linewidth=1.8)
    axes.axvline(0.0, color=palette.ink, linewidth=0.8)
    shown = [deltas[name] for _, name in rows if name is not None]
    ends = [abs(end) for delta in shown for end in delta if end is not None] + [abs(m) for m in margins.values()]
    points = [abs(delta[0]) for delta in shown] + [abs(m) for m in margins.values()]
    # A slice of a few words must not squeeze all others into a line.
    reach = 1.08 * min(max(ends, default=0.0), 2.0 * max(points, default=0.0)) or 0.01
    axes.set_xlim(-reach, reach)
    if percent:
        percent_axis(axes, "x", symbol="")
    axes.set_xlabel(label)


def plot_deltas(comparison: Comparison, candidate: Evaluation, baseline: Evaluation) -> Plot | None:
    """Draw candidate minus baseline by slice, with the rules' margins; None where nothing can be subtracted."""
    metric = headline_metric(candidate)
    if metric is None:
        return None
    deltas = paired_deltas(comparison, candidate, baseline, metric)
    rows = _rows(candidate, deltas, metric)
    if not rows:
        return None
    overall, unit = candidate.metrics[metric], candidate.metrics[metric].unit
    # A margin is the harm that does not matter: to the right of zero where less is better, else to the left.
    harm = -1.0 if overall.higher_is_better else 1.0
    margins = {r.slice: harm * abs(r.margin) for r in _paired_rules(comparison, metric) if r.margin is not None}
    better = "right" if overall.higher_is_better else "left"
    total = delta_text(metric, unit, deltas["all"][0]) if "all" in deltas else "not measured"
    unit_word = "percentage points" if unit == "ratio" else unit
    return Plot(
        name="delta_by_slice",
        title=f"Difference in {short_label(metric)} by slice",
        alt=(
            f"{metric_label(metric)} of the candidate minus the baseline, by slice. "
            f"Over all {words_of(candidate.task).items}: {total}. "
            f"{count_text(len(margins), 'slice')} with a margin."
        ),
        caption=(
            f"The candidate is better to the {better} of zero. Filled: paired difference with its interval, where a "
            f"rule judges the slice; hollow: plain difference. Upright bar: the margin of the rule."
        ),
        height_in=rows_height_in(rows),
        by_slice=True,
        draw=partial(
            _draw_deltas,
            rows=rows,
            deltas=deltas,
            margins=margins,
            label=f"Candidate minus baseline ({unit_word})",
            percent=unit == "ratio",
        ),
    )


def _draw_scatter(axes: Axes, palette: Palette, points: Sequence[tuple[float, float]]) -> None:
    counted = Counter(points)
    sizes = [16 + 10 * (count - 1) ** 0.8 for count in counted.values()]
    reach = 1.05 * max([1e-2, *(max(point) for point in points)])
    axes.plot([0, reach], [0, reach], color=palette.muted, linewidth=0.8, linestyle=(0, (3, 2)))
    x, y = zip(*counted, strict=True)
    axes.scatter(x, y, s=sizes, color=palette.accent, alpha=0.6, linewidths=0, clip_on=False, zorder=3)
    axes.set_xlim(0, reach)
    axes.set_ylim(0, reach)
    axes.grid(color=palette.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    percent_axis(axes, "x")
    percent_axis(axes, "y")
    axes.set_xlabel("Word error rate of the baseline (%)")
    axes.set_ylabel("Word error rate of the candidate (%)")


def plot_scatter(pairs: Sequence[ScorePair], words: Words = RECORDINGS) -> Plot | None:
    """Draw each item's WER of the candidate over that of the baseline; None without shared speech."""
    points = [
        (x, y)
        for x, y in ((word_error_rate(pair.baseline), word_error_rate(pair.candidate)) for pair in pairs)
        if x is not None and y is not None
    ]
    if not points:
        return None
    better, worse = sum(y < x for x, y in points), sum(y > x for x, y in points)
    tally = f"better on {better}, worse on {worse}, equal on {len(points) - better - worse}"
    return Plot(
        name="wer_candidate_against_baseline",
        title=f"{words.item.capitalize()} by {words.item}",
        alt=f"Word error rate of candidate over baseline, {len(points)} {words.items}: the candidate is {tally}.",
        caption=f"Below the diagonal the candidate is better. It is {tally}. Larger points are several {words.items}.",
        height_in=3.3,
        draw=partial(_draw_scatter, points=points),
    )


def _draw_differences(axes: Axes, palette: Palette, differences: Sequence[int], words: Words) -> None:
    heights = np.asarray(differences)
    xs = np.arange(1, len(heights) + 1)
    axes.bar(xs[heights > 0], heights[heights > 0], color=palette.substitution, width=0.8, hatch="/////", linewidth=0)
    axes.bar(xs[heights < 0], heights[heights < 0], color=palette.accent, width=0.8)
    axes.axhline(0.0, color=palette.ink, linewidth=0.8)
    axes.grid(axis="y", color=palette.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlim(0.3, len(heights) + 0.7)
    whole_numbers(axes, "x")
    whole_numbers(axes, "y")
    axes.set_xlabel(f"{words.items.capitalize()} that differ, from worst to best (rank)")
    axes.set_ylabel("Errors more or fewer (words)")


def plot_differences(pairs: Sequence[ScorePair], words: Words = RECORDINGS) -> Plot | None:
    """Draw the errors that the candidate makes more or fewer, item by item; None where none differ.

    Items without speech are left out, as of the word error rate: hundreds of words invented in one would hide the rest.
    """
    spoken = [pair for pair in pairs if pair.candidate.is_speech]
    differences = sorted((pair.errors_delta for pair in spoken if pair.errors_delta), reverse=True)
    if not differences:
        return None
    more, fewer = sum(d for d in differences if d > 0), -sum(d for d in differences if d < 0)
    return Plot(
        name="errors_candidate_minus_baseline",
        title="Errors gained and lost",
        alt=(
            f"Errors of the candidate minus the baseline on the {len(differences)} {words.items} that differ: "
            f"{more} more in total where worse, {fewer} fewer in total where better."
        ),
        caption=(
            f"{count_text(len(differences), words.item)} of {len(spoken)} with words differ. Hatched, upwards: "
            f"{count_text(more, 'error')} more. Plain, downwards: {count_text(fewer, 'error')} fewer."
        ),
        height_in=3.3,
        draw=partial(_draw_differences, differences=differences, words=words),
    )


def comparison_plots(
    comparison: Comparison,
    candidate: Evaluation,
    baseline: Evaluation,
    candidate_scores: Sequence[UtteranceScore],
    baseline_scores: Sequence[UtteranceScore],
) -> tuple[Plot, ...]:
    """Make the plots of a comparison, those whose data exist, in the order of the page."""
    pairs, words = paired(candidate_scores, baseline_scores), words_of(candidate.task)
    plots = (plot_deltas(comparison, candidate, baseline), plot_scatter(pairs, words), plot_differences(pairs, words))
    return tuple(plot for plot in plots if plot is not None)
