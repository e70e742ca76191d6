"""``POST /v1/audio/speech`` and ``GET /v1/audio/voices``."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from models.errors import EngineError, unknown_name
from models.types import Record, Speech
from serving.disconnect import unless_gone
from serving.ears import refusal
from serving.encoding import MEDIA_TYPES, Encoder, encoder
from serving.errors import ApiError, invalid, unsupported
from serving.records import record_of
from serving.served import ServedModel, UnavailableError
from serving.service import Service
from serving.streams import Produced


class VoiceId(Record):
    """A voice as an object, which the API allows too."""

    id: str


class SpeechRequest(Record):
    """What a client sends."""

    model: str
    input: str
    """The text to speak."""
    voice: str | VoiceId
    """One of `GET /v1/audio/voices`."""
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    """``pcm`` is 16-bit little-endian at 24 kHz; ``wav`` has the voice's own rate."""
    speed: float = Field(default=1.0, ge=0.25, le=4.0, allow_inf_nan=False)
    """Times the voice's own pace."""
    stream_format: Literal["audio"] = "audio"
    """The audio itself, sent while it is computed."""


def router(service: Service) -> APIRouter:
    """The two endpoints on a service."""
    routes = APIRouter(tags=["audio"])
    body = {"required": True, "content": {"application/json": {"schema": SpeechRequest.model_json_schema()}}}
    body["content"]["application/json"]["schema"]["properties"]["voice"] = {"type": "string"}  # type: ignore[index]
    body["content"]["application/json"]["schema"].pop("$defs", None)  # type: ignore[index]

    @routes.post("/v1/audio/speech", response_class=Response, openapi_extra={"requestBody": body})
    async def speak(request: Request) -> Response:
        """Speak a text; wav, pcm and opus are sent from the first sentence on, mp3 and flac when they are whole."""
        asked = await _asked(request)
        model = service.model(asked.model, "tts")
        record = record_of(request)
        record.model, record.characters = model.name, len(asked.input)
        _check(asked, service.settings.max_input_chars)
        voice = _voice(await _with_voices(service, model), asked)
        place = ExitStack()
        place.enter_context(service.queue.place())
        spoken = Produced(service.queue, _Speaker(service, model, asked, voice).encoded, place)
        spoken.start()
        try:
            first = await unless_gone(request, spoken.next())
        except UnavailableError as error:
            raise refusal(error) from error
        except EngineError as error:
            raise invalid("input", str(error), "engine_refused") from error
        except BaseException:
            spoken.stop()
            raise
        return StreamingResponse(spoken.rest(first), media_type=MEDIA_TYPES[asked.response_format])

    @routes.get("/v1/audio/voices")
    async def voices(model: str | None = None) -> dict[str, Any]:
        """List the voices, of one model or of all."""
        chosen = [service.model(model, "tts")] if model else [m for m in service.held.values() if m.can("tts")]
        return {
            "object": "list",
            "voices": [
                {"id": voice, "name": voice, "model": held.name, "languages": list(held.card.languages)}
                for held in chosen
                if held.tried or model or not service.settings.preload
                for voice in (await _with_voices(service, held)).voices
            ],
        }

    return routes


async def _asked(request: Request) -> SpeechRequest:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "Send the request as application/json.", code="unsupported_media_type")
    try:
        return SpeechRequest.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = str(first["loc"][0])[:64] if first["loc"] else None
        if param is None:
            raise ApiError(400, "The body is not a JSON object.", code="invalid_json") from None
        if first["type"] == "extra_forbidden":
            raise unsupported(param, f"The field {param!r} is not supported.") from None
        code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
        raise invalid(param, f"The field {param!r} cannot be used: {first['msg']}.", code) from None


def _check(asked: SpeechRequest, most_chars: int) -> None:
    if not asked.input.strip():
        raise invalid("input", "The text is empty.")
    if len(asked.input) > most_chars:
        raise invalid("input", f"The text has {len(asked.input)} characters; at most {most_chars} are spoken.", "too_long")
    if any(unicodedata.category(letter) == "Cc" and not letter.isspace() for letter in asked.input):
        raise invalid("input", "The text has control characters.")


async def _with_voices(service: Service, model: ServedModel) -> ServedModel:
    """Load a model that has not told its voices yet."""
    if not model.voices:
        with service.queue.place():
            try:
                await service.queue.run(model.warm_up)
            except UnavailableError as error:
                raise refusal(error) from error
    return model


def _voice(model: ServedModel, asked: SpeechRequest) -> str:
    voice = asked.voice if isinstance(asked.voice, str) else asked.voice.id
    if voice not in model.voices:
        message, remedy = unknown_name(f"voice of {model.name}", voice[:40], model.voices)
        raise invalid("voice", f"{message} {remedy}")
    return voice


class _Speaker:
    """Speaks one text and encodes it."""

    def __init__(self, service: Service, model: ServedModel, asked: SpeechRequest, voice: str) -> None:
        self._metrics, self._model, self._asked, self._voice = service.metrics, model, asked, voice

    def encoded(self) -> Iterator[bytes]:
        """Give the bytes of the answer, piece by piece.

        Raises:
            EngineError: The engine cannot speak this, or cannot be loaded.
        """
        began, audio_s = time.monotonic(), 0.0
        encoding: Encoder | None = None
        try:
            with self._model.in_use() as engine:
                began = time.monotonic()
                for piece in self._pieces(engine):
                    encoding = encoding or encoder(self._asked.response_format, piece.sample_rate_hz)
                    audio_s += piece.duration_s
                    if data := encoding.add(piece.samples):
                        yield data
            if encoding is None:
                raise EngineError("The model has nothing to say for this text.", "Send a text with words.")
            if data := encoding.end():
                yield data
        finally:
            if audio_s:
                self._metrics.computed(self._model.name, "tts", audio_s, time.monotonic() - began)

    def _pieces(self, engine: Any) -> Iterator[Speech]:
        options = {"voice": self._voice, "speed": self._asked.speed}
        if hasattr(engine, "stream"):
            return iter(engine.stream(self._asked.input, **options))
        return iter([engine.synthesize(self._asked.input, **options)])
