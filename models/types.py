"""What engines take and give: the records that cross a process, a file or HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Task = Literal["asr", "tts", "translation"]


class Record(BaseModel):
    """Base of every record that leaves the process: frozen, and strict about what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Word(Record):
    """One spoken word as the engine heard it."""

    text: str
    """The word as written by the engine, without surrounding white space."""
    start_s: float
    """Start in seconds from the beginning of the recording."""
    end_s: float
    """End in seconds from the beginning of the recording."""
    probability: float | None = None
    """The engine's own probability of the word, in [0, 1]; None where the engine gives none."""


class Segment(Record):
    """A stretch of speech between two timestamps."""

    text: str
    """What was said in it, as written by the engine."""
    start_s: float
    """Start in seconds from the beginning of the recording."""
    end_s: float
    """End in seconds from the beginning of the recording."""
    words: tuple[Word, ...] = ()
    """Words with times, where the engine gives them."""
    avg_logprob: float | None = None
    """Mean log probability of the segment's tokens, natural logarithm."""
    no_speech_probability: float | None = None
    """The engine's probability that the segment holds no speech."""
    compression_ratio: float | None = None
    """UTF-8 bytes over zlib bytes; high values mean repetition (Radford et al. 2022, section 4.5)."""


class Transcript(Record):
    """What one engine heard in one recording, raw: no normalizer has touched it."""

    text: str
    """The whole text; the empty string means the engine heard no speech."""
    segments: tuple[Segment, ...] = ()
    """Segments in time order."""
    language: str | None = None
    """ISO 639-1 code that was given or detected."""
    confidence: float | None = None
    """Mean of the engine's own word probabilities, in [0, 1]; None where it gives none or heard nothing.

    Not calibrated: it ranks, it does not promise (see docs/metrics.md).
    """
    cost: float | None = None
    """What it cost by the card's price, in that price's currency; None where the card names none."""

    @property
    def words(self) -> tuple[Word, ...]:
        """All words of all segments, in time order."""
        return tuple(word for segment in self.segments for word in segment.words)


@dataclass(frozen=True, slots=True)
class Speech:
    """What one engine said. Samples leave a process as an audio file, so this is no `Record`."""

    samples: NDArray[np.float32]
    """Mono, float32 in [-1, 1], shape (n,)."""
    sample_rate_hz: int
    """Samples per second."""
    timings: tuple[Segment, ...] = ()
    """What is said when (s from the beginning), where the engine tells."""
    cost: float | None = None
    """What it cost by the card's price, in that price's currency; None where the card names none."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz
