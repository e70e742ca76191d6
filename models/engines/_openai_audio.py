"""Recordings as they are sent, and speech as it comes: raw samples, or a WAV file whose length nobody knows yet."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.audio import SAMPLE_RATE_HZ
from models.errors import EngineError

FULL_SCALE = 32768
"""Of 16-bit samples."""
MAX_HEAD_BYTES = 64 * 1024
"""A WAV file's samples begin before this."""
STREAMED = 0x7FFF0000
"""Lengths from here on are not meant: what a program writes that does not know the length."""
PCM, EXTENSIBLE = 1, 0xFFFE
"""WAVE_FORMAT_PCM, and WAVE_FORMAT_EXTENSIBLE, where the real format follows in the chunk."""


def packed(samples: NDArray[np.float32], form: str) -> bytes:
    """Write samples as a 16-bit FLAC or WAV file at 16 kHz; those that were 16-bit before come out unchanged."""
    import soundfile

    file = io.BytesIO()
    # By ourselves: libsndfile multiplies by 32767 on the way out and divides by 32768 on the way in.
    whole = np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    soundfile.write(file, whole, SAMPLE_RATE_HZ, format=form.upper(), subtype="PCM_16")
    return file.getvalue()


def samples_of(blocks: Iterator[bytes]) -> Iterator[NDArray[np.float32]]:
    """Turn 16-bit little-endian samples into floats as they come, shape (n,), in [-1, 1)."""
    odd = b""
    for block in blocks:
        data = odd + block
        even = len(data) // 2 * 2
        data, odd = data[:even], data[even:]
        if data:
            yield np.frombuffer(data, "<i2").astype(np.float32) / np.float32(FULL_SCALE)


def open_wav(blocks: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
    """Read the head of a WAV file that comes piece by piece.

    Libraries want the file's length, which a server that is still speaking does not know: it writes 0 or a very large one.

    Returns:
        The sample rate in Hz, and the samples' bytes.

    Raises:
        EngineError: It is no WAV file of one channel with 16-bit samples.
    """
    head, at, rate = b"", 12, 0
    for block in blocks:
        head += block
        if len(head) > MAX_HEAD_BYTES + len(block) or not _begins_as_wav(head):
            break
        while len(head) >= at + 8:
            name, size = struct.unpack_from("<4sI", head, at)
            if name == b"data" and rate:
                return rate, _cut(itertools.chain([head[at + 8 :]], blocks), size)
            if len(head) < at + 8 + size:
                break
            if name == b"fmt ":
                rate = _rate(head[at + 8 : at + 8 + size])
            at += 8 + size + size % 2  # chunks begin at even places
    raise EngineError(
        f"What the server says is no WAV file (it begins {head[:16]!r}).", "Set `audio_format: pcm`, or check the server."
    )


def _begins_as_wav(head: bytes) -> bool:
    return b"RIFF".startswith(head[:4]) and b"WAVE".startswith(head[8:12])


def _rate(form: bytes) -> int:
    if len(form) < 16:
        raise EngineError("The server's WAV file does not say its format.", "Set `audio_format: pcm`.")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack_from("<H", form, 24)
    if (tag, channels, bits) != (PCM, 1, 16) or not rate:
        raise EngineError(
            f"The server's WAV file has {channels} channels of {bits} bits at {rate} Hz (format {tag}); "
            f"expected one channel of 16 bits (format {PCM}).",
            "Set `audio_format: pcm`, if the server has that.",
        )
    return int(rate)


def _cut(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Leave out what follows the samples, where it is known how many there are."""
    if not 0 < size < STREAMED:
        yield from blocks
        return
    for block in blocks:
        yield block[:size]
        size = max(0, size - len(block))
