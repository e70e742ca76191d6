"""Through a codec and back, by libsndfile's own encoders (LAME, libopus, G.711)."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np

from models.errors import AudioError
from pipelines.degrade.level import Samples

OPUS_MIN_BPS, OPUS_MAX_BPS = 6_000, 256_000
"""What libsndfile's compression level from 1 to 0 means for one channel of Opus."""
OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
MP3_LAYOUTS = (
    (32_000, 32, (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
    (16_000, 8, (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    (8_000, 8, (8, 16, 24, 32, 40, 48, 56, 64)),
)
"""From this sampling rate on: lowest and all bit rates in kbit/s (MPEG-1, 2 and 2.5, layer III)."""

MP3_LEVEL_MAX = 0.999
"""libsndfile refuses 1 for the lowest bit rate, and takes what rounds to it."""
MP3_DELAY = 576 + 529
"""Samples by which LAME's encoder and a decoder after it are late, where the frames are too small for the tag that tells."""


def transcode(samples: Samples, rate_hz: int, codec: Literal["mp3", "opus"], kbps: float) -> tuple[Samples, float]:
    """Encode and decode again.

    Args:
        samples: Mono, (n,).
        rate_hz: One that the codec takes.
        codec: Which.
        kbps: Bit rate to aim at.

    Returns:
        As many samples as before, in time with them; and the bit rate of the encoded bytes in kbit/s.

    Raises:
        AudioError: The codec has no such bit rate at this sampling rate.
    """
    if codec == "mp3":
        options: dict[str, Any] = {
            "format": "MP3",
            "subtype": "MPEG_LAYER_III",
            "bitrate_mode": "CONSTANT",
            "compression_level": _mp3_level(rate_hz, kbps),
        }
    else:
        if rate_hz not in OPUS_RATES_HZ:
            raise AudioError(f"Opus takes no {rate_hz} Hz.", f"It takes {', '.join(map(str, OPUS_RATES_HZ))} Hz.")
        level = 1.0 - (1000.0 * kbps - OPUS_MIN_BPS) / (OPUS_MAX_BPS - OPUS_MIN_BPS)
        options = {"format": "OGG", "subtype": "OPUS", "compression_level": float(np.clip(level, 0, 1))}
    return through(samples, rate_hz, **options)


def compand(samples: Samples, rate_hz: int, law: Literal["a-law", "mu-law"]) -> Samples:
    """Code with the 8 bits of ITU-T G.711 and decode again."""
    return through(samples, rate_hz, format="WAV", subtype="ALAW" if law == "a-law" else "ULAW")[0]


def through(samples: Samples, rate_hz: int, **options: Any) -> tuple[Samples, float]:
    """Write and read again by libsndfile with these options; see `transcode` for what comes back."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1), rate_hz, **options)
    encoded = buffer.tell()
    buffer.seek(0)
    back, _ = soundfile.read(buffer, dtype="float64")
    if options["format"] == "MP3" and len(back) > len(samples):
        back = back[MP3_DELAY:]
    out = np.zeros(len(samples))
    kept = min(len(out), len(back))
    out[:kept] = back[:kept]
    return out, encoded * 8 / 1000 / max(len(samples) / rate_hz, 1e-9)


def _mp3_level(rate_hz: int, kbps: float) -> float:
    for from_hz, low, rates in MP3_LAYOUTS:
        if rate_hz >= from_hz:
            high = rates[-1]
            if kbps not in rates:
                raise AudioError(
                    f"MP3 at {rate_hz} Hz has no {kbps:g} kbit/s.", f"It has {', '.join(map(str, rates))} kbit/s."
                )
            return min(float((high - kbps) / (high - low)), MP3_LEVEL_MAX)
    raise AudioError(f"MP3 takes no {rate_hz} Hz.", "It takes 8000 Hz and more.")
