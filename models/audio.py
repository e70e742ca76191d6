"""Reading recordings: any common file in, mono float32 at 16 kHz out, within stated bounds.

Files come from outside and are treated as hostile: the header is checked before a sample is read, decoding goes block by
block and stops at the limits, and a file that holds less than its header declares is refused instead of scored as silence.
Ogg's header declares no length: there the manifest's duration tells a cut file (`duration_fault`).
libsndfile (through soundfile) decodes WAV, FLAC, MP3, OGG/Vorbis and OGG/Opus; soxr resamples.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.errors import AudioError

if TYPE_CHECKING:
    import soundfile

FloatSamples = NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
"""What every recogniser here takes."""
BLOCK_S = 30
"""Seconds decoded at a time, at most."""
BLOCK_VALUES = BLOCK_S * 48_000 * 2
"""Values decoded at a time, 12 MB: of 30 s at more channels or a higher rate, a block takes that much and no more."""
HASH_CHUNK_BYTES = 1 << 20
SHORTFALL_S = 0.5
"""A file may end this much before its declared length: MP3 encoders round up and pad (LAME: up to 0.1 s)."""
SHORTFALL_RATIO = 0.02
UNKNOWN_DATA_BYTES = 0x7FFF0000
"""A WAV's length from here on is no length: programs that write into a pipe put 0x7FFFFFFF, a little less, or 0xFFFFFFFF."""
UNKNOWN_FRAMES = 1 << 62
"""libsndfile's number of frames from here on says that it knows none; soundfile cannot read such a file."""
DURATION_SLACK_S = 0.15
"""Decoders of MP3 differ by an encoder's padding (two frames of 1152 samples at 16 kHz: 0.144 s)."""
MAX_DURATION_SLACK_S = 1.0
"""Whole seconds are how manifests of long recordings are often written; more than that is missing speech."""
REMEDY_REPLACE = "Replace the file or take its line out of the manifest."


@dataclass(frozen=True)
class AudioLimits:
    """What one recording may cost."""

    max_bytes: int = 1 << 30
    """Size of the file: 1 GiB."""
    max_duration_s: float = 4 * 3600
    """Decoded length: four hours, 0.9 GB as mono float32 at 16 kHz."""
    max_channels: int = 16
    min_sample_rate_hz: int = 4_000
    max_sample_rate_hz: int = 384_000


DEFAULT_LIMITS = AudioLimits()


@dataclass(frozen=True)
class Audio:
    """A decoded recording."""

    samples: FloatSamples
    """Mono, shape (n,), nominally within [-1, 1]."""
    sample_rate_hz: int
    """Rate of `samples`."""
    source_rate_hz: int
    """Rate of the file."""
    source_channels: int
    """Channels of the file; they were averaged."""
    source_format: str
    """libsndfile's name, such as ``WAV/PCM_16``."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes as 64 hex digits, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def decode(path: Path, *, sample_rate_hz: int = SAMPLE_RATE_HZ, limits: AudioLimits = DEFAULT_LIMITS) -> Audio:
    """Decode a file to mono at the given rate.

    Channels are averaged. Resampling is soxr's HQ (a linear-phase low-pass at 0.91 of the new Nyquist frequency).

    Args:
        path: The file.
        sample_rate_hz: Rate of the result.
        limits: Bounds; beyond them the file is refused before or while it is read.

    Returns:
        The recording; `samples` has shape (n,), float32, n ≥ 1.

    Raises:
        AudioError: The file is missing, unreadable, empty, truncated, beyond the limits, or holds values that are not
            finite. The message names the file and what was found.
    """
    _check_size(path, limits)
    with _open(path) as file:
        _check_header(path, file, limits)
        blocks = list(_resampled(path, file, sample_rate_hz, limits))
        declared = _declared_frames(file)
        source_rate, channels = int(file.samplerate), int(file.channels)
        source_format = f"{file.format}/{file.subtype}"
    samples = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
    audio = Audio(samples, sample_rate_hz, source_rate, channels, source_format)
    if not len(samples):
        raise AudioError(f"{path.name} holds no samples.", REMEDY_REPLACE)
    if (cut := shortfall(path.name, declared / source_rate, audio.duration_s)) is not None:
        raise cut
    return audio


@dataclass(frozen=True)
class Source:
    """An opened recording, to be looked at as it is: every channel, at the file's rate."""

    rate_hz: int
    channels: int
    format: str
    """libsndfile's name, such as ``WAV/PCM_16``."""
    declared_s: float
    """Length that the header declares."""
    blocks: Iterator[FloatSamples]
    """Of shape (n, channels), `BLOCK_VALUES` at most; values may be anything, also NaN."""


@contextmanager
def opened(path: Path, limits: AudioLimits = DEFAULT_LIMITS) -> Iterator[Source]:
    """Open a file for looking at its samples, within the same bounds as `decode`.

    Raises:
        AudioError: As `decode`, here or while the blocks are read; but values that are not finite are given as they are,
            and whether the file is as long as it declares is for the caller to say (`shortfall`).
    """
    _check_size(path, limits)
    with _open(path) as file:
        _check_header(path, file, limits)
        rate = int(file.samplerate)
        yield Source(
            rate_hz=rate,
            channels=int(file.channels),
            format=f"{file.format}/{file.subtype}",
            declared_s=_declared_frames(file) / rate,
            blocks=_bounded(path, file, limits),
        )


def _bounded(path: Path, file: soundfile.SoundFile, limits: AudioLimits) -> Iterator[FloatSamples]:
    read = 0
    for block in _blocks(path, file):
        read += len(block)
        if read / file.samplerate > limits.max_duration_s:
            raise _too_long(path, read / file.samplerate, limits)
        yield block


