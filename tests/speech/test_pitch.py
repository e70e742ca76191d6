from __future__ import annotations

import numpy as np
import pytest

from pipelines.speech.pitch import pitch_range_semitones
from pipelines.speech.signal import FloatSamples

RATE_HZ = 22_050


def glide(low_hz: float, high_hz: float, seconds: float = 3.0) -> tuple[FloatSamples, float]:
    """A buzz whose pitch swings between two frequencies, and its 5th to 95th percentile in semitones."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pitch_hz = low_hz * (high_hz / low_hz) ** (0.5 - 0.5 * np.cos(2 * np.pi * time / 1.5))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    samples = sum(0.2 * np.sin(k * phase) / k for k in range(1, 15))
    low, high = np.percentile(pitch_hz, (5, 95))
    return np.asarray(samples, dtype=np.float32), float(12 * np.log2(high / low))


@pytest.mark.parametrize(("low_hz", "high_hz"), [(80, 120), (100, 200), (150, 400), (120, 121)])
def test_the_range_is_that_of_a_known_glide(low_hz: float, high_hz: float) -> None:
    samples, semitones = glide(low_hz, high_hz)
    assert pitch_range_semitones(samples, RATE_HZ) == pytest.approx(semitones, abs=0.1)


def test_noise_and_short_recordings_have_no_pitch() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)
    samples, _ = glide(100, 200)
    assert pitch_range_semitones(noise, RATE_HZ) is None
    assert pitch_range_semitones(samples[: RATE_HZ // 100], RATE_HZ) is None
    assert pitch_range_semitones(samples[: RATE_HZ // 10], RATE_HZ) is None
