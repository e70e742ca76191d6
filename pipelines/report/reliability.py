"""The reliability diagram: how often words are right for the confidence the engine gave them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipelines.calibration import CalibrationReport, ReliabilityBin
from pipelines.report.figures import NARROW_WIDTH_IN, Palette, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _points(axes: Axes, bins: Sequence[ReliabilityBin], colour: str, marker: str, label: str) -> None:
    x = [bin_.mean_confidence for bin_ in bins]
    y = [bin_.accuracy for bin_ in bins]
    # Wilson's interval need not reach around the share itself where all or none are right.
    below = [max(0.0, bin_.accuracy - bin_.ci_low) for bin_ in bins]
    above = [max(0.0, bin_.ci_high - bin_.accuracy) for bin_ in bins]
    axes.errorbar(x, y, yerr=[below, above], fmt=marker, ms=4, lw=0.8, color=colour, ecolor=colour, label=label)


def _draw(axes: Axes, palette: Palette, report: CalibrationReport) -> None:
    axes.plot([0, 1], [0, 1], color=palette.muted, linewidth=0.8, linestyle="--")
    _points(axes, report.reliability, palette.accent, "o-", "as given")
    if report.reliability_calibrated:
        _points(axes, report.reliability_calibrated, palette.muted, "s--", "calibrated")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(color=palette.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("Mean confidence of the words in a bin")
    axes.set_ylabel("Share of them that is right")
    axes.legend(frameon=False, fontsize=7.5, labelcolor=palette.ink, loc="upper left")


def plot_reliability(report: CalibrationReport | None) -> Plot | None:
    """Draw the diagram; None where the engine gives no probabilities."""
    if report is None or report.ece is None or not report.reliability:
        return None
    after = "" if report.ece_calibrated is None else f", {100 * report.ece_calibrated:.1f}% after the fitted map"
    return Plot(
        name="reliability",
        title="Can its confidence be trusted?",
        alt=(
            f"Reliability diagram of {report.words} words in {len(report.reliability)} bins. "
            f"Expected calibration error {100 * report.ece:.1f}%{after}."
        ),
        caption=(
            f"Expected calibration error {100 * report.ece:.1f}%{after} (fitted on other speakers). "
            "On the dashed line confidence says how often a word is right; below it, it promises too much."
        ),
        height_in=2.6,
        width_in=NARROW_WIDTH_IN,
        draw=partial(_draw, report=report),
    )
