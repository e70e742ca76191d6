"""Whisper's log-mel spectrogram of a long recording, block by block.

Both libraries transform a whole recording at once: of an hour, faster-whisper holds 2.5 GB of complex numbers and
openai-whisper 1.4 GB, though the spectrogram itself has 115 MB. Here the transform is done in blocks, by the library's own
functions, and the spectrogram is the same to rounding. Recordings up to a block long are left to the library, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.errors import EngineError

SAMPLE_RATE_HZ, FFT_SAMPLES, HOP_SAMPLES = 16_000, 400, 160
"""Of Whisper's features (``whisper/audio.py``)."""
BLOCK_S = 120
BLOCK_SAMPLES, BLOCK_FRAMES = BLOCK_S * SAMPLE_RATE_HZ, BLOCK_S * SAMPLE_RATE_HZ // HOP_SAMPLES
FLOOR, RANGE_DECADES = 1e-10, 8.0
"""Least power, and how far below the loudest bin of the whole recording the quietest may lie."""

Samples = NDArray[np.float32]


def log_mel(samples: Samples, zeros: int, bins: int, mel_of: Callable[[Samples], Samples]) -> Samples:
    """Compute Whisper's log-mel spectrogram.

    Args:
        samples: Mono at 16 kHz, shape (n,).
        zeros: Samples of silence that the library puts after them.
        bins: Mel bins.
        mel_of: From samples (400 + 160 (k - 1),), already padded, to the mel power of their k frames, (bins, k).

    Returns:
        Shape (bins, frames), as the libraries' functions do for the whole: scaled, and cut 8 decades below the maximum.
    """
    frames = (len(samples) + zeros) // HOP_SAMPLES
    out = np.empty((bins, frames), dtype=np.float32)
    for first, piece in _pieces(samples, zeros, frames):
        power = mel_of(piece)
        if power.shape[0] != bins:
            raise EngineError(f"The features have {power.shape[0]} bins, the model {bins}.", "Report this.")
        np.log10(np.maximum(power, FLOOR), out=out[:, first : first + power.shape[1]])
    np.maximum(out, out.max() - RANGE_DECADES, out=out)
    out += 4.0
    out /= 4.0
    return out


def _pieces(samples: Samples, zeros: int, frames: int) -> Iterator[tuple[int, Samples]]:
    """First frame and samples of each block; beyond its ends the recording with its zeros is mirrored, as a STFT does."""
    total = len(samples) + zeros
    for first in range(0, frames, BLOCK_FRAMES):
        count = min(BLOCK_FRAMES, frames - first)
        start = first * HOP_SAMPLES - FFT_SAMPLES // 2
        index = np.abs(np.arange(start, start + FFT_SAMPLES + (count - 1) * HOP_SAMPLES))
        index = np.where(index >= total, 2 * (total - 1) - index, index)
        sound = samples[np.minimum(index, len(samples) - 1)]
        yield first, np.where(index < len(samples), sound, np.float32(0))
