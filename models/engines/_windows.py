"""Long recordings in pieces that a model can hear at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FRAME_S = 0.1
"""Length of sound whose loudness is compared."""
SEARCH_SHARE = 0.25
"""A window may end anywhere in its last quarter."""


def windows(samples: NDArray[np.float32], window_s: float, sample_rate_hz: int) -> Iterator[tuple[int, int]]:
    """Cut a recording where it is quietest, so that a cut falls between words if it can.

    Args:
        samples: Mono audio, shape (n,).
        window_s: Longest window in seconds.
        sample_rate_hz: Samples per second.

    Yields:
        Start and end of each window in samples; together they are the whole recording.
    """
    longest, frame = round(window_s * sample_rate_hz), round(FRAME_S * sample_rate_hz)
    start = 0
    while len(samples) - start > longest:
        first = start + longest - max(frame, round(longest * SEARCH_SHARE))
        frames = (start + longest - first) // frame
        energy = np.square(samples[first : first + frames * frame].reshape(frames, frame)).sum(axis=1)
        # The last of equals: silence throughout gives the longest windows.
        quietest = frames - 1 - int(np.argmin(energy[::-1]))
        end = first + quietest * frame + frame // 2
        yield start, end
        start = end
    if start < len(samples):
        yield start, len(samples)
