"""A real server on this machine with real engines, and an engine that can be held at a point."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
import uvicorn
from numpy.typing import NDArray
from openai import OpenAI

from models.types import Speech, Transcript
from serving.app import create_app
from serving.served import ServedModel
from serving.settings import ServiceSettings

TIMEOUT_S = 60
HEARER = "faster-whisper-tiny.en"
SPEAKER = "hibari"
CLIP = "digits-george-0.flac"


@dataclass
class Running:
    """A server that listens."""

    url: str
    app: Any
    loop: Callable[[], asyncio.AbstractEventLoop]

    def openai(self, key: str = "unused") -> OpenAI:
        return OpenAI(api_key=key, base_url=f"{self.url}/v1", max_retries=0, timeout=TIMEOUT_S)

    def http(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=TIMEOUT_S, **options)

    def loop_call(self, call: Callable[[Any], None]) -> None:
        """Call with the service's draining, in its event loop."""
        self.loop().call_soon_threadsafe(call, self.app.state.service.draining)

    def queue(self) -> dict[str, int]:
        with self.http() as client:
            return dict(client.get("/v1/statistics").json()["queue"])


@contextmanager
def serving(held: Mapping[str, ServedModel], settings: ServiceSettings | None = None) -> Iterator[Running]:
    app = create_app(held, settings or ServiceSettings())
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", access_log=False))
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(f"http://127.0.0.1:{port}", app, lambda: loops[0])
    finally:
        server.should_exit = True
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "the server did not end"


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that must come; how long it takes is not tested."""
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@dataclass
class HeldBack:
    """A real engine whose calls, or pieces of speech after the first, wait for the test."""

    engine: Any
    go: threading.Event = field(default_factory=threading.Event)
    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    pieces: int = 0
    voices: tuple[str, ...] = ("heart",)

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        self.began.release()
        assert self.go.wait(TIMEOUT_S)
        heard: Transcript = self.engine.transcribe(samples, language=language)
        return heard

    def stream(self, text: str, **options: Any) -> Iterator[Speech]:
        for piece in self.engine.stream(text, **options):
            self.pieces += 1
            yield piece
            self.began.release()
            assert self.go.wait(TIMEOUT_S)

    def synthesize(self, text: str, **options: Any) -> Speech:
        spoken: Speech = self.engine.synthesize(text, **options)
        return spoken
