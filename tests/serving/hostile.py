"""Two hundred uploads that no service should take: a table made from a seed, the same in every run."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import soundfile

COUNT = 200
SEED = 20261125
MODEL = "faster-whisper-tiny.en"
RATE_HZ = 16_000
HOUR_S = 3600
MAX_UPLOAD_BYTES = 2 * 2**20
MAX_AUDIO_S = 60
MAX_UPLOAD_S = 3
"""Limits of the service that the table is for: small, so that going beyond them is quick."""
BOUNDARY = "edge"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Upload:
    """One request."""

    kind: str
    """Which sort of hostility, for the count."""
    name: str
    body: bytes
    content_type: str = MULTIPART
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    """Sent without a declared length."""
    never_ends: bool = False
    """The declared length is one byte more than what is sent, and the connection stays open."""


def part(name: str, value: bytes, filename: str | None = None, extra: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{extra}\r\n'.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def with_file(data: bytes, filename: str = "a.wav", **fields: str) -> bytes:
    named = {"model": MODEL} | fields
    return form(*(part(k, v.encode("utf-8", "surrogatepass")) for k, v in named.items()), part("file", data, filename))


def encoded(samples: np.ndarray, rate: int, form_: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form_, subtype=subtype)
    return file.getvalue()


def noise(seconds: float, rate: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(SEED).uniform(-0.3, 0.3, (int(seconds * rate), channels))


def wav(seconds: float = 1.0, channels: int = 1) -> bytes:
    return encoded(noise(seconds, channels=channels), RATE_HZ, "WAV", "PCM_16")


def patched(data: bytes, *changes: tuple[int, str, int]) -> bytes:
    """Write numbers into a head: (offset, struct's format, value)."""
    content = bytearray(data)
    for at, form_, value in changes:
        struct.pack_into(form_, content, at, value)
    return bytes(content)


def silence(seconds: int, rate: int, channels: int, form_: str, subtype: str) -> bytes:
    """Silence, which packs to next to nothing."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, channels, format=form_, subtype=subtype) as out:
        block = np.zeros((rate * 10, channels), np.int16)
        for _ in range(seconds // 10):
            out.write(block)
    return file.getvalue()


def unknown_length(flac: bytes) -> bytes:
    """A FLAC whose head says 0 samples, which means "not known": what comes out is all there is to count."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def truncated() -> Iterator[tuple[str, bytes]]:
    """Files that were cut: those that say how long they should be, and those cut in their head."""
    whole = {
        "wav16": wav(3.0),
        "wav24": encoded(noise(3.0), RATE_HZ, "WAV", "PCM_24"),
        "float": encoded(noise(3.0), RATE_HZ, "WAV", "FLOAT"),
        "flac": encoded(noise(3.0), RATE_HZ, "FLAC", "PCM_16"),
    }
    for (name, data), share in itertools.product(whole.items(), (0.05, 0.2, 0.4, 0.6, 0.75)):
        yield f"{name} at {share:.0%}", data[: int(len(data) * share)]
    for name, data in whole.items():
        for size in (1, 4, 12, 20, 36):
            yield f"{name} after {size} bytes", data[:size]
    ogg = encoded(noise(1.0), RATE_HZ, "OGG", "VORBIS")
    opus = encoded(noise(1.0), RATE_HZ, "OGG", "OPUS")
    for size in (4, 27, 60):
        yield f"vorbis after {size} bytes", ogg[:size]
        yield f"opus after {size} bytes", opus[:size]


def lying_heads() -> Iterator[tuple[str, bytes]]:
    """Heads that say what is not so. Offsets are those of a WAV with a head of 44 bytes."""
    honest = wav()
    for channels in (0, 9, 17, 255, 1024, 65535):
        yield f"{channels} channels", patched(honest, (22, "<H", channels))
    for rate in (0, 1, 100, 3999, 200_000, 2**31 - 1, 2**32 - 1):
        yield f"{rate} Hz", patched(honest, (24, "<I", rate))
    for bits in (0, 33, 65, 255, 65535):
        yield f"{bits} bits", patched(honest, (34, "<H", bits))
    for code in (0, 0x1234, 0xFFFF, 0x2000, 0x0161):
        yield f"codec {code:#06x}", patched(honest, (20, "<H", code))
    for size in (0, 4, 15, 2**20, 2**31, 2**32 - 1):
        yield f"a format chunk of {size} bytes", patched(honest, (16, "<I", size))
    for seconds in (2, 10, 300):
        yield f"{seconds} s declared", patched(honest, (40, "<I", seconds * RATE_HZ * 2))
    yield "no samples declared", patched(honest[:44], (40, "<I", 0))
    flac = encoded(noise(1.0), RATE_HZ, "FLAC", "PCM_16")
    for bits in (0x0F, 0x01):
        yield f"flac with {bits:#x} billions of samples", flac[:21] + bytes([flac[21] | bits]) + flac[22:]
    yield "not a number", encoded(np.full((RATE_HZ, 1), np.nan), RATE_HZ, "WAV", "FLOAT")
    yield "infinite", encoded(np.full((RATE_HZ, 1), np.inf), RATE_HZ, "WAV", "DOUBLE")


def ten_hours() -> Iterator[tuple[str, bytes]]:
    """A second of sound under a head that says ten hours and more."""
    for subtype, width in (("PCM_16", 2), ("PCM_24", 3), ("PCM_32", 4), ("FLOAT", 4)):
        data = encoded(noise(1.0), RATE_HZ, "WAV", subtype)
        at = data.index(b"data") + 4
        for hours in (2, 5, 8):
            yield f"{hours} h of {subtype}", patched(data, (at, "<I", hours * HOUR_S * RATE_HZ * width))
    eight = encoded(noise(1.0, 8_000), 8_000, "WAV", "PCM_U8")
    yield "10 h at 8 kHz", patched(eight, (eight.index(b"data") + 4, "<I", 10 * HOUR_S * 8_000))
    yield "10 h of 16 bits", patched(wav(), (40, "<I", 10 * HOUR_S * RATE_HZ * 2))
    yield "18 h of 16 bits", patched(wav(), (40, "<I", 18 * HOUR_S * RATE_HZ * 2))


def bombs() -> Iterator[tuple[str, bytes]]:
    """Little on the wire, much when unpacked."""
    for rate, channels, seconds in ((16_000, 1, 10 * HOUR_S // 10), (48_000, 2, 600), (192_000, 8, 120), (96_000, 6, 70)):
        flac = silence(seconds, rate, channels, "FLAC", "PCM_16")
        yield f"flac {channels} channels of {rate} Hz, {seconds} s", flac
        yield f"flac {channels} channels of {rate} Hz, {seconds} s, unknown length", unknown_length(flac)
    for form_, subtype in (("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
        yield f"{subtype} of 80 s", silence(80, RATE_HZ, 1, form_, subtype)
    zeros = bytes(20 * 2**20)
    for name, pack in (("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lambda data: lzma.compress(data, preset=0))):
        yield name, pack(zeros)
    yield "zip", zipped({"a.wav": zeros})
    yield "zip in zip", zipped({f"{i}.zip": zipped({"a.wav": zeros[: 2**20]}) for i in range(20)})
    yield "gzip of gzip", gzip.compress(gzip.compress(zeros))


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def wrong_types() -> Iterator[tuple[str, bytes]]:
    """What is no audio."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("../../etc/cron.d/evil")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    entities = b"".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">'.encode() for i in range(1, 10))
    yield "empty", b""
    yield "one byte", b"\0"
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(1000)
    yield "jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(1000)
    yield "pdf", b"%PDF-1.7\n" + b"1 0 obj\n" * 200
    yield "elf", b"\x7fELF\x02\x01\x01" + bytes(1000)
    yield "html", b"<!doctype html><script>alert(1)</script>" * 20
    yield "entities", b'<!DOCTYPE x [<!ENTITY l0 "lol">' + entities + b"]><x>&l9;</x>"
    yield "playlist", b"#EXTM3U\nfile:///etc/passwd\nhttp://127.0.0.1:1/x\n"
    yield "pickle", pickle.dumps({"a": list(range(1000))})
    yield "sqlite", b"SQLite format 3\0" + bytes(1000)
    yield "tar", tar.getvalue()
    yield "script", b"#!/bin/sh\nrm -rf /\n"
    yield "utf-16", "RIFF WAVE".encode("utf-16") * 50
    yield "riff of another form", b"RIFF" + struct.pack("<I", 1000) + b"AVI " + bytes(1000)
    yield "midi", b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk" + bytes(200)
    yield "matroska", b"\x1a\x45\xdf\xa3" + bytes(1000)
    yield "mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(1000)
    yield "zeros", bytes(100_000)
    yield "ones", b"\xff" * 100_000


def forms() -> Iterator[Upload]:
    """Forms that are broken, huge, or not what was asked for."""
    clip, model = part("file", wav(), "a.wav"), part("model", MODEL.encode())

    def bad(name: str, body: bytes, content_type: str = MULTIPART, **more: object) -> Upload:
        return Upload("form", name, body, content_type, **more)  # type: ignore[arg-type]

    yield bad("100 fields", form(clip, model, *(part(f"f{i}", b"x") for i in range(100))))
    yield bad("20,000 fields", form(model, *(part(f"f{i}", b"") for i in range(20_000))))
    yield bad("1,000 files", form(model, *(part("file", b"x", f"{i}.wav") for i in range(1000))))
    yield bad("a field of 1 MiB", form(clip, part("model", b"m" * 2**20)))
    yield bad("a field's name of 100 KiB", form(clip, model, part("n" * 100_000, b"x")))
    yield bad("a part with 10,000 headers", form(clip, part("model", b"x", extra="X-A: b\r\n" * 10_000)))
    yield bad("a part's header of 500 KiB", form(clip, part("model", b"x", extra=f"X-A: {'b' * 500_000}\r\n")))
    yield bad("a boundary of 60 KiB", b"x", f"multipart/form-data; boundary={'b' * 60_000}")
    yield bad("no boundary", form(clip, model), "multipart/form-data")
    yield bad("an empty boundary", form(clip, model), "multipart/form-data; boundary=")
    yield bad("another boundary", form(clip, model), "multipart/form-data; boundary=other")
    yield bad("no end", (clip + model)[:-30])
    yield bad("no parts", form())
    yield bad("nothing", b"")
    yield bad("no file", form(model))
    yield bad("no model", form(clip))
    yield bad("a file that is text", form(model, part("file", b"hello")))
    yield bad("a model that is a file", form(clip, part("model", MODEL.encode(), "m.txt")))
    yield bad("two models", form(clip, model, model))
    yield bad("two files", form(clip, clip, model))
    yield bad("an unnamed part", form(clip, model, f"--{BOUNDARY}\r\n\r\nx\r\n".encode()))
    yield bad("a nested form", form(clip, part("model", form(part("x", b"y")), extra="Content-Type: multipart/mixed\r\n")))
    yield bad("json", b'{"model": "x"}', "application/json")
    yield bad("deep json", b"[" * 100_000, "application/json")
    yield bad("urlencoded", b"model=x&file=y", "application/x-www-form-urlencoded")
    yield bad("a sound as it is", wav(), "audio/wav")
    yield bad("no type", form(clip, model), "")
    yield bad("gzip that is announced", gzip.compress(with_file(bytes(20 * 2**20))), headers={"Content-Encoding": "gzip"})
    yield bad("beyond the limit", with_file(bytes(3 * 2**20)))
    yield bad("beyond the limit, not declared", with_file(bytes(3 * 2**20)), chunked=True)
    yield bad("beyond the limit by fields", form(clip, model, *(part(f"f{i}", b"x" * 60_000) for i in range(60))))
    yield bad("a file that never ends", with_file(wav()), never_ends=True)
    yield bad("a form that never begins", b"", never_ends=True)


NAMES = (
    "../../../../etc/passwd", "..\\..\\windows\\system32\\a.dll", "/etc/shadow", "/dev/zero", "/proc/self/mem", "C:\\a.wav",
    "a" * 5000, "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "file:///etc/passwd", "|id", "$(id).wav", "; rm -rf .wav", "a\\\0b.wav",
    "\u202egpj.wav", "CON",
)  # fmt: skip
FIELDS: Sequence[tuple[str, str]] = (
    ("model", "../../etc/passwd"), ("model", "x" * 60_000), ("model", "a\0b"), ("language", "../en"),
    ("language", "x" * 9000), ("temperature", "nan"), ("temperature", "1e999"), ("temperature", "0; drop"),
    ("response_format", "../json"), ("response_format", "pickle"), ("stream", "maybe"),
    ("timestamp_granularities[]", "byte"), ("surprise", "1"), ("__proto__", "x"), ("file", "text"),
)  # fmt: skip


def table() -> list[Upload]:
    """Make the table; what is left of `COUNT` is bytes drawn at random."""
    uploads: list[Upload] = []
    makers: dict[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
        "truncated": truncated, "lying head": lying_heads, "ten hours": ten_hours, "bomb": bombs, "wrong type": wrong_types,
    }  # fmt: skip
    for kind, make in makers.items():
        uploads += [Upload(kind, name, with_file(data)) for name, data in make()]
    uploads += forms()
    uploads += [Upload("path", name[:60], with_file(b"no audio " * 50, name)) for name in NAMES]
    uploads += [Upload("field", f"{name}={value[:40]}", with_file(wav(), **{name: value})) for name, value in FIELDS]
    draw = random.Random(SEED)
    while len(uploads) < COUNT:
        size = draw.choice((10, 1000, 50_000, 500_000))
        uploads.append(Upload("random", f"{size} bytes, number {len(uploads)}", with_file(draw.randbytes(size))))
    assert len(uploads) == COUNT, len(uploads)
    return uploads
