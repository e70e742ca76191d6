"""Raw sound as a client sends it piece by piece: 16-bit little-endian samples of one channel, at its own rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import soxr

Samples = NDArray[np.float32]

DEFAULT_RATE_HZ = 24_000
"""OpenAI's."""
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 48_000
FULL_SCALE = 32768
BYTES_PER_SAMPLE = 2


class PcmReader:
    """Turns bytes into samples at 16 kHz."""

    def __init__(self, rate_hz: int = DEFAULT_RATE_HZ) -> None:
        """Take the rate of what comes."""
        self.rate_hz = rate_hz
        self._odd = b""
        self._stream = self._resampler()

    def add(self, data: bytes) -> Samples:
        """Give what can be given: half a sample waits for its other half, and the resampler for a few milliseconds more."""
        data = self._odd + data
        whole = len(data) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE
        self._odd = data[whole:]
        samples: Samples = np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(FULL_SCALE)
        if self._stream is not None:
            samples = self._stream.resample_chunk(samples)
        return samples

    def end(self) -> Samples:
        """Give what waits, at the end of a turn; what comes next is another sound."""
        self._odd = b""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream = self._resampler()
        return rest

    def _resampler(self) -> soxr.ResampleStream | None:
        if self.rate_hz == SAMPLE_RATE_HZ:
            return None
        import soxr

        return soxr.ResampleStream(self.rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
