"""``POST /v1/audio/transcriptions`` and ``/v1/audio/translations``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from models.audio import Audio
from models.calibration_map import CalibrationMap
from models.engine import decoding_of
from models.errors import EngineError
from serving.disconnect import unless_gone
from serving.ears import Asked, refusal
from serving.errors import invalid, unsupported
from serving.formats import FORMATS, GRANULARITIES, MEDIA_TYPES, events, subtitles, verbose
from serving.records import record_of
from serving.served import ServedModel
from serving.service import Service
from serving.streams import Produced
from serving.uploads import Form

TRANSCRIPTION_FIELDS = frozenset(
    {"model", "language", "prompt", "temperature", "response_format", "timestamp_granularities", "stream"}
)
TRANSLATION_FIELDS = frozenset({"model", "prompt", "temperature", "response_format"})
UNTESTED = "X-Modellab-Untested"
"""Response header: options by which this answer is none of those that the gate saw."""
_TEXT = {"type": "string"}
_PROPERTIES: Mapping[str, Any] = {
    "file": {"type": "string", "format": "binary"},
    "model": _TEXT,
    "language": {"type": "string", "description": "ISO 639-1 code"},
    "prompt": {"type": "string", "description": "Text that comes before the recording: names, spelling; not tested"},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1, "description": "Other than the card's: not tested"},
    "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
    "timestamp_granularities": {"type": "array", "items": {"type": "string", "enum": list(GRANULARITIES)}},
    "stream": {"type": "boolean", "default": False},
}


def router(service: Service) -> APIRouter:
    """The two endpoints on a service."""
    routes = APIRouter(tags=["audio"])

    @routes.post("/v1/audio/transcriptions", response_class=Response, openapi_extra=_described(TRANSCRIPTION_FIELDS))
    async def transcribe(request: Request) -> Response:
        """Write down what was said."""
        return await _hear(service, request, "asr")

    @routes.post("/v1/audio/translations", response_class=Response, openapi_extra=_described(TRANSLATION_FIELDS))
    async def translate(request: Request) -> Response:
        """Write down in English what was said in another language."""
        return await _hear(service, request, "translation")

    return routes


async def _hear(service: Service, request: Request, task: Literal["asr", "translation"]) -> Response:
    known = TRANSCRIPTION_FIELDS if task == "asr" else TRANSLATION_FIELDS
    record = record_of(request)
    with ExitStack() as place:
        place.enter_context(service.queue.place())
        form = await service.uploads.read(request, known)
        fields, audio = form.fields, form.audio
        model = service.model(fields.get("model"), task)
        record.model, record.audio_s = model.name, audio.duration_s
        wanted, stream, granularities = _wanted(form)
        check_language(model, fields.get("language"))
        asked = Asked(model, task, fields.get("language"), **decoding_asked(model, fields))
        headers = {UNTESTED: ", ".join(asked.untested)} if asked.untested else {}
        if stream:
            return await _streamed(service, request, asked, audio, place.pop_all(), headers)
        transcript = await unless_gone(request, service.ears.hear(asked, audio.samples))
    if wanted == "json":
        answer = {"text": transcript.text, "usage": {"type": "duration", "seconds": audio.duration_s}}
        return JSONResponse(answer, headers=headers)
    if wanted == "text":
        return Response(f"{transcript.text}\n", media_type=MEDIA_TYPES[wanted], headers=headers)
    if wanted in MEDIA_TYPES:
        return Response(subtitles(transcript, wanted), media_type=MEDIA_TYPES[wanted], headers=headers)
    answer = verbose(
        transcript,
        task="transcribe" if task == "asr" else "translate",
        duration_s=audio.duration_s,
        granularities=granularities,
        calibration=calibration_of(asked),
        temperature=_temperature(asked),
        untested=asked.untested,
    )
    return JSONResponse(answer, headers=headers)


async def _streamed(
    service: Service, request: Request, asked: Asked, audio: Audio, place: ExitStack, headers: Mapping[str, str]
) -> Response:
    pieces = Produced(service.queue, service.ears.produce(asked, audio.samples), place)
    pieces.start()
    try:
        first = await unless_gone(request, pieces.next())  # until here an error has a status of its own
    except EngineError as error:
        raise refusal(error) from error
    except BaseException:
        pieces.stop()
        raise
    headers = {"Cache-Control": "no-cache", **headers}
    return StreamingResponse(events(pieces.rest(first)), media_type="text/event-stream", headers=headers)


def calibration_of(asked: Asked) -> CalibrationMap | None:
    """Give the map for what is asked: it was fitted on transcriptions, decoded as tested."""
    return asked.model.calibration if asked.task == "asr" and not asked.untested else None


def _wanted(form: Form) -> tuple[str, bool, Sequence[str]]:
    wanted = form.fields.get("response_format", "json")
    if wanted not in FORMATS:
        raise invalid("response_format", f"There is no response format {wanted[:40]!r}. Available: {', '.join(FORMATS)}.")
    spelled = form.fields.get("stream", "false").lower()
    if spelled not in ("true", "false", "1", "0"):
        raise invalid("stream", "The field 'stream' must be true or false.")
    stream = spelled in ("true", "1")
    if stream and wanted not in ("json", "text"):
        raise unsupported("stream", f"A stream has text alone, so it cannot be {wanted}; leave response_format at json.")
    granularities = form.lists.get("timestamp_granularities", ())
    if unknown := [name for name in granularities if name not in GRANULARITIES]:
        raise invalid("timestamp_granularities", f"There is no granularity {unknown[0][:40]!r}. Available: segment, word.")
    if granularities and wanted != "verbose_json":
        raise invalid("timestamp_granularities", "Times come with response_format verbose_json alone.")
    return wanted, stream, granularities or ("segment",)


def check_language(model: ServedModel, language: str | None) -> None:
    """Hold a language to the card.

    Raises:
        ApiError: 400, the model does not know it.
    """
    if language is not None and not model.card.understands(language):
        known = ", ".join(model.card.languages)
        raise invalid("language", f"The model {model.name} does not know the language {language[:40]!r}. It knows: {known}.")


def decoding_asked(model: ServedModel, fields: Mapping[str, str]) -> dict[str, Any]:
    """Say which decoding a client asks for that is not the tested one: arguments of `Asked`.

    Raises:
        ApiError: A value is none, or the engine cannot decode otherwise than it was tested.
    """
    decoding = decoding_of(model.card)
    asked: dict[str, Any] = {}
    if "temperature" in fields:
        temperature = _number(fields["temperature"])
        tested = getattr(decoding, "temperature", 0.0)
        # OpenAI's 0 lets the temperature rise where a text looks wrong, which is what a list that begins with 0 does.
        if temperature != tested and not (temperature == 0 and isinstance(tested, tuple) and tested[0] == 0):
            asked["temperature"] = temperature
    if fields.get("prompt", "") not in ("", getattr(decoding, "initial_prompt", None), getattr(decoding, "prompt", None)):
        asked["prompt"] = fields["prompt"]
    if asked and not model.has("steered"):
        name = next(iter(asked))
        message = f"The model {model.name} decodes only as it was tested, so it takes no other {name}; leave it out."
        raise unsupported(name, message)
    return asked


def _number(spelled: str) -> float:
    try:
        temperature = float(spelled)
    except ValueError:
        raise invalid("temperature", "The field 'temperature' must be a number.") from None
    if not 0 <= temperature <= 1:
        raise invalid("temperature", "The field 'temperature' must be from 0 to 1.")
    return temperature


def _temperature(asked: Asked) -> float | None:
    """Say what was decoded at, where that is one number."""
    if asked.temperature is not None:
        return asked.temperature
    tested = getattr(decoding_of(asked.model.card), "temperature", None)
    return tested if isinstance(tested, int | float) else None


def _described(known: frozenset[str]) -> dict[str, Any]:
    properties = {name: shape for name, shape in _PROPERTIES.items() if name == "file" or name in known}
    schema = {"type": "object", "properties": properties, "required": ["file", "model"], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
