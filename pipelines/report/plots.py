"""The plots of an evaluation. Each is a `Plot`: an SVG for the page, a PNG for MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipelines.calibration import CalibrationReport
from pipelines.report.figures import NARROW_WIDTH_IN, WIDTH_IN, Palette, Plot
from pipelines.report.formatting import metric_label, metric_text, plain, short_label, value_text
from pipelines.report.reliability import plot_reliability
from pipelines.report.rows import (
    Row,
    draw_intervals,
    label_rows,
    left_out_text,
    log_axis,
    percent_axis,
    rows_height_in,
    slice_rows,
    whole_numbers,
)
from pipelines.report.selection import headline_metric, slice_groups, slice_scores, word_error_rate
from pipelines.report.wording import RECORDINGS, Words, words_of
from pipelines.scores import UtteranceScore
from pipelines.types import Evaluation, MetricResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _draw_forest(
    axes: Axes, palette: Palette, rows: Sequence[Row], results: Mapping[str, MetricResult], overall: MetricResult, name: str
) -> None:
    points = {key: (r.value, r.ci_low, r.ci_high) for key, r in results.items() if r.value is not None}
    draw_intervals(axes, palette, rows, points)
    label_rows(axes, palette, rows)
    if overall.value is not None:
        axes.axvline(overall.value, color=palette.muted, linewidth=0.8, linestyle=(0, (3, 2)))
    top = max(value for value, _, _ in points.values())
    reach = max([top, *(high for _, _, high in points.values() if high is not None)])
    # A slice of a few words has an interval of hundreds of percent, which would squeeze all others into a line.
    axes.set_xlim(0, 1.04 * min(reach, max(1.5 * top, overall.value or 0.0)) or 0.01)
    if overall.unit == "ratio":
        percent_axis(axes, "x")
        axes.set_xlabel(f"{metric_label(name)} (%)")
    else:
        axes.set_xlabel(f"{metric_label(name)} ({overall.unit})")


def plot_slices(evaluation: Evaluation) -> Plot | None:
    """Draw the headline metric by slice with intervals; None where no slice measured it."""
    name = headline_metric(evaluation)
    if name is None:
        return None
    groups = slice_groups(evaluation.slices, name)
    rows = slice_rows(groups)
    results = {key: evaluation.slices[key][name] for _, key in rows if key is not None}
    if not results:
        return None
    overall, words = evaluation.metrics[name], words_of(evaluation.task)
    worst = "; ".join(f"{group.names[0]} {metric_text(name, results[group.names[0]])}" for group in groups)
    return Plot(
        name="metric_by_slice",
        title=f"{short_label(name)} by slice",
        alt=f"{metric_label(name)} of each slice with its interval. Worst of each kind: {worst}.",
        caption=(
            f"Point and {overall.level:.0%} interval; hollow where there is no interval. Dashed: all {words.items}, "
            f"{value_text(name, overall.unit, overall.value)}.{left_out_text(groups)}"
        ),
        height_in=rows_height_in(rows),
        by_slice=True,
        draw=partial(_draw_forest, rows=rows, results=results, overall=overall, name=name),
    )


Composition = tuple[float, float, float]
"""Substitutions, deletions and insertions over reference words."""


def _composition(scores: Iterable[UtteranceScore]) -> Composition | None:
    counts = [score.words for score in scores if score.is_speech]
    words = sum(count.reference_length for count in counts)
    if not words:
        return None
    kinds = ("substitutions", "deletions", "insertions")
    parts = [sum(getattr(count, kind) for count in counts) / words for kind in kinds]
    return parts[0], parts[1], parts[2]


def _draw_composition(axes: Axes, palette: Palette, rows: Sequence[Row], parts: Mapping[str, Composition]) -> None:
    # Hatches tell the three apart without colour, as the alignment's marks do.
    styles = (
        ("substitutions", palette.substitution, ""),
        ("deletions", palette.deletion, "/////"),
        ("insertions", palette.insertion, "....."),
    )
    lines = [(y, parts[name]) for y, (_, name) in enumerate(rows) if name is not None and name in parts]
    start = np.zeros(len(lines))
    for index, (label, colour, hatch) in enumerate(styles):
        width = np.asarray([values[index] for _, values in lines])
        ys = [y for y, _ in lines]
        axes.barh(ys, width, left=start, height=0.62, color=colour, hatch=hatch, label=label, linewidth=0)
        start = start + width
    label_rows(axes, palette, rows)
    percent_axis(axes, "x")
    axes.set_xlim(0, 1.04 * float(start.max(initial=0.0)) or 0.01)
    axes.set_xlabel("Errors per reference word (%)")
    figure = axes.get_figure()
    if figure is not None:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8, handlelength=1.4)


def plot_composition(evaluation: Evaluation, scores: Sequence[UtteranceScore]) -> Plot | None:
    """Draw substitutions, deletions and insertions by slice; None without speech."""
    words = words_of(evaluation.task)
    groups = slice_groups(evaluation.slices, headline_metric(evaluation) or "")
    parts: dict[str, Composition] = {}
    for name in (name for group in groups for name in group.names):
        found = _composition(slice_scores(scores, name))
        if found is not None:
            parts[name] = found
    overall = _composition(scores)
    if overall is None:
        return None
    rows: list[Row] = [(f"all {words.items}", "all"), *slice_rows(groups)]
    substitutions, deletions, insertions = (f"{100 * part:.1f}%" for part in overall)
    return Plot(
        name="error_composition",
        title="What the errors are",
        alt=(
            f"Errors per reference word by kind and slice. Over all {words.items}: substitutions {substitutions}, "
            f"deletions {deletions}, insertions {insertions}."
        ),
        caption="Substituted, missed and invented words over reference words; slices in the order of the plot before.",
        height_in=rows_height_in(rows) + 0.25,
        by_slice=True,
        draw=partial(_draw_composition, rows=rows, parts={"all": overall, **parts}),
    )


def _draw_speed(axes: Axes, palette: Palette, factors: Sequence[float], words: Words) -> None:
    axes.hist(factors, bins=min(24, max(6, len(factors) // 3)), color=palette.accent, rwidth=0.92)
    axes.axvline(float(np.median(factors)), color=palette.ink, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.grid(axis="y", color=palette.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{words.work.capitalize()} over audio (\N{MULTIPLICATION SIGN} real time)")
    axes.set_ylabel(f"{words.items.capitalize()} (count)")
    whole_numbers(axes, "y")


def plot_speed(scores: Sequence[UtteranceScore], words: Words = RECORDINGS) -> Plot | None:
    """Draw the real-time factor of what was computed in this run; None when everything came from the store."""
    factors = [s.inference_s / s.audio_s for s in scores if s.inference_s is not None and s.audio_s > 0]
    if not factors:
        return None
    median, slowest = plain(float(np.median(factors))), plain(max(factors))
    return Plot(
        name="real_time_factor",
        title=f"Speed of fresh {words.works}",
        alt=(
            f"Histogram of the real-time factor of {len(factors)} fresh {words.works}: median {median}, slowest {slowest} "
            f"seconds of {words.work} per second of audio."
        ),
        caption=f"{len(factors)} of {len(scores)} {words.results} were computed in this run. Dashed: the median, {median}.",
        height_in=2.3,
        width_in=NARROW_WIDTH_IN,
        draw=partial(_draw_speed, factors=factors, words=words),
    )


SPREAD_FOR_LOG = 12
"""Longest over shortest from which lengths are drawn on a logarithmic axis: else the short ones are one column."""


def _draw_rate(axes: Axes, palette: Palette, x: Sequence[float], y: Sequence[float], x_label: str) -> None:
    axes.scatter(x, y, s=20, color=palette.accent, alpha=0.55, linewidths=0)
    axes.grid(color=palette.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_ylim(bottom=-0.02 * max([1.0, *y]))
    percent_axis(axes, "y")
    if min(x) > 0 and max(x) > SPREAD_FOR_LOG * min(x):
        log_axis(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel("Word error rate (%)")


def plot_rate_against(scores: Sequence[UtteranceScore], against: str, words: Words = RECORDINGS) -> Plot | None:
    """Draw each item's WER over its ``duration`` or the engine's ``confidence``; None below three points."""
    confident = against == "confidence"
    points = [(score.confidence if confident else score.audio_s, word_error_rate(score), score.id) for score in scores]
    known = [(x, y, name) for x, y, name in points if x is not None and y is not None]
    if len(known) < 3:
        return None
    worst = max(known, key=lambda point: (point[1], point[2]))
    x_label = "Confidence of the engine (0 to 1)" if confident else f"Length of the {words.sound} (s)"
    return Plot(
        name=f"wer_against_{against}",
        title=f"WER against {'confidence' if confident else 'length'}",
        alt=(
            f"Word error rate of {len(known)} {words.items} over {x_label.lower()}. "
            f"The worst, {worst[2]}, has {100 * worst[1]:.1f}% at {plain(worst[0])}."
        ),
        caption=f"One point a {words.item} with words." + (" Confidence ranks, it is not calibrated." if confident else ""),
        height_in=2.3,
        width_in=NARROW_WIDTH_IN,
        draw=partial(_draw_rate, x=[x for x, _, _ in known], y=[y for _, y, _ in known], x_label=x_label),
    )


def evaluation_plots(
    evaluation: Evaluation, scores: Sequence[UtteranceScore], calibration: CalibrationReport | None = None
) -> tuple[Plot, ...]:
    """Make the plots of an evaluation, those whose data exist, in the order of the page."""
    words = words_of(evaluation.task)
    plots = (
        plot_slices(evaluation),
        plot_composition(evaluation, scores),
        plot_reliability(calibration),
        plot_rate_against(scores, "confidence", words),
        plot_rate_against(scores, "duration", words),
        plot_speed(scores, words),
    )
    found = [plot for plot in plots if plot is not None]
    narrow = [plot for plot in found if not plot.by_slice]
    # Only three share a row; two take half of it each, where narrow ones would be blown up.
    return tuple(found if len(narrow) == 3 else (replace(plot, width_in=WIDTH_IN) for plot in found))
