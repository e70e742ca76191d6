"""A transcript as OpenAI's formats write it: json, text, srt, vtt, verbose_json, and the events of a stream.

What the engine does not tell is left out of ``verbose_json`` (``seek``, ``tokens``, and what a model lacks): a made-up
number would be taken for a measurement.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from models.calibration_map import CalibrationMap
from models.types import Segment, Transcript, Word
from serving.errors import invalid

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
MEDIA_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}
GRANULARITIES = ("segment", "word")


def verbose(
    transcript: Transcript,
    *,
    task: str,
    duration_s: float,
    granularities: Sequence[str],
    calibration: CalibrationMap | None,
    temperature: float | None,
    untested: Sequence[str] = (),
) -> dict[str, Any]:
    """Write ``verbose_json``.

    Beside OpenAI's fields: each word has the engine's own ``probability`` and, where there is a calibration map, the
    ``confidence`` it maps to; the transcript has the means of both (``confidence_raw``, ``confidence``), null where there is
    nothing to take them from.

    Args:
        transcript: As the engine gave it.
        task: ``transcribe`` or ``translate``.
        duration_s: Of the recording.
        granularities: ``segment``, ``word``, or both.
        calibration: Map of the words' probabilities.
        temperature: What was decoded at; None where that is not one number.
        untested: Options that make this decoding another than the one that was tested.

    Raises:
        ApiError: Word times are asked for and the model gave none.
    """
    answer: dict[str, Any] = {
        "task": task,
        "language": transcript.language,
        "duration": duration_s,
        "text": transcript.text,
        "confidence": confidence(transcript, calibration),
        "confidence_raw": transcript.confidence,
        "usage": {"type": "duration", "seconds": duration_s},
    }
    if untested:
        answer["untested"] = list(untested)
    if calibration:
        answer["calibration"] = {"words": calibration.n, "fitted_on": calibration.fitted_on}
    if "segment" in granularities:
        answer["segments"] = [_segment(i, segment, temperature) for i, segment in enumerate(transcript.segments)]
    if "word" in granularities:
        if transcript.text and not transcript.words:
            raise invalid("timestamp_granularities", "This model gives no times of words.", "unsupported_value")
        answer["words"] = [_word(word, calibration) for word in transcript.words]
    return answer


def confidence(transcript: Transcript, calibration: CalibrationMap | None) -> float | None:
    """Mean of the words' calibrated confidence; None without a map, or where no word has a probability."""
    raw = [word.probability for word in transcript.words if word.probability is not None]
    return _mean([calibration.apply(probability) for probability in raw]) if calibration else None


def subtitles(transcript: Transcript, form: str) -> str:
    """Write ``srt`` or ``vtt`` (https://www.w3.org/TR/webvtt1/).

    Raises:
        ApiError: The model gave text without times.
    """
    if transcript.text and not transcript.segments:
        raise invalid("response_format", f"This model gives no times, which {form} needs.", "unsupported_value")
    cues = [_cue(number, segment, form) for number, segment in enumerate(transcript.segments, 1)]
    return ("WEBVTT\n\n" if form == "vtt" else "") + "".join(f"{cue}\n\n" for cue in cues)


async def events(pieces: AsyncIterator[Transcript]) -> AsyncIterator[bytes]:
    """Write a transcript as server-sent events while its pieces come: deltas, which joined are the text, then the whole."""
    text = ""
    async with aclosing(pieces):  # type: ignore[type-var]  # an iterator of `serving.streams`, which is a generator
        async for piece in pieces:
            text += piece.text
            for delta in deltas(piece):
                yield _event({"type": "transcript.text.delta", "delta": delta})
    yield _event({"type": "transcript.text.done", "text": text})


def deltas(piece: Transcript) -> Iterator[str]:
    """Split a text at the ends of its segments; joined, the parts are the text."""
    at = 0
    for segment in piece.segments:
        found = piece.text.find(segment.text, at)
        if found >= 0:
            end = found + len(segment.text)
            yield piece.text[at:end]
            at = end
    if at < len(piece.text):
        yield piece.text[at:]


def _event(content: dict[str, str]) -> bytes:
    # JSON escapes line ends, so one "data:" line is always enough.
    return f"event: {content['type']}\ndata: {json.dumps(content)}\n\n".encode()


def _segment(number: int, segment: Segment, temperature: float | None) -> dict[str, Any]:
    told = {
        "temperature": temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_probability,
    }
    return {
        "id": number,
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        **{name: value for name, value in told.items() if value is not None},
    }


def _word(word: Word, calibration: CalibrationMap | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"word": word.text, "start": word.start_s, "end": word.end_s}
    if word.probability is not None:
        answer["probability"] = word.probability
        if calibration:
            answer["confidence"] = calibration.apply(word.probability)
    return answer


def _cue(number: int, segment: Segment, form: str) -> str:
    mark = "," if form == "srt" else "."
    times = f"{_time(segment.start_s, mark)} --> {_time(segment.end_s, mark)}"
    # A blank line would end the cue, and an arrow in the text would begin a new one.
    text = " ".join(segment.text.split()).replace("-->", "->")
    if form == "vtt":
        return f"{times}\n{text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}"
    return f"{number}\n{times}\n{text}"


def _time(seconds: float, mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
