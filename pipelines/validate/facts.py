"""What is measured of one recording to judge it: everything the audio suite asks about, in one pass over its samples."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.audio import FloatSamples, Source, opened, shortfall
from models.errors import AudioError
from models.types import Record

FACTS_VERSION = "1"
"""Part of the key of what is stored: raise it when a measure changes, and files are measured anew."""
FULL_SCALE = 0.999
"""Magnitude from which a sample counts as clipped: the last 33 of 32,768 steps of 16 bits."""
FRAME_S = 0.05
"""Length of the frames whose level is taken."""
SILENCE_DBFS = -60.0
"""Level (RMS, of full scale) below which a frame is silent: 10 dB under the noise of a quiet room's recording."""
FLOOR_DBFS = -120.0
"""Level told of digital silence, whose logarithm does not exist."""
NAME = "{name}"
"""Stands for the file's name in a stored fault: the same bytes may lie under other names."""


class Facts(Record):
    """Measures of one file's bytes. Where `fault` is set, the rest says nothing."""

    sha256: str
    """Of the file's bytes."""
    content: str
    """Of the decoded samples, rate and channels: the same for a WAV and the FLAC made of it."""
    fault: str | None
    """Why it cannot be used, with `NAME` for its name; None if it decodes to its end."""
    duration_s: float
    rate_hz: int
    channels: int
    format: str
    not_finite: int
    """Samples that are NaN or infinite."""
    peak: float
    """Largest magnitude, 1 is full scale."""
    clipped: float
    """Share of samples at full scale."""
    dc_offset: float
    """Largest mean of a channel, of full scale."""
    loudest_dbfs: float
    """Level of the loudest frame of 50 ms."""
    silent: float
    """Share of frames below `SILENCE_DBFS`."""


def measure_file(path: Path, sha256: str) -> Facts:
    """Measure one file of this digest; what is wrong with it is told in the result, not raised.

    Raises:
        OSError: It cannot be read at all.
    """
    try:
        with opened(path) as source:
            facts = _measure(sha256, path.name, source)
    except AudioError as error:
        return _unusable(sha256, str(error).replace(path.name, NAME).replace(str(path.parent), ""))
    return facts


def _unusable(sha256: str, fault: str) -> Facts:
    return Facts(
        sha256=sha256,
        content=sha256,
        fault=fault,
        duration_s=0,
        rate_hz=0,
        channels=0,
        format="",
        not_finite=0,
        peak=0,
        clipped=0,
        dc_offset=0,
        loudest_dbfs=FLOOR_DBFS,
        silent=1,
    )


@dataclass
class _Sums:
    """What is added up over blocks."""

    frames: int = 0
    samples: int = 0
    not_finite: int = 0
    peak: float = 0.0
    clipped: int = 0
    channel_sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    loudest: float = 0.0
    level_frames: int = 0
    silent_frames: int = 0

    def add(self, block: FloatSamples, rate_hz: int) -> None:
        self.frames += len(block)
        self.samples += block.size
        if not math.isfinite(float(block.sum(dtype=np.float64))):
            finite = np.isfinite(block)
            self.not_finite += block.size - int(np.count_nonzero(finite))
            block = np.where(finite, block, np.float32(0))
        magnitude = np.abs(block)
        self.peak = max(self.peak, float(magnitude.max()))
        self.clipped += int(np.count_nonzero(magnitude >= FULL_SCALE))
        self.channel_sums = self.channel_sums + block.sum(axis=0, dtype=np.float64)
        power = _frame_power(block, max(1, round(FRAME_S * rate_hz)))
        self.loudest = max(self.loudest, float(power.max()))
        self.level_frames += len(power)
        self.silent_frames += int(np.count_nonzero(power < 10 ** (SILENCE_DBFS / 10)))


def _frame_power(block: FloatSamples, length: int) -> NDArray[np.float64]:
    """Mean square of each frame of a block (n, channels), the loudest channel's; a shorter block is one frame."""
    squares = np.square(block).max(axis=1) if block.shape[1] > 1 else np.square(block[:, 0])
    whole = len(squares) // length * length
    if not whole:
        return np.array([squares.mean(dtype=np.float64)])
    return np.asarray(squares[:whole].reshape(-1, length).mean(axis=1, dtype=np.float64))


def _measure(sha256: str, name: str, source: Source) -> Facts:
    digest = hashlib.sha256(f"{source.rate_hz} {source.channels} ".encode())
    sums = _Sums()
    for block in source.blocks:
        digest.update(np.ascontiguousarray(block).data)
        sums.add(block, source.rate_hz)
    if not sums.frames:
        return _unusable(sha256, f"{NAME} holds no samples. Replace the file or take its line out of the manifest.")
    duration_s = sums.frames / source.rate_hz
    if (cut := shortfall(NAME, source.declared_s, duration_s)) is not None:
        return _unusable(sha256, str(cut))
    return Facts(
        sha256=sha256,
        content=digest.hexdigest(),
        fault=None,
        duration_s=duration_s,
        rate_hz=source.rate_hz,
        channels=source.channels,
        format=source.format,
        not_finite=sums.not_finite,
        peak=sums.peak,
        clipped=sums.clipped / sums.samples,
        dc_offset=float(np.abs(sums.channel_sums).max()) / sums.frames,
        loudest_dbfs=max(FLOOR_DBFS, 10 * math.log10(sums.loudest)) if sums.loudest else FLOOR_DBFS,
        silent=sums.silent_frames / sums.level_frames,
    )
