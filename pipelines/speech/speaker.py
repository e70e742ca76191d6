"""Speaker similarity: how alike two recordings sound as voices, whatever they say.

The cosine of two embeddings of the GE2E encoder (Wan et al. 2018, with Resemblyzer's weights). On the starter corpus, pairs
of recordings of one speaker have 0.73 to 0.98 and of two speakers 0.31 to 0.90, overlapping: see docs/metrics.md.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import AudioError
from models.types import Record
from pipelines.speech.libraries import library
from pipelines.speech.signal import FloatSamples, active_speech, silences

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES, FFT_SAMPLES, MEL_CHANNELS = 160, 400, 40
"""Mel frames: 25 ms of samples, every 10 ms."""
WINDOW_FRAMES, STEP_FRAMES = 160, 77
"""The encoder hears windows of 1.6 s; 1.3 of them begin in a second."""
MIN_COVERAGE = 0.75
"""Share of a last window that must be speech and not padding, or it is left out."""
LOUDNESS_DBFS = -30.0
"""RMS to which quieter recordings are raised."""
MAX_REFERENCE_S = 300.0
"""A reference's longest useful length: the embedding of a voice settles within seconds."""


class SpeakerReference(Record):
    """Whom a voice should sound like."""

    recording: Path
    """A recording of that speaker."""
    encoder: Path
    """The encoder's weights (`models.speaker_encoder`)."""


def speaker_similarity(samples: FloatSamples, sample_rate_hz: int, reference: SpeakerReference) -> float | None:
    """Measure how much a recording sounds like the speaker of another one.

    Args:
        samples: Shape (n,).
        sample_rate_hz: Their rate.
        reference: Whom it should sound like.

    Returns:
        The cosine of the two embeddings: 0 to 1, for the encoder's numbers are never negative. None without speech.

    Raises:
        AudioError: The reference cannot be read, or holds no speech.
        WeightsError: The encoder's weights cannot be read.
        LabError: librosa is not installed.
    """
    mine = embedding(samples, sample_rate_hz, reference.encoder)
    if mine is None:
        return None
    theirs = reference_embedding(reference.recording, reference.encoder)
    return min(1.0, float(np.dot(mine, theirs)))


@lru_cache(maxsize=64)
def reference_embedding(recording: Path, encoder: Path) -> NDArray[np.float32]:
    """Embed a reference, once a process; arguments and errors as for `speaker_similarity`."""
    found = embedding(reference_samples(recording), SAMPLE_RATE_HZ, encoder)
    assert found is not None  # reference_samples has made sure
    return found


def reference_samples(recording: Path) -> FloatSamples:
    """Decode a reference.

    Raises:
        AudioError: It cannot be read, is longer than five minutes, or holds no speech.
    """
    from models.audio import AudioLimits, decode

    samples = decode(recording, sample_rate_hz=SAMPLE_RATE_HZ, limits=AudioLimits(max_duration_s=MAX_REFERENCE_S)).samples
    if _trimmed(samples, SAMPLE_RATE_HZ) is None:
        raise AudioError(
            f"{recording.name} holds no speech, so it cannot say whom a voice should sound like.",
            "Give a recording of some seconds of that speaker.",
        )
    return samples


def embedding(samples: FloatSamples, sample_rate_hz: int, encoder: Path) -> NDArray[np.float32] | None:
    """Embed the voice of one recording: mean of its windows' embeddings, of length 1.

    Silence before and after the speech is cut off first (Resemblyzer cuts with WebRTC's voice detector, and pauses too).

    Args:
        samples: Shape (n,).
        sample_rate_hz: Their rate.
        encoder: The encoder's weights.

    Returns:
        Shape (256,); None without speech.
    """
    import soxr

    speech = _trimmed(samples, sample_rate_hz)
    if speech is None:
        return None
    heard = soxr.resample(speech, sample_rate_hz, SAMPLE_RATE_HZ)
    return embed(heard * _gain(heard), encoder)


def embed(samples: FloatSamples, encoder: Path) -> NDArray[np.float32]:
    """Embed samples at 16 kHz as they are, as Resemblyzer's ``embed_utterance`` does; (n,) → (256,)."""
    starts = _window_starts(len(samples))
    padded = np.pad(samples, (0, max(0, (starts[-1] + WINDOW_FRAMES) * HOP_SAMPLES - len(samples))))
    frames = (
        library("librosa")
        .feature.melspectrogram(
            y=padded.astype(np.float32), sr=SAMPLE_RATE_HZ, n_fft=FFT_SAMPLES, hop_length=HOP_SAMPLES, n_mels=MEL_CHANNELS
        )
        .T.astype(np.float32)
    )
    windows = np.stack([frames[start : start + WINDOW_FRAMES] for start in starts])
    mean = _load(encoder).embed(windows).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


@lru_cache(maxsize=1)
def _load(encoder: Path) -> Any:
    from models.engines.ge2e import SpeakerEncoder

    return SpeakerEncoder(encoder)


def _window_starts(samples: int) -> list[int]:
    """First frames of the windows; the last is kept where enough of it is speech, and the first always."""
    frames = -(-(samples + 1) // HOP_SAMPLES)
    starts = list(range(0, max(1, frames - WINDOW_FRAMES + STEP_FRAMES + 1), STEP_FRAMES))
    covered = (samples - starts[-1] * HOP_SAMPLES) / (WINDOW_FRAMES * HOP_SAMPLES)
    return starts[:-1] if covered < MIN_COVERAGE and len(starts) > 1 else starts


def _trimmed(samples: FloatSamples, sample_rate_hz: int) -> FloatSamples | None:
    around_zero = (samples - samples.mean(dtype=np.float64)).astype(np.float32)
    speech = active_speech(around_zero, sample_rate_hz)
    quiet = silences(around_zero, sample_rate_hz, speech) if speech is not None else None
    if quiet is None:
        return None
    end = len(samples) - round(quiet.trailing_s * sample_rate_hz)
    trimmed: FloatSamples = around_zero[round(quiet.leading_s * sample_rate_hz) : end]
    return trimmed


def _gain(samples: FloatSamples) -> np.float32:
    """Factor that raises a quiet recording to the loudness that the encoder was trained at; loud ones stay."""
    level = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    return np.float32(max(1.0, 10 ** (LOUDNESS_DBFS / 20) / level))
