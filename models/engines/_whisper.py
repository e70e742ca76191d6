"""What the Whisper engines share: the options they both have, and the form of what they return.

faster-whisper began as a port of openai-whisper's ``transcribe``, so both name their options and results alike.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from models.errors import EngineError
from models.types import Record, Segment, Transcript, Word


class WhisperDecoding(Record):
    """Decoding options of every Whisper engine.

    The defaults are deterministic (greedy, one temperature), which the libraries' are not.
    """

    beam_size: int = Field(default=1, ge=1)
    """Beams at temperature 0; 1 is greedy."""
    patience: float = Field(default=1.0, gt=0)
    """Beam search goes on until ``beam_size * patience`` hypotheses are complete (arXiv:2204.05424)."""
    temperature: float | Annotated[tuple[float, ...], Field(min_length=1)] = 0.0
    """Several are tried in turn while a threshold below fails. Above 0 the engine samples: two runs may differ."""
    best_of: int = Field(default=5, ge=1)
    """Candidates when sampling."""
    compression_ratio_threshold: float | None = 2.4
    """Text that compresses better than this repeats itself: the next temperature is tried."""
    log_prob_threshold: float | None = -1.0
    """A mean log probability below this fails: the next temperature is tried; see also `no_speech_threshold`."""
    no_speech_threshold: float | None = 0.6
    """A window whose no-speech probability is above this, and that fails `log_prob_threshold`, is silence."""
    condition_on_previous_text: bool = False
    """Whether each 30-second window is prompted with the text of the one before."""
    initial_prompt: str | None = None
    """Text that the first window is prompted with: names, spelling."""
    suppress_blank: bool = True
    """Whether a window may not begin with white space or end at once."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of a window; None is the engine's own limit."""
    word_timestamps: bool = True
    """Whether words get times and probabilities."""
    hallucination_silence_threshold: float | None = None
    """With word times, silence longer than this (s) around a doubtful segment is skipped."""


def check_language(language: str | None, known: Collection[str]) -> None:
    """Refuse a language that the model does not know; the libraries would warn and write English.

    Raises:
        EngineError: `language` is not None and not one of `known`.
    """
    if language is not None and language not in known:
        raise EngineError(f"This model does not know the language {language!r}.", f"It knows: {', '.join(sorted(known))}.")


def check_translation(target: str, multilingual: bool) -> None:
    """Refuse what Whisper cannot translate: it writes English, and English-only models were trained to transcribe.

    Raises:
        EngineError: `target` is not ``en``, or the model is not multilingual.
    """
    if target != "en":
        raise EngineError(f"Whisper does not translate into {target!r}.", "It translates into: en.")
    if not multilingual:
        raise EngineError("This model knows English alone, so it cannot translate.", "Choose a multilingual model.")


def transcript_of(segments: Sequence[Mapping[str, Any]], language: str | None) -> Transcript:
    """Turn Whisper's segments into a transcript; those without text are left out.

    Args:
        segments: With ``text``, ``start`` and ``end`` (s), ``avg_logprob``, ``no_speech_prob``, ``compression_ratio`` and,
            where words were asked for, ``words``: each with ``word``, ``start``, ``end`` and ``probability``.
        language: As given or detected; None where nothing was heard.
    """
    kept = tuple(_segment(segment) for segment in segments if segment["text"].strip())
    probabilities = [word.probability for segment in kept for word in segment.words if word.probability is not None]
    return Transcript(
        text="".join(segment["text"] for segment in segments).strip(),
        segments=kept,
        language=language,
        confidence=sum(probabilities) / len(probabilities) if probabilities else None,
    )


def pieces_of(segments: Iterable[tuple[Mapping[str, Any], str | None]]) -> Iterator[Transcript]:
    """Turn segments into pieces of a transcript as they come; see `models.capabilities.StreamingTranscriber`.

    White space at the end of a segment waits for the next one, since a transcript ends without any.

    Args:
        segments: As `transcript_of` takes them, each with the language.
    """
    begun, held = False, ""
    for segment, language in segments:
        text = held + segment["text"]
        body = text.rstrip()
        held = text[len(body) :]
        if not begun:
            body, held = body.lstrip(), held if body else ""
        if body:
            begun = True
            yield transcript_of([segment], language).model_copy(update={"text": body})


def steering(prompt: str | None, temperature: float | None) -> dict[str, Any]:
    """Give the decoding options that a caller asks for; see `models.capabilities.SteerableTranscriber`.

    Raises:
        EngineError: The temperature is not within 0 and 1.
    """
    if temperature is not None and not 0 <= temperature <= 1:
        raise EngineError(f"Whisper does not decode at temperature {temperature:g}.", "Choose one from 0 to 1.")
    asked = {"initial_prompt": prompt, "temperature": temperature}
    return {name: value for name, value in asked.items() if value is not None}


def _segment(segment: Mapping[str, Any]) -> Segment:
    return Segment(
        text=segment["text"].strip(),
        start_s=segment["start"],
        end_s=segment["end"],
        words=tuple(
            Word(
                text=word["word"].strip(),
                start_s=word["start"],
                end_s=word["end"],
                probability=_probability(word["probability"]),
            )
            for word in segment.get("words") or ()
        ),
        avg_logprob=_finite(segment["avg_logprob"]),
        no_speech_probability=_probability(segment["no_speech_prob"]),
        compression_ratio=_finite(segment["compression_ratio"]),
    )


def _finite(value: float) -> float | None:
    # NaN is not JSON, and says no more than None.
    return float(value) if math.isfinite(value) else None


def _probability(value: float) -> float | None:
    # A mean of float32 probabilities can exceed 1 by rounding.
    return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else None
