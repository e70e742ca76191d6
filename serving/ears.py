"""Having a model hear a recording: alone or in a batch, at once or in pieces, as tested or as a client wishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.audio import SAMPLE_RATE_HZ
from models.errors import EngineError
from models.types import Task, Transcript
from serving.batching import Batches
from serving.errors import ApiError, invalid, unavailable
from serving.logs import log_failure
from serving.metrics import Metrics
from serving.queue import Queue
from serving.served import ServedModel, UnavailableError
from serving.settings import ServiceSettings

Samples = NDArray[np.float32]
TARGET = "en"
"""OpenAI's endpoint translates into English."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a model, beside the recording."""

    model: ServedModel
    task: Task
    language: str | None = None
    prompt: str | None = None
    """None, as it was tested."""
    temperature: float | None = None
    """None, as it was tested."""

    @property
    def untested(self) -> tuple[str, ...]:
        """Options by which the answer is none of those that the gate saw."""
        return tuple(name for name in ("prompt", "temperature") if getattr(self, name) is not None)

    def steer(self, engine: Any) -> Any:
        """Give the engine as asked for.

        Raises:
            EngineError: It does not decode so.
        """
        return engine.steered(prompt=self.prompt, temperature=self.temperature) if self.untested else engine

    def compute(self, engine: Any, samples: Samples) -> Transcript:
        """Have the engine hear it whole."""
        engine = self.steer(engine)
        heard: Transcript = (
            engine.translate(samples, language=None, target=TARGET)
            if self.task == "translation"
            else engine.transcribe(samples, language=self.language)
        )
        return heard

    def pieces(self, engine: Any, samples: Samples) -> Iterator[Transcript]:
        """Have the engine hear it in pieces, or in one where it gives no others."""
        if self.task == "asr" and hasattr(engine, "transcribe_stream"):
            return iter(self.steer(engine).transcribe_stream(samples, language=self.language))
        return iter([self.compute(engine, samples)])


class Ears:
    """All recognition of one service process."""

    def __init__(self, settings: ServiceSettings, queue: Queue, metrics: Metrics) -> None:
        """Share the queue."""
        self._queue, self._metrics, self._most = queue, metrics, settings.batch_most
        self._batches: Batches[Samples, Transcript] = Batches(queue, settings.batch_most, settings.batch_wait_s)

    async def hear(self, asked: Asked, samples: Samples) -> Transcript:
        """Hear one recording.

        Raises:
            ApiError: 400, the engine refuses it; 503, the turn did not come in time, or the model cannot be loaded.
        """

        def together(recordings: Sequence[Samples]) -> Sequence[Transcript]:
            with asked.model.in_use() as engine:
                began = time.monotonic()
                if len(recordings) == 1:
                    heard = [asked.compute(engine, recordings[0])]
                else:
                    heard = engine.transcribe_batch(list(recordings), language=asked.language)
                engine_s = time.monotonic() - began
            self.count(asked, sum(map(len, recordings)) / SAMPLE_RATE_HZ, engine_s, len(recordings))
            return heard

        alone = self._most == 1 or asked.untested or asked.task != "asr" or not asked.model.has("transcribe_batch")
        try:
            if alone:
                (transcript,) = await self._queue.run(lambda: together([samples]))
                return transcript
            # By identity: two models may have one name in the course of time.
            return await self._batches.run((id(asked.model), asked.language), samples, together)
        except EngineError as error:
            raise refusal(error) from error

    def count(self, asked: Asked, audio_s: float, engine_s: float, calls: int = 1) -> None:
        """Count what an engine did; from any thread."""
        self._metrics.computed(asked.model.name, asked.task, audio_s, engine_s, calls)

    def produce(self, asked: Asked, samples: Samples) -> Callable[[], Iterator[Transcript]]:
        """Give what produces the pieces of one recording, in an engine's thread, and counts them."""

        def pieces() -> Iterator[Transcript]:
            with asked.model.in_use() as engine:
                began = time.monotonic()
                yield from asked.pieces(engine, samples)
                self.count(asked, len(samples) / SAMPLE_RATE_HZ, time.monotonic() - began)

        return pieces


def refusal(error: EngineError) -> ApiError:
    """Word what an engine raised."""
    if isinstance(error, UnavailableError):
        log_failure(error.__cause__ or error, "loading")
        return unavailable(error.message)
    return invalid("model", str(error), "engine_refused")
