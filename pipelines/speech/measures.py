"""All measures of one synthesised recording under stable names; docs/metrics.md says what each is."""

from __future__ import annotations

from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from models.errors import AudioError
from pipelines.normalize import find_normalizer
from pipelines.speech.intrusive import stoi
from pipelines.speech.mos import dnsmos, plcmos, warm_up
from pipelines.speech.pitch import pitch_range_semitones
from pipelines.speech.signal import active_speech, bandwidth_hz, clipped_share, loudness_lufs, silences
from pipelines.speech.speaker import SpeakerReference, speaker_similarity

__all__ = ["MEASURES_VERSION", "measure_speech", "warm_up"]

REVISION = "2"
"""Raised whenever the same recording may come out differently by a change of ours."""
PACKAGES = (
    "speechmos", "onnxruntime", "librosa", "soxr", "pyloudnorm", "praat-parselmouth", "pystoi", "torch", "scipy", "numpy",
)  # fmt: skip
"""Distributions that compute."""
SPOKEN_WORDS = {"de": "de", "es": "es"}
"""Language → normalizer that writes out what is read aloud; `basic` for all others."""


def _version() -> str:
    words = [f"words-{name}-{find_normalizer(name).version}" for name in ("basic", *SPOKEN_WORDS.values())]
    libraries = [f"{name}-{_installed(name)}" for name in PACKAGES]
    return "+".join((REVISION, *words, *libraries))


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


MEASURES_VERSION: str = _version()
"""Changes when a definition or a library that computes changes: measures of two versions are not compared."""


def measure_speech(
    samples: NDArray[np.float32],
    sample_rate_hz: int,
    text: str,
    language: str,
    reference: NDArray[np.float32] | None = None,
    speaker: SpeakerReference | None = None,
) -> dict[str, float]:
    """Measure one recording of speech.

    Args:
        samples: Mono, shape (n,), n ≥ 1, full scale is 1. What lies beyond is clipped, as any 16-bit file would.
        sample_rate_hz: Their rate: the voice's own, for resampling would hide clipping and bandwidth.
        text: What should be said.
        language: ISO 639-1 code of the text.
        reference: The same signal undisturbed, (n,), at the same rate; a reading by somebody else is none.
        speaker: Whom it should sound like.

    Returns:
        Measures by name, all finite. What cannot be measured is absent: of silence, all but its duration, that no speech
        is in it, and what listeners would vote.

    Raises:
        AudioError: There are no samples, some are not finite, the reference is not as long, or the speaker's recording
            cannot be used.
        LabError: A library of the extra ``tts`` is not installed.
    """
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise AudioError(
            f"A recording of shape {samples.shape} cannot be measured, or holds values that are not finite.",
            "Give mono samples, at least one.",
        )
    samples = np.clip(samples.astype(np.float32), -1.0, 1.0)
    words = spoken_words(text, language)
    found = {
        "duration_s": len(samples) / sample_rate_hz,
        "words": float(len(words)),
        "characters": float(sum(map(len, words))),
        **dnsmos(samples, sample_rate_hz),
        **_of_signal(samples, sample_rate_hz),
    }
    if found["characters"]:
        found["seconds_per_character"] = found["duration_s"] / found["characters"]
    if found["active_speech_s"]:
        found["speaking_rate"] = 60 * found["words"] / found["active_speech_s"]
    optional = {
        "plcmos": plcmos(samples, sample_rate_hz),
        "stoi": stoi(samples, reference, sample_rate_hz) if reference is not None else None,
        "speaker_similarity": speaker_similarity(samples, sample_rate_hz, speaker) if speaker is not None else None,
    }
    return found | {name: value for name, value in optional.items() if value is not None}


def spoken_words(text: str, language: str) -> list[str]:
    """Split a text into the words that a voice says, in scripts without spaces into characters."""
    return find_normalizer(SPOKEN_WORDS.get(language, "basic"))(text).split()


def _of_signal(samples: NDArray[np.float32], sample_rate_hz: int) -> dict[str, float]:
    """What needs no text; of a recording without speech, only that."""
    offset = float(samples.mean(dtype=np.float64))
    around_zero = (samples - offset).astype(np.float32)  # P.56 and roll-off are about signals without an offset
    speech = active_speech(around_zero, sample_rate_hz)
    found: dict[str, float | None] = {"dc_offset": abs(offset), "active_speech_s": 0.0}
    if speech is not None:
        found |= {
            "active_speech_s": speech.factor * len(samples) / sample_rate_hz,
            "loudness_lufs": loudness_lufs(samples, sample_rate_hz),
            "peak_dbfs": float(20 * np.log10(np.abs(samples).max())),
            "clipped_share": clipped_share(samples),
            "bandwidth_hz": bandwidth_hz(around_zero, sample_rate_hz),
            "pitch_range_semitones": pitch_range_semitones(around_zero, sample_rate_hz),
        }
        if (quiet := silences(around_zero, sample_rate_hz, speech)) is not None:
            found |= {
                "leading_silence_s": quiet.leading_s,
                "trailing_silence_s": quiet.trailing_s,
                "longest_pause_s": quiet.longest_pause_s,
            }
    return {name: value for name, value in found.items() if value is not None}
