"""``POST /v1/audio/speech`` and ``GET /v1/audio/voices``."""

from __future__ import annotations

import asyncio
import threading
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from models.errors import EngineError, unknown_name
from models.types import Record, Speech
from serving.disconnect import unless_gone
from serving.encoding import MEDIA_TYPES, Encoder, encoder
from serving.errors import ApiError, invalid, unsupported
from serving.protection import record_of
from serving.served import ServedModel
from serving.service import Service


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
        voice = _voice(model, asked)
        spoken = _Spoken(service, model, asked, voice)
        spoken.start()
        try:
            first = await unless_gone(request, spoken.first())
        except EngineError as error:
            raise invalid("input", str(error), "engine_refused") from error
        except BaseException:
            spoken.stop()
            raise
        return StreamingResponse(spoken.rest(first), media_type=MEDIA_TYPES[asked.response_format])

    @routes.get("/v1/audio/voices")
    async def voices(model: str | None = None) -> dict[str, Any]:
        """List the voices, of one model or of all."""
        chosen = [service.model(model, "tts")] if model else [m for m in service.held.values() if m.can("tts") and m.ready]
        return {
            "object": "list",
            "voices": [
                {"id": voice, "name": voice, "model": held.name, "languages": list(held.card.languages)}
                for held in chosen
                for voice in held.engine.voices
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


def _voice(model: ServedModel, asked: SpeechRequest) -> str:
    voice = asked.voice if isinstance(asked.voice, str) else asked.voice.id
    if voice not in model.engine.voices:
        message, remedy = unknown_name(f"voice of {model.name}", voice[:40], model.engine.voices)
        raise invalid("voice", f"{message} {remedy}")
    return voice


class _Spoken:
    """One text on its way: computed in the engine's turn, and sent as fast as the client takes it.

    The turn does not wait for the client: what was not taken yet waits in memory (15 MB for the longest text at most).
    """

    def __init__(self, service: Service, model: ServedModel, asked: SpeechRequest, voice: str) -> None:
        self._service, self._model, self._asked, self._voice = service, model, asked, voice
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._stopped = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take a place and begin; the place is free again when the engine is done.

        Raises:
            ApiError: 503, all places are taken.
        """
        place = ExitStack()
        place.enter_context(self._service.queue.place())
        self._task = asyncio.create_task(self._service.queue.run(self._compute))

        def ended(task: asyncio.Task[None]) -> None:
            place.close()
            if not task.cancelled():
                task.exception()  # `_next` raises it, where anybody still listens
            self._ready.put_nowait(None)

        self._task.add_done_callback(ended)

    def stop(self) -> None:
        """Let the engine end with the piece it is at, or leave the queue."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()

    async def first(self) -> bytes:
        """Wait for the first bytes.

        Raises:
            EngineError: The engine cannot speak this.
            ApiError: Its turn did not come.
        """
        return await self._next() or b""

    async def rest(self, first: bytes) -> AsyncIterator[bytes]:
        """Give all bytes as they come."""
        try:
            yield first
            while data := await self._next():
                yield data
        finally:
            self.stop()

    async def _next(self) -> bytes | None:
        data = await self._ready.get()
        if data is None and self._task is not None:
            await self._task
        return data

    def _compute(self) -> None:
        began, audio_s = time.monotonic(), 0.0
        encoding: Encoder | None = None
        for piece in self._pieces():
            if self._stopped.is_set():
                break
            encoding = encoding or encoder(self._asked.response_format, piece.sample_rate_hz)
            audio_s += piece.duration_s
            self._hand_over(encoding.add(piece.samples))
        if encoding is None:
            if not self._stopped.is_set():
                raise EngineError("The model has nothing to say for this text.", "Send a text with words.")
        else:
            self._hand_over(encoding.end())
        engine_s = time.monotonic() - began
        self._loop.call_soon_threadsafe(self._service.metrics.computed, self._model.name, "tts", audio_s, engine_s)

    def _pieces(self) -> Iterator[Speech]:
        engine, options = self._model.engine, {"voice": self._voice, "speed": self._asked.speed}
        if hasattr(engine, "stream"):
            return iter(engine.stream(self._asked.input, **options))
        return iter([engine.synthesize(self._asked.input, **options)])

    def _hand_over(self, data: bytes) -> None:
        if data:
            self._loop.call_soon_threadsafe(self._ready.put_nowait, data)
