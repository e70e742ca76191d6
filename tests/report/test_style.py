import re
from pathlib import Path

import pytest

import pipelines.report

CSS = (Path(pipelines.report.__file__).parent / "report.css").read_text(encoding="utf-8")

TEXT_ON_GROUND = [
    *[(text, ground) for text in ("ink", "muted", "accent") for ground in ("page", "surface")],
    *[(f"{kind}-ink", ground) for kind in ("sub", "del", "ins") for ground in (f"{kind}-tint", "surface")],
    *[(f"{verdict}-ink", f"{verdict}-tint") for verdict in ("pass", "fail", "inconclusive")],
    *[("ink", f"{verdict}-tint") for verdict in ("pass", "fail", "inconclusive")],
]


def theme(name: str) -> dict[str, str]:
    """Colours of a theme: the dark one replaces what the light one says."""
    light, dark = CSS.split("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    if name == "dark":
        colours |= dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark.split("\n}\n")[0]))
    return colours


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_ON_GROUND)
def test_text_can_be_read(name: str, text: str, ground: str) -> None:
    colours = theme(name)
    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("mark", ["substitution", "deletion", "insertion", "accent"])
def test_marks_of_plots_stand_out(name: str, mark: str) -> None:
    colours = theme(name)
    assert contrast(colours[mark], colours["surface"]) >= 3.0


def test_both_themes_name_the_same_colours() -> None:
    dark = CSS.split("@media (prefers-color-scheme: dark)")[1].split("\n}\n")[0]
    assert set(re.findall(r"--([a-z-]+): #", dark)) == set(theme("light"))
