"""A server with the OpenAI audio API in front of a real engine, which can be told to fail and counts what it is asked."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import numpy as np
import soundfile
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from models.types import Segment, Transcript

Fault = Callable[[], Response]
MODEL = "org/tiny"


def status(code: int, body: Any = None, **headers: str) -> Fault:
    """Answer a status, with an error as OpenAI words it."""
    content = {"error": {"message": body}} if isinstance(body, str) else body
    return lambda: JSONResponse(content, code, {name.replace("_", "-"): value for name, value in headers.items()})


def body(content: bytes) -> Fault:
    """Answer these bytes."""
    return lambda: Response(content, media_type="application/json")


def endless() -> Response:
    """Answer without end."""

    async def zeros() -> AsyncIterator[bytes]:
        while True:
            yield bytes(2**20)
            await anyio.sleep(0)  # where a client that has gone is noticed

    return StreamingResponse(zeros())


def dripping() -> Response:
    """Answer a byte now and then, never to end."""

    async def drops() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await anyio.sleep(0.02)

    return StreamingResponse(drops())


@dataclass
class OpenAIServer:
    """What the server does, and what it has seen."""

    url: str = ""
    hear: Callable[[NDArray[np.float32], str | None], Transcript] = lambda samples, language: Transcript(text="heard")
    """The engine behind it."""
    style: str = "speaches"
    """``speaches``: words with probabilities in the segments; ``openai``: bare words beside them, languages by name."""
    formats: frozenset[str] = frozenset({"verbose_json", "json"})
    granularities: bool = True
    """Whether it knows ``timestamp_granularities[]``."""
    key: str | None = None
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": MODEL, "owned_by": "org"}])
    by_name: bool = True
    """Whether it answers ``GET /models/NAME``."""
    voices: list[Any] | None = None
    speech: NDArray[np.int16] = field(default_factory=lambda: np.arange(-5000, 5000, dtype=np.int16))
    hold: threading.Event | None = None
    """Second half of the speech, and transcripts, wait for it."""
    wav_head: bytes = b""
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Path and content of each request."""
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.list_models),
                Route("/v1/models/{name:path}", self.show_model),
                Route("/v1/audio/voices", self.list_voices),
                Route("/v1/audio/speech", self.speak, methods=["POST"]),
                Route("/v1/audio/{task}", self.transcribe, methods=["POST"]),
            ]
        )

    def refusal(self, request: Request, content: dict[str, Any]) -> Response | None:
        self.seen.append((request.url.path.removeprefix("/v1/"), content))
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            said = request.headers.get("Authorization", "no key")
            return JSONResponse({"error": {"message": f"Incorrect API key: {said}"}}, 401)
        fault = self.faults.pop(0) if self.faults else self.always
        return fault() if fault else None

    async def list_models(self, request: Request) -> Response:
        return self.refusal(request, {}) or JSONResponse({"object": "list", "data": self.models})

    async def show_model(self, request: Request) -> Response:
        known = {model["id"]: model for model in self.models} if self.by_name else {}
        name = request.path_params["name"]
        answer = JSONResponse(known[name]) if name in known else JSONResponse({"detail": "Not Found"}, 404)
        return self.refusal(request, {}) or answer

    async def list_voices(self, request: Request) -> Response:
        answer = JSONResponse({"voices": self.voices}) if self.voices is not None else Response(status_code=404)
        return self.refusal(request, {}) or answer

    async def transcribe(self, request: Request) -> Response:
        async with request.form() as form:
            content = {name: form.getlist(name) for name in form if name != "file"}
            file = form["file"]
            assert not isinstance(file, str)
            data = await file.read()
            content["filename"] = file.filename
        if refused := self.refusal(request, content):
            return refused
        wanted = content["response_format"][0]
        if wanted not in self.formats or ("timestamp_granularities[]" in content and not self.granularities):
            return JSONResponse({"error": {"message": f"response_format {wanted!r} is not known"}}, 400)
        transcript = await run_in_threadpool(self._heard, data, content.get("language", [None])[0])
        return JSONResponse(self.verbose(transcript) if wanted == "verbose_json" else {"text": transcript.text})

    def _heard(self, data: bytes, language: str | None) -> Transcript:
        with self.lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.hold is not None:
                self.hold.wait(30)
            return self.hear(soundfile.read(io.BytesIO(data), dtype="float32")[0], language)
        finally:
            with self.lock:
                self.under_way -= 1

    def verbose(self, transcript: Transcript) -> dict[str, Any]:
        bare = self.style == "openai"
        words = [
            {"word": word.text, "start": word.start_s, "end": word.end_s}
            | ({} if bare else {"probability": word.probability})
            for word in transcript.words
        ]
        segments = [self.segment(number, segment) for number, segment in enumerate(transcript.segments)]
        answer = {"task": "transcribe", "duration": 1.0, "text": transcript.text, "segments": segments}
        if bare:
            return {**answer, "language": "english", "words": words}
        for segment, real in zip(segments, transcript.segments, strict=True):
            segment["words"] = words[: len(real.words)]
            del words[: len(real.words)]
        return {**answer, "language": transcript.language, "words": None}

    def segment(self, number: int, segment: Segment) -> dict[str, Any]:
        return {
            "id": number,
            "seek": 0,
            "start": segment.start_s,
            "end": segment.end_s,
            "text": f" {segment.text}",
            "tokens": [1, 2],
            "temperature": 0.0,
            "avg_logprob": segment.avg_logprob,
            "compression_ratio": segment.compression_ratio,
            "no_speech_prob": segment.no_speech_probability,
        }

    async def speak(self, request: Request) -> Response:
        content = json.loads(await request.body())
        if refused := self.refusal(request, content):
            return refused
        head = (self.wav_head or wav_head(24_000)) if content["response_format"] == "wav" else b""
        sound = head + self.speech.astype("<i2").tobytes()

        async def pieces() -> AsyncIterator[bytes]:
            half = len(sound) // 2 + 1  # in the middle of a sample
            yield sound[:half]
            if self.hold is not None:
                await run_in_threadpool(self.hold.wait, 30)
            yield sound[half:]

        return StreamingResponse(pieces(), media_type="audio/wav")


def wav_head(rate_hz: int, channels: int = 1, bits: int = 16, size: int = 0xFFFFFFFF, tag: int = 1) -> bytes:
    """The first bytes of a WAV file whose length is not known, with a chunk that players skip."""
    step = channels * bits // 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate_hz, rate_hz * step, step, bits)
    skipped = struct.pack("<4sI", b"LIST", 3) + b"abc\0"
    return struct.pack("<4sI4s", b"RIFF", 0xFFFFFFFF, b"WAVE") + form + skipped + struct.pack("<4sI", b"data", size)


@contextmanager
def serving(told: OpenAIServer) -> Iterator[OpenAIServer]:
    """Run a server on a port of this machine."""
    config = uvicorn.Config(told.app(), host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    told.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield told
    finally:
        if told.hold is not None:
            told.hold.set()
        server.should_exit = server.force_exit = True
        thread.join(10)
