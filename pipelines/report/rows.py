"""What plots by slice share: rows under a heading for each key, intervals, an axis in percent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.report.figures import Palette
from pipelines.report.selection import SliceGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_IN = 0.185
"""Height of one row of a plot by slice, in inches."""

LONGEST_LABEL = 22
"""Characters of a slice's name on an axis; the table has it whole."""

Row = tuple[str, str | None]
"""Label and slice of one row; a heading has no slice."""


def slice_rows(groups: Sequence[SliceGroup]) -> list[Row]:
    """Lay groups out as rows from the top: the key as a heading, then its slices."""
    rows: list[Row] = []
    for group in groups:
        rows.append((group.key, None))
        rows += [(name.partition("=")[2] or name, name) for name in group.names]
    return rows


def label_rows(axes: Axes, palette: Palette, rows: Sequence[Row]) -> None:
    """Put the rows' labels on the vertical axis, the first on top, keys in bold."""
    axes.set_yticks(range(len(rows)), [_shortened(label) for label, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    for tick, (_, name) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(palette.ink if name is None else palette.muted)
        tick.set_fontweight("bold" if name is None else "normal")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=palette.grid, linewidth=0.6)
    axes.set_axisbelow(True)


def rows_height_in(rows: Sequence[Row]) -> float:
    """Height of a plot with these rows, axis included."""
    return 0.65 + ROW_IN * len(rows)


def whole_numbers(axes: Axes, which: str) -> None:
    """Put the ticks of the x or y axis, which counts things, on whole numbers."""
    from matplotlib.ticker import MaxNLocator

    (axes.xaxis if which == "x" else axes.yaxis).set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))


def log_axis(axes: Axes) -> None:
    """Make the x axis logarithmic, with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def percent_axis(axes: Axes, which: str, symbol: str = "%") -> None:
    """Write the ticks of the x or y axis as percent; differences of rates are points and go without the sign."""
    from matplotlib.ticker import PercentFormatter

    (axes.xaxis if which == "x" else axes.yaxis).set_major_formatter(
        PercentFormatter(xmax=1.0, decimals=None, symbol=symbol)
    )


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def left_out_text(groups: Iterable[SliceGroup]) -> str:
    """Say which slices a plot leaves out; empty where it has all."""
    parts = [f"{g.left_out} better of {g.key}" for g in groups if g.left_out]
    return f" Not drawn: {', '.join(parts)}; the table has all." if parts else ""


def draw_intervals(
    axes: Axes, palette: Palette, rows: Sequence[Row], results: Mapping[str, tuple[float, float | None, float | None]]
) -> None:
    """Draw value, low and high of each slice as a forest plot; a hollow point has no interval."""
    for y, (_, name) in enumerate(rows):
        if name is None or name not in results:
            continue
        value, low, high = results[name]
        known = low is not None and high is not None
        if low is not None and high is not None:
            axes.plot([low, high], [y, y], color=palette.accent, linewidth=1.4, solid_capstyle="round")
        face = palette.accent if known else "none"
        # A point at the edge, such as no errors at all, is drawn whole; the axis spans all values.
        axes.plot([value], [y], "o", markersize=4, color=palette.accent, markerfacecolor=face, clip_on=False, zorder=3)
