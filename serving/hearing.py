"""``POST /v1/audio/transcriptions`` and ``/v1/audio/translations``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from models.engine import decoding_of
from models.errors import EngineError
from models.types import Transcript
from serving.disconnect import unless_gone
from serving.errors import invalid, unsupported
from serving.formats import FORMATS, GRANULARITIES, MEDIA_TYPES, events, subtitles, verbose
from serving.protection import record_of
from serving.served import ServedModel
from serving.service import Service
from serving.uploads import Form

TRANSCRIPTION_FIELDS = frozenset(
    {"model", "language", "prompt", "temperature", "response_format", "timestamp_granularities", "stream"}
)
TRANSLATION_FIELDS = frozenset({"model", "prompt", "temperature", "response_format"})
TARGET = "en"
"""OpenAI's endpoint translates into English."""
_TEXT = {"type": "string"}
_PROPERTIES: Mapping[str, Any] = {
    "file": {"type": "string", "format": "binary"},
    "model": _TEXT,
    "language": {"type": "string", "description": "ISO 639-1 code"},
    "prompt": {"type": "string", "description": "Only what the model's card says"},
    "temperature": {"type": "number", "description": "Only what the model's card says"},
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
    with service.queue.place():
        form = await service.uploads.read(request, known)
        fields, audio = form.fields, form.audio
        model = service.model(fields.get("model"), task)
        record.model, record.audio_s = model.name, audio.duration_s
        language = _language(model, fields)
        wanted, stream, granularities = _wanted(form)
        temperature = _check_decoding(model, fields)

        def compute() -> tuple[Transcript, float]:
            began = time.monotonic()
            if task == "asr":
                heard: Transcript = model.engine.transcribe(audio.samples, language=language)
            else:
                heard = model.engine.translate(audio.samples, language=None, target=TARGET)
            return heard, time.monotonic() - began

        try:
            transcript, engine_s = await unless_gone(request, service.queue.run(compute))
        except EngineError as error:
            raise invalid("model", str(error), "engine_refused") from error
    service.metrics.computed(model.name, task, audio.duration_s, engine_s)
    if stream:
        return StreamingResponse(events(transcript), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    if wanted == "json":
        return JSONResponse({"text": transcript.text, "usage": {"type": "duration", "seconds": audio.duration_s}})
    if wanted == "text":
        return Response(f"{transcript.text}\n", media_type=MEDIA_TYPES[wanted])
    if wanted in MEDIA_TYPES:
        return Response(subtitles(transcript, wanted), media_type=MEDIA_TYPES[wanted])
    answer = verbose(
        transcript,
        task="transcribe" if task == "asr" else "translate",
        duration_s=audio.duration_s,
        granularities=granularities,
        calibration=model.calibration if task == "asr" else None,  # fitted on what was transcribed
        temperature=temperature,
    )
    return JSONResponse(answer)


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


def _language(model: ServedModel, fields: Mapping[str, str]) -> str | None:
    language = fields.get("language")
    if language is not None and not model.card.understands(language):
        known = ", ".join(model.card.languages)
        raise invalid("language", f"The model {model.name} does not know the language {language[:40]!r}. It knows: {known}.")
    return language


def _check_decoding(model: ServedModel, fields: Mapping[str, str]) -> float | None:
    """Refuse decoding that was not tested; gives the temperature, where it is one number."""
    decoding = decoding_of(model.card)
    tested = getattr(decoding, "temperature", 0.0)
    if "temperature" in fields:
        try:
            asked = float(fields["temperature"])
        except ValueError:
            raise invalid("temperature", "The field 'temperature' must be a number.") from None
        if asked != tested:
            raise unsupported(
                "temperature", f"The model {model.name} was tested at temperature {tested} and is served so; leave it out."
            )
    prompt = getattr(decoding, "initial_prompt", None) or getattr(decoding, "prompt", None)
    if "prompt" in fields and fields["prompt"] != prompt:
        raise unsupported("prompt", f"The model {model.name} was not tested with this prompt; leave it out.")
    return tested if isinstance(tested, int | float) and hasattr(decoding, "temperature") else None


def _described(known: frozenset[str]) -> dict[str, Any]:
    properties = {name: shape for name, shape in _PROPERTIES.items() if name == "file" or name in known}
    schema = {"type": "object", "properties": properties, "required": ["file", "model"], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
