"""Matplotlib figures that follow the page's light or dark theme, or stand alone as files.

An SVG is drawn once with placeholder colours, which are then replaced: by the page's CSS variables, or by the colours of its
light theme where there is no page. Its text stays text, in the reader's own font. matplotlib is imported when a figure is
drawn, for it takes longer than the rest of the command.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from models.collector import collector_paused

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 4.7
"""Width of a figure in inches that takes half a desk's page; one fills a phone."""

NARROW_WIDTH_IN = 3.7
"""Width of a figure that takes a third, so that its text is as large as the others'."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours a figure may use, each with the CSS variable of its name."""

    ink: str
    muted: str
    grid: str
    surface: str
    accent: str
    substitution: str
    deletion: str
    insertion: str


# Colours no figure draws by itself, so that replacing them in the SVG's text cannot hit another.
_PLACEHOLDERS = Palette(*(f"#fe01{index:02x}" for index in range(len(fields(Palette)))))

# The light theme of report.css, for a figure on its own.
_LIGHT = Palette(
    ink="#1b2026",
    muted="#59626c",
    grid="#e2e5e9",
    surface="#ffffff",
    accent="#1f5fa8",
    substitution="#d0690b",
    deletion="#b0266b",
    insertion="#2a6fc0",
)

_STYLE = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.7,
    # A tag may hold dollar signs, which are text and no formula.
    "text.parse_math": False,
}


def warm_up(_: object = None) -> None:
    """Import matplotlib and draw once, for fonts and backends are found at the first figure; the argument is for `map`."""

    def dot(axes: Axes, palette: Palette) -> None:
        axes.plot([0], [0], color=palette.ink)

    drawing_of(Plot(name="warm-up", title="", alt="", caption="", height_in=1.0, draw=dot))


@dataclass(frozen=True)
class Plot:
    """One figure: what it shows, in words too, and how to draw it."""

    name: str
    """File name without extension, unique on its page."""
    title: str
    """Heading above it."""
    alt: str
    """What a reader who cannot see it must know."""
    caption: str
    """How to read it."""
    height_in: float
    """Height in inches."""
    draw: Callable[[Axes, Palette], None]
    """Draws on empty axes with the colours given."""
    width_in: float = WIDTH_IN
    """Width in inches."""
    by_slice: bool = False
    """Whether it has a row for each slice, and so may be tall."""

    @cached_property
    def _drawn(self) -> Markup:
        return drawing_of(self)

    def keep(self, drawing: Markup) -> None:
        """Take what `drawing_of` gave in another process, instead of drawing here."""
        vars(self)["_drawn"] = drawing

    def svg(self) -> Markup:
        """Give the SVG element for the page; its colours are CSS variables. The same input gives the same bytes."""
        return _coloured(self._drawn, {item.name: f"var(--{item.name})" for item in fields(Palette)})

    def file(self) -> str:
        """Give an SVG file on a white ground, for a viewer that knows no theme."""
        body = _coloured(self._drawn, asdict(_LIGHT))
        head = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" style="background: #ffffff"'
        return f"<svg {head}{body.removeprefix('<svg')}"


def drawing_of(plot: Plot) -> Markup:
    """Draw: what `Plot.svg` and `Plot.file` colour."""
    return _bare(_draw(plot), plot.alt)


def _draw(plot: Plot) -> str:
    """Draw as matplotlib's own SVG, in the placeholder colours."""
    # A Figure without pyplot has no global state to leak, and picks Agg or SVG by the format alone.
    with collector_paused():
        import matplotlib as mpl
        from matplotlib.figure import Figure

    palette = _PLACEHOLDERS
    colours = {
        "text.color": palette.ink,
        "axes.edgecolor": palette.muted,
        "axes.labelcolor": palette.muted,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "hatch.color": palette.surface,
    }
    # Any: matplotlib types the keys as a Literal of all its settings.
    style: dict[Any, Any] = {**_STYLE, **colours, "svg.hashsalt": plot.name}
    with mpl.rc_context(style):
        figure: Figure = Figure(figsize=(plot.width_in, plot.height_in), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.add_subplot()
        axes.set_facecolor("none")
        axes.tick_params(length=2.5, width=0.6)
        plot.draw(axes, palette)
        # Laid out once, here: `savefig` would draw a figure that has a layout engine twice.
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.execute(figure)
        figure.set_layout_engine("none")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue()


def _bare(svg: str, alt: str) -> Markup:
    """Cut matplotlib's SVG down to what a page needs: no prolog, no page-wide style, no ids but used ones."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    used = set(re.findall(r"(?:xlink:href=\"#|url\(#)([^\")]+)", svg))
    svg = re.sub(r'\s+id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None, "matplotlib's SVG has a viewBox"
    head = Markup('<svg role="img" aria-label="{}" ').format(alt)
    # The body is matplotlib's own output, which has escaped every text it was given.
    return head + Markup(f"{view_box[0]}{svg[svg.index('>') :]}")  # noqa: S704


def _coloured(svg: Markup, colours: Mapping[str, str]) -> Markup:
    """Put each colour in its placeholder's place."""
    text = str(svg)
    for name, colour in colours.items():
        text = text.replace(getattr(_PLACEHOLDERS, name), colour)
    return Markup(text)  # noqa: S704
