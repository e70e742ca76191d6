"""What a server with the OpenAI API answers, and what becomes of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from pydantic import AliasChoices, BaseModel, Field, FiniteFloat

from models.engines._languages import code_of
from models.types import Segment, Transcript, Word


class AnsweredWord(BaseModel):
    """A word of ``verbose_json``; the probability is faster-whisper's servers' own."""

    word: str
    start: FiniteFloat
    end: FiniteFloat
    probability: float | None = None


class AnsweredSegment(BaseModel):
    """A segment of ``verbose_json``."""

    text: str
    start: FiniteFloat
    end: FiniteFloat
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None
    words: list[AnsweredWord] | None = None


class AnsweredTranscript(BaseModel):
    """``json`` has the text alone, ``verbose_json`` more. What else a server sends is not read."""

    text: str
    language: str | None = None
    segments: list[AnsweredSegment] | None = None
    words: list[AnsweredWord] | None = None
    confidence: float | None = None


class AnsweredVoice(BaseModel):
    """A voice, which servers name in several ways."""

    name: str = Field(validation_alias=AliasChoices("id", "voice_id", "voice", "name"))


class AnsweredVoices(BaseModel):
    """The answer of ``GET /audio/voices``, which is no part of OpenAI's API but common."""

    voices: list[str | AnsweredVoice]

    @property
    def names(self) -> list[str]:
        """The voices by name."""
        return [voice if isinstance(voice, str) else voice.name for voice in self.voices]


def transcript_of(answer: AnsweredTranscript, language: str | None, cost: float | None) -> Transcript:
    """Turn an answer into a transcript; what the server does not tell stays untold.

    Args:
        answer: As it came.
        language: What was asked for; goes before what the server says.
        cost: Of the call.
    """
    segments = _segments(answer)
    probabilities = [word.probability for segment in segments for word in segment.words if word.probability is not None]
    mean = sum(probabilities) / len(probabilities) if probabilities else None
    return Transcript(
        text=answer.text.strip(),
        segments=segments,
        language=language or code_of(answer.language),
        confidence=_probability(answer.confidence) if answer.confidence is not None else mean,
        cost=cost,
    )


def _segments(answer: AnsweredTranscript) -> tuple[Segment, ...]:
    loose = list(answer.words or ())
    segments = []
    for number, segment in enumerate(answer.segments or (), 1):
        words = segment.words
        if words is None:  # OpenAI lists them beside the segments
            last = number == len(answer.segments or ())
            words = loose if last else list(itertools.takewhile(_begins_before(segment.end), loose))
            loose = loose[len(words) :]
        if segment.text.strip():
            segments.append(_segment(segment, words))
    if loose and not segments:
        whole = AnsweredSegment(text=answer.text, start=loose[0].start, end=loose[-1].end)
        segments.append(_segment(whole, loose))
    return tuple(segments)


def _begins_before(end_s: float) -> Callable[[AnsweredWord], bool]:
    return lambda word: word.start < end_s


def _segment(segment: AnsweredSegment, words: Sequence[AnsweredWord]) -> Segment:
    return Segment(
        text=segment.text.strip(),
        start_s=segment.start,
        end_s=segment.end,
        words=tuple(
            Word(text=word.word.strip(), start_s=word.start, end_s=word.end, probability=_probability(word.probability))
            for word in words
        ),
        avg_logprob=_finite(segment.avg_logprob),
        no_speech_probability=_probability(segment.no_speech_prob),
        compression_ratio=_finite(segment.compression_ratio),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _probability(value: float | None) -> float | None:
    return min(max(value, 0.0), 1.0) if value is not None and math.isfinite(value) else None
