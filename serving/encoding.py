"""Speech as bytes that can be sent while it is still being computed: wav, pcm, mp3, opus, flac.

The length is not known when the first byte leaves. WAV says 0xFFFFFFFF, as programs do that write into a pipe; MP3 and FLAC
are sent when they are whole: without the length in their head libsndfile, and so most of Python, misreads them.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import soundfile
    import soxr

FloatSamples = NDArray[np.float32]

PCM_RATE_HZ = 24_000
"""OpenAI's rate of ``pcm``, which cannot say it itself: a voice of another rate is resampled to it."""
CODEC_RATE_HZ = 24_000
CODEC_RATES_HZ = {"mp3": (16_000, 22_050, 24_000, 32_000, 44_100, 48_000), "opus": (8_000, 12_000, 16_000, 24_000, 48_000)}
"""Rates that the format has; a voice of another rate is resampled to `CODEC_RATE_HZ`."""
MEDIA_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "flac": "audio/flac", "wav": "audio/wav", "pcm": "audio/pcm"}
CONTAINERS = {"mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16")}
WHOLE = frozenset({"mp3", "flac"})
"""Formats whose length is written into the head at the end, so that nothing is sent before."""
FULL_SCALE = 32768
UNKNOWN = 0xFFFFFFFF


class Encoder(Protocol):
    """Takes samples in pieces, gives bytes as they are ready."""

    def add(self, samples: FloatSamples) -> bytes:
        """Encode more; may give nothing yet."""
        ...

    def end(self) -> bytes:
        """Give the rest."""
        ...


def encoder(form: str, sample_rate_hz: int) -> Encoder:
    """Make the encoder of a format of `MEDIA_TYPES` for speech of a rate."""
    if form in CONTAINERS:
        rates = CODEC_RATES_HZ.get(form)
        target = sample_rate_hz if rates is None or sample_rate_hz in rates else CODEC_RATE_HZ
        return _Resampled(_Container(form, target), sample_rate_hz, target)
    if form == "pcm":
        return _Resampled(_Pcm(b""), sample_rate_hz, PCM_RATE_HZ)
    return _Pcm(wav_head(sample_rate_hz))


def wav_head(sample_rate_hz: int) -> bytes:
    """Head of a WAV file with one channel of 16-bit samples, whose length is not known."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate_hz, sample_rate_hz * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", UNKNOWN)


class _Pcm:
    """16-bit little-endian samples after a head."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def add(self, samples: FloatSamples) -> bytes:
        head, self._head = self._head, b""
        # By ourselves: libsndfile multiplies by 32767 on the way out and divides by 32768 on the way in.
        return head + np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2").tobytes()

    def end(self) -> bytes:
        head, self._head = self._head, b""
        return head


class _Container:
    """A format that libsndfile writes."""

    def __init__(self, form: str, sample_rate_hz: int) -> None:
        import soundfile

        self._sink = _Sink()
        self._whole = form in WHOLE
        container, subtype = CONTAINERS[form]
        self._file: soundfile.SoundFile = soundfile.SoundFile(
            self._sink, "w", sample_rate_hz, 1, format=container, subtype=subtype
        )

    def add(self, samples: FloatSamples) -> bytes:
        self._file.write(samples)
        return b"" if self._whole else self._sink.take()

    def end(self) -> bytes:
        self._file.close()
        return self._sink.take()


class _Resampled:
    def __init__(self, inner: Encoder, source_hz: int, target_hz: int) -> None:
        import soxr

        self._inner = inner
        self._stream: soxr.ResampleStream | None = None
        if source_hz != target_hz:
            self._stream = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32")

    def add(self, samples: FloatSamples) -> bytes:
        return self._inner.add(samples if self._stream is None else self._stream.resample_chunk(samples))

    def end(self) -> bytes:
        rest = b""
        if self._stream is not None:
            rest = self._inner.add(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        return rest + self._inner.end()


class _Sink(io.RawIOBase):
    """A file whose beginning is sent before its end is written; changes to what has been sent are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._pending = bytearray()
        self._sent = 0
        self._at = 0

    def take(self) -> bytes:
        data = bytes(self._pending)
        self._sent += len(data)
        self._pending.clear()
        return data

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._sent + len(self._pending)}[whence]
        self._at = origin + offset
        return self._at

    def write(self, data: object) -> int:
        content = bytes(data)  # type: ignore[call-overload]  # a buffer of libsndfile
        begin = self._at - self._sent
        self._at += len(content)
        late = content[max(0, -begin) :]
        if late:
            begin = max(0, begin)
            self._pending[begin : begin + len(late)] = late
        return len(content)
