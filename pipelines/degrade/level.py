"""Active speech level: how loud somebody speaks while speaking, whatever pauses the recording has.

ITU-T Recommendation P.56 (12/2011), method B, as in the ITU-T's own software (G.191, ``sv56``). A plain mean over the
file would call the same voice quieter for each second of silence around it, and a signal-to-noise ratio by it would ask for
less noise the more pauses there are.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

TIME_CONSTANT_S = 0.03
"""Of the two smoothing filters of the envelope, in series."""
HANGOVER_S = 0.2
"""A pause shorter than this belongs to the speech around it."""
MARGIN_DB = 15.9
"""The active level lies this far above the threshold that decides what is active."""
THRESHOLDS = 0.5 ** np.arange(15, 0, -1)
"""Candidates for that threshold, of full scale: one bit apart, as the recommendation has them for 16-bit samples."""


@dataclass(frozen=True, slots=True)
class SpeechLevel:
    """The level of the speech in a recording."""

    active_db: float
    """Mean power while somebody speaks, dB of full scale (0 dB: a mean square of 1)."""
    activity: float
    """Share of the time in which somebody speaks, in [0, 1]."""


def speech_level(samples: Samples, rate_hz: int) -> SpeechLevel | None:
    """Measure the active speech level by ITU-T P.56, method B.

    Args:
        samples: Mono, (n,), full scale at 1.
        rate_hz: Of the samples.

    Returns:
        None where nothing stands out of silence: then no level of speech exists.
    """
    from scipy.signal import lfilter

    energy = float(samples @ samples)
    if not len(samples) or energy <= 0:
        return None
    decay = math.exp(-1.0 / (TIME_CONSTANT_S * rate_hz))
    envelope = np.abs(samples)
    for _ in range(2):
        envelope = lfilter([1.0 - decay], [1.0, -decay], envelope)
    levels: list[tuple[float, float]] = []
    for threshold in THRESHOLDS:
        active = _active_samples(envelope, float(threshold), round(HANGOVER_S * rate_hz))
        if not active:
            break
        level_db = 10.0 * math.log10(energy / active)
        levels.append((level_db, level_db - 20.0 * math.log10(threshold)))
    for (before_db, above_before), (after_db, above_after) in itertools.pairwise(levels):
        if above_after <= MARGIN_DB <= above_before:
            part = (above_before - MARGIN_DB) / (above_before - above_after)
            active_db = before_db + part * (after_db - before_db)
            return SpeechLevel(active_db, min(1.0, energy / len(samples) / 10.0 ** (active_db / 10.0)))
    return None


def _active_samples(envelope: Samples, threshold: float, hangover: int) -> int:
    """Count samples at or above the threshold, or within the hangover after one that is."""
    above = np.flatnonzero(envelope >= threshold)
    if not len(above):
        return 0
    gaps = np.minimum(np.diff(above) - 1, hangover).sum()
    return int(len(above) + gaps + min(hangover, len(envelope) - 1 - above[-1]))


def power_db(samples: Samples) -> float:
    """Mean power over the whole of a signal, dB of full scale; minus infinity for silence."""
    mean = float(samples @ samples) / max(1, len(samples))
    return 10.0 * math.log10(mean) if mean > 0 else -math.inf