def shortfall(name: str, declared_s: float, actual_s: float) -> AudioError | None:
    """Say that a file holds less than its header declares; None if it does not."""
    if declared_s - actual_s <= max(SHORTFALL_S, SHORTFALL_RATIO * declared_s):
        return None
    return AudioError(
        f"{name} is cut short: its header declares {declared_s:.2f} s and {actual_s:.2f} s are there.", REMEDY_REPLACE
    )


def duration_fault(name: str, declared_s: float, actual_s: float) -> str | None:
    """Say what is wrong with a declared duration; None if it is right within 2%, 0.15 s at least and 1 s at most."""
    slack_s = min(max(DURATION_SLACK_S, SHORTFALL_RATIO * declared_s), MAX_DURATION_SLACK_S)
    if abs(declared_s - actual_s) <= slack_s:
        return None
    return (
        f"{name} lasts {actual_s:.2f} s and its manifest declares {declared_s:.2f} s. "
        "Correct the duration, or replace a file that was cut."
    )


def _check_size(path: Path, limits: AudioLimits) -> None:
    if not path.is_file():
        raise AudioError(f"{path.name} is missing (looked for {path}).", "Run `dvc pull`, or correct the manifest.")
    size = path.stat().st_size
    if size == 0:
        raise AudioError(f"{path.name} is an empty file (0 bytes).", REMEDY_REPLACE)
    if size > limits.max_bytes:
        raise AudioError(
            f"{path.name} has {size / 2**20:.0f} MiB; at most {limits.max_bytes / 2**20:.0f} MiB are read.",
            "Split the recording.",
        )


def _open(path: Path) -> soundfile.SoundFile:
    import soundfile

    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        if reason.startswith("File does not exist"):  # libsndfile's word for a file in which its MP3 decoder finds nothing
            reason = "no audio was found in it"
        raise AudioError(
            f"{path.name} is not audio that can be read ({reason}); expected WAV, FLAC, MP3, OGG/Vorbis or OGG/Opus.",
            REMEDY_REPLACE,
        ) from error


def _check_header(path: Path, file: soundfile.SoundFile, limits: AudioLimits) -> None:
    if not 1 <= file.channels <= limits.max_channels:
        raise AudioError(
            f"{path.name} declares {file.channels} channels; 1 to {limits.max_channels} are read.", REMEDY_REPLACE
        )
    if not limits.min_sample_rate_hz <= file.samplerate <= limits.max_sample_rate_hz:
        raise AudioError(
            f"{path.name} declares {file.samplerate} Hz; {limits.min_sample_rate_hz} to "
            f"{limits.max_sample_rate_hz} Hz are read.",
            REMEDY_REPLACE,
        )
    if file.frames >= UNKNOWN_FRAMES:
        raise AudioError(
            f"{path.name} declares no length, as a FLAC file does that was written into a pipe.",
            "Write it to a file, or as WAV.",
        )
    if file.frames / file.samplerate > limits.max_duration_s:
        raise _too_long(path, file.frames / file.samplerate, limits)


def _declared_frames(file: soundfile.SoundFile) -> float:
    """Frames that the header declares.

    libsndfile holds a WAV's header against the file's size, goes on with what is there, and tells the two only in its log. A
    size beyond 2 GiB there stands for "not known", as programs write it that cannot go back to the header.
    """
    told = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if told is None or not 0 < int(told[2]) < int(told[1]) < UNKNOWN_DATA_BYTES:
        return float(file.frames)
    return float(file.frames) * int(told[1]) / int(told[2])


def _too_long(path: Path, duration_s: float, limits: AudioLimits) -> AudioError:
    return AudioError(
        f"{path.name} is at least {duration_s:.0f} s long; at most {limits.max_duration_s:.0f} s are read.",
        "Split the recording.",
    )


def _resampled(path: Path, file: soundfile.SoundFile, sample_rate_hz: int, limits: AudioLimits) -> Iterator[FloatSamples]:
    """Yield mono blocks at the new rate; checks length and values on the way."""
    import soxr

    stream = None
    if file.samplerate != sample_rate_hz:
        stream = soxr.ResampleStream(file.samplerate, sample_rate_hz, 1, dtype="float32")
    read = 0
    for block in _mono_blocks(path, file):
        read += len(block)
        # The header may lie; what counts is what comes out.
        if read / file.samplerate > limits.max_duration_s:
            raise _too_long(path, read / file.samplerate, limits)
        if not np.isfinite(block).all():
            at = (read - len(block) + int(np.flatnonzero(~np.isfinite(block))[0])) / file.samplerate
            raise AudioError(f"{path.name} holds NaN or infinite samples (first at {at:.3f} s).", REMEDY_REPLACE)
        yield block if stream is None else stream.resample_chunk(block)
    if stream is not None and read:
        yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _mono_blocks(path: Path, file: soundfile.SoundFile) -> Iterator[FloatSamples]:
    for block in _blocks(path, file):
        yield block.mean(axis=1, dtype=np.float32) if block.shape[1] > 1 else block[:, 0]


def _blocks(path: Path, file: soundfile.SoundFile) -> Iterator[FloatSamples]:
    import soundfile

    frames = min(BLOCK_S * file.samplerate, BLOCK_VALUES // file.channels)
    while True:
        try:
            block = file.read(frames, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise AudioError(f"{path.name} cannot be decoded to its end ({error}).", REMEDY_REPLACE) from error
        if not len(block):
            return
        yield block
