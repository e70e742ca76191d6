"""Waveform and spectrogram as markup in the page's colours: lines of an SVG, which need no permission that a bitmap does.

Two sounds that are to be compared are drawn on the same scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipelines.report.formatting import plain
from pipelines.report.sound import (
    BANDS,
    COLUMNS,
    FLOOR_DB,
    STEP_DB,
    STEPS,
    Sound,
    envelope,
    mel,
    steps_of_level,
)

HEIGHT = 100
"""Units that the waveform's range is drawn on."""
MOST_TICKS = 7
TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
TICKS_KHZ = (0, 0.5, 1, 2, 4, 8)
CLOSEST_TICKS = 0.09
"""Two labels of the frequency axis that are closer than this share of it would overlap."""


@dataclass(frozen=True, slots=True)
class Shades:
    """What the shades of a spectrogram are, for the page's key."""

    lowest_db: int = FLOOR_DB
    """Where the faintest begins."""
    highest_db: int = FLOOR_DB + STEP_DB * (STEPS - 1)
    """Where the strongest begins."""
    step_db: int = STEP_DB
    count: int = STEPS


_PICTURE = Markup(
    '<figure class="sound"><svg class="wave" role="img" aria-label="Waveform, {length} s, peak {peak} of full scale" '
    'viewBox="0 0 {columns} {height}" preserveAspectRatio="none"><path d="{wave}"/></svg>'
    '<div class="hertz" aria-hidden="true">{hertz}</div>'
    '<svg class="levels" role="img" aria-label="Spectrogram, 0 to {top} kHz" '
    'viewBox="0 0 {columns} {bands}" preserveAspectRatio="none"><g transform="translate(0 .5)">{levels}</g></svg>'
    '<div class="seconds" aria-hidden="true">{seconds}</div>'
    "<figcaption>{length} s, sampled at {rate} kHz</figcaption></figure>"
)
_PATH = Markup('<path d="{}"/>')
_ACROSS = Markup('<span style="left:{:.1f}%">{}</span>')
_UPWARDS = Markup('<span style="bottom:{:.1f}%">{}</span>')


def pictures(sounds: Sequence[Sound | None]) -> list[Markup | None]:
    """Draw sounds on one scale of time and one of frequency; what could not be read has no picture."""
    known = [sound for sound in sounds if sound is not None]
    span_s = max((sound.duration_s for sound in known), default=0.0)
    top_hz = max((sound.rate_hz / 2 for sound in known), default=0.0)
    return [None if sound is None else _picture(sound, span_s, top_hz) for sound in sounds]


def _picture(sound: Sound, span_s: float, top_hz: float) -> Markup:
    steps = steps_of_level(sound, span_s, top_hz)
    return _PICTURE.format(
        length=plain(sound.duration_s),
        peak=plain(float(np.abs(sound.samples).max())),
        rate=f"{sound.rate_hz / 1000:g}",
        top=f"{top_hz / 1000:g}",
        columns=COLUMNS,
        bands=BANDS,
        height=HEIGHT,
        wave=_wave(sound, span_s),
        levels=Markup("").join(_PATH.format(_runs(steps >= step)) for step in range(1, STEPS + 1)),
        seconds=Markup("").join(_ACROSS.format(100 * at / span_s, label) for at, label in time_ticks(span_s)),
        hertz=Markup("").join(_UPWARDS.format(100 * at, label) for at, label in frequency_ticks(top_hz)),
    )


def _wave(sound: Sound, span_s: float) -> str:
    """Upright lines from the lowest to the highest sample of each column."""
    low, high = envelope(sound, span_s)
    tops = np.rint((1 - np.clip(high, -1, 1)) * HEIGHT / 2).astype(np.int64)
    # Silence is a line, too.
    bottoms = np.maximum(np.rint((1 - np.clip(low, -1, 1)) * HEIGHT / 2).astype(np.int64), tops + 1)
    return "".join(f"M{x}.5 {top}V{bottom}" for x, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)))


def _runs(mask: NDArray[np.bool_]) -> str:
    """Lines over the set columns of each band, (bands, columns); the pen moves from run to run, so numbers are short."""
    x = y = 0
    parts = []
    for band, start, end in _set_columns(mask):
        row = BANDS - 1 - band
        down = f" {row - y}" if row >= y else f"{row - y}"
        parts.append(f"m{start - x}{down}h{end - start}")
        x, y = end, row
    return "".join(parts)


def _set_columns(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Band, first column and the one after the last of each run, from the top band down."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    for band in reversed(range(len(mask))):
        starts, ends = np.flatnonzero(edges[band] == 1), np.flatnonzero(edges[band] == -1)
        yield from ((band, int(start), int(end)) for start, end in zip(starts, ends, strict=True))


def time_ticks(span_s: float) -> list[tuple[float, str]]:
    """Place at most `MOST_TICKS` labels on the axis of time: second and label."""
    step = next((step for step in TICK_STEPS_S if span_s / step < MOST_TICKS), span_s)
    return [(index * step, f"{index * step:g} s") for index in range(int(span_s / step + 1e-9) + 1)]


def frequency_ticks(top_hz: float) -> list[tuple[float, str]]:
    """Place labels on the axis of frequency: share of the way up and label; its upper end always has one."""
    whole = mel(top_hz)
    ticks = [(mel(1000 * khz) / whole, f"{khz:g}") for khz in TICKS_KHZ]
    return [*(tick for tick in ticks if tick[0] < 1 - CLOSEST_TICKS), (1.0, f"{top_hz / 1000:.3g} kHz")]
