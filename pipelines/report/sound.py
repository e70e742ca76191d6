"""A sound as numbers that can be drawn: the reach of its waveform, and the level of its bands over time.

Levels are in dB of full scale: a sine of amplitude 1 is at 0 dB. Nothing is scaled to the sound at hand, so two pictures can
be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COLUMNS = 320
"""Steps in time over the span of a picture."""
BANDS = 64
"""Steps in frequency."""
FLOOR_DB, STEP_DB, STEPS = -90, 10, 7
"""Levels are told apart in steps; what lies below the floor is left blank."""
WINDOW_S = 0.04
"""Length of the analysis window: about, for it is rounded to a power of two samples."""
HOP_S = 0.008
"""Largest distance of the windows that a column is the mean of."""
MOST_HOPS = 16
"""Windows a column at most. In minutes of sound they lie apart, for the memory's sake."""


@dataclass(frozen=True)
class Sound:
    """A decoded file."""

    samples: NDArray[np.float32]
    """Mono, shape (n,), n ≥ 1; full scale is 1."""
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate_hz


def read_sound(path: Path) -> Sound | None:
    """Decode a file at its own rate; None where it cannot be read or is empty, for a page is made all the same."""
    import soundfile

    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError):  # libsndfile's errors are RuntimeErrors
        return None
    return Sound(samples.mean(axis=1), int(rate_hz)) if len(samples) else None


def mel(frequency_hz: float) -> float:
    """Pitch as it is heard, in mel (O'Shaughnessy 1987)."""
    return float(2595 * np.log10(1 + frequency_hz / 700))


def columns_of(sound: Sound, span_s: float) -> int:
    """Columns that the sound takes of a picture that spans so many seconds."""
    return min(COLUMNS, max(1, int(np.ceil(sound.duration_s / span_s * COLUMNS - 1e-6))))


def envelope(sound: Sound, span_s: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest sample of each column, two arrays of shape (columns,)."""
    edges = np.arange(columns_of(sound, span_s)) * span_s / COLUMNS * sound.rate_hz
    starts = np.minimum(edges.astype(np.int64), len(sound.samples) - 1)
    return np.minimum.reduceat(sound.samples, starts), np.maximum.reduceat(sound.samples, starts)


def steps_of_level(sound: Sound, span_s: float, top_hz: float) -> NDArray[np.int64]:
    """How loud each band is in each column.

    Args:
        sound: What to look at.
        span_s: Seconds that `COLUMNS` columns cover.
        top_hz: Upper end of the highest of `BANDS` bands, which are equally wide in mel.

    Returns:
        (BANDS, columns) with 0 below the floor and up to `STEPS`, the lowest band first; 0 above half the sample rate, too.
    """
    power, bin_hz = _power(sound, span_s)
    edges_hz = 700 * (10 ** (np.linspace(0, mel(top_hz), BANDS + 1) / 2595) - 1)
    bins = np.arange(power.shape[1]) * bin_hz
    steps = np.zeros((BANDS, len(power)), dtype=np.int64)
    for band, (low, high) in enumerate(pairwise(edges_hz)):
        if low >= sound.rate_hz / 2:
            break
        inside = np.flatnonzero((bins >= low) & (bins < high))
        # The lowest bands are narrower than a bin.
        chosen = inside if len(inside) else [int(np.abs(bins - (low + high) / 2).argmin())]
        level_db = 10 * np.log10(power[:, chosen].mean(axis=1) + 1e-20)
        steps[band] = np.clip(np.floor((level_db - FLOOR_DB) / STEP_DB) + 1, 0, STEPS)
    return steps


def _power(sound: Sound, span_s: float) -> tuple[NDArray[np.float64], float]:
    """Mean power spectrum of each column, (columns, bins), a full-scale sine being 1; and the width of a bin."""
    size = 2 ** round(np.log2(WINDOW_S * sound.rate_hz))
    window = np.hanning(size + 1)[:-1]
    hops = int(np.clip(np.ceil(span_s / COLUMNS / HOP_S), 1, MOST_HOPS))
    columns = columns_of(sound, span_s)
    centres = ((np.arange(columns * hops) + 0.5) / hops * span_s / COLUMNS * sound.rate_hz).astype(np.int64)
    # Silence around it, so that each window is centred on its time; the last column may reach beyond the end.
    padded = np.pad(sound.samples, (size // 2, size // 2 + int(span_s / COLUMNS * sound.rate_hz) + 1))
    out = np.empty((columns, size // 2 + 1))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)
    for column in range(columns):
        chosen = frames[centres[column * hops : (column + 1) * hops]]
        out[column] = (np.abs(np.fft.rfft(chosen * window, axis=1)) ** 2).mean(axis=0)
    return out / (window.sum() / 2) ** 2, sound.rate_hz / size
