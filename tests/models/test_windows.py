"""Long recordings are cut into windows without loss, and between words where there is a pause."""

from __future__ import annotations

import numpy as np
import pytest

from models.engines._windows import windows

RATE_HZ = 100
NOISE = np.random.default_rng(0).uniform(0.5, 1, 100 * RATE_HZ).astype(np.float32)


@pytest.mark.parametrize("seconds", [0, 0.01, 9.99, 10, 10.01, 25, 100])
def test_windows_are_the_whole_recording(seconds: float) -> None:
    samples = NOISE[: round(seconds * RATE_HZ)]
    cut = list(windows(samples, 10, RATE_HZ))
    edges = [0, *(end for _, end in cut)]
    assert [start for start, _ in cut] == edges[:-1]
    assert edges[-1] == len(samples)
    assert all(0 < end - start <= 10 * RATE_HZ for start, end in cut)
    assert (len(cut) == 1) == (0 < seconds <= 10)


@pytest.mark.parametrize("pause_s", [7.6, 8.0, 9.4])
def test_a_cut_falls_into_the_pause(pause_s: float) -> None:
    samples = NOISE[: 12 * RATE_HZ].copy()
    pause = slice(round(pause_s * RATE_HZ), round((pause_s + 0.3) * RATE_HZ))
    samples[pause] = 0
    (_, end), _ = windows(samples, 10, RATE_HZ)
    assert pause.start < end < pause.stop


def test_silence_makes_long_windows() -> None:
    cut = list(windows(np.zeros(100 * RATE_HZ, np.float32), 10, RATE_HZ))
    assert len(cut) == 11  # at most 50 ms short of 10 s each, and the rest
