"""Worker processes, each holding one engine, that turn recordings into predictions and texts into speech.

The parent loads no engine, so that a run never holds more than one model a worker. What a worker does is in
`pipelines.inference`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, TypeVar

from models.errors import EngineError
from models.types import Record
from pipelines.inference import EngineSpec, Job, ShardResult, SpeakJob, infer, load, speak
from pipelines.processes import spawn_pool
from pipelines.speech_store import Synthesis
from pipelines.types import Prediction

J = TypeVar("J", Job, SpeakJob)
R = TypeVar("R", bound=Record)
T = TypeVar("T")
U = TypeVar("U")


class WorkerDiedError(EngineError):
    """A worker process ended while it had work: out of memory, or a crash in native code. A second try may go well."""


class WorkerPool:
    """Processes that load an engine once and serve shards until closed.

    Safe to use from several threads. A worker that dies breaks the shard it had; the pool is then rebuilt, so that a retry
    finds living workers.
    """

    def __init__(self, spec: EngineSpec, workers: int) -> None:
        """Start the processes; they load their engines at once, side by side with what the caller does next."""
        self._spec = spec
        self._workers = workers
        self._lock = threading.Lock()
        self._closed = False
        self.started = time.perf_counter()
        """`time.perf_counter` when it began."""
        self._executor = self._start()
        self._ahead: dict[Sequence[Job | SpeakJob], Future[ShardResult[Any]]] = {}

    def _start(self) -> ProcessPoolExecutor:
        return spawn_pool(self._workers, self._spec.placement.threads, load, self._spec)

    @classmethod
    def begin(cls, spec: EngineSpec, workers: int, shards: Sequence[tuple[Job, ...]], step: Step[Job, Prediction]) -> None:
        """Start a pool for whoever asks for it next by `take`, which works while the caller imports other things.

        Args:
            spec: The engine.
            workers: How many processes.
            shards: Those that are computed at once, at least one.
            step: Computes and keeps one shard; `once` gives what came of it.
        """
        pool = _begun[spec.fingerprint, workers] = cls(spec, workers)
        threads = ThreadPoolExecutor(len(shards))
        pool._ahead = {shard: threads.submit(step, pool, shard) for shard in shards}
        threads.shutdown(wait=False)

    @classmethod
    def take(cls, spec: EngineSpec, workers: int) -> WorkerPool:
        """Give the pool that was begun for this model, or start one."""
        return _begun.pop((spec.fingerprint, workers), None) or cls(spec, workers)

    @classmethod
    def discard(cls) -> None:
        """Close what was begun and never taken, because what was to use it failed first."""
        while _begun:
            _, pool = _begun.popitem()
            pool.close(at_once=True)

    def once(self, shard: tuple[J, ...], step: Step[J, R]) -> ShardResult[R]:
        """Compute and keep one shard, or wait for it where `begin` has begun it; raises as the step does."""
        begun = self._ahead.pop(shard, None)
        return step(self, shard) if begun is None else begun.result()

    def run(self, jobs: Sequence[Job]) -> ShardResult[Prediction]:
        """Transcribe one shard and wait for it; raises as `_submit` does."""
        return self._submit(infer, jobs)

    def speak(self, jobs: Sequence[SpeakJob]) -> ShardResult[Synthesis]:
        """Synthesise one shard and wait for it; raises as `_submit` does."""
        return self._submit(speak, jobs)

    def _submit(self, do: Callable[[J], ShardResult[R]], jobs: Sequence[J]) -> ShardResult[R]:
        """Do one shard, each item in the next worker that is free.

        Items are taken in the order in which they were given, so the workers finish one shard of several callers after the
        other, and the last one together.

        Raises:
            EngineError: The engine cannot be loaded or used, or the pool is closed.
            WorkerDiedError: The worker died; the same call may be tried again.
        """
        with self._lock:
            if self._closed:
                raise self._closed_error()
            executor = self._executor
        try:
            return ShardResult.joined(list(executor.map(do, jobs)))  # which drops, after an error, what has not begun
        except BrokenProcessPool as error:
            with self._lock:
                if self._closed:
                    raise self._closed_error() from error
                if self._executor is executor:
                    executor.shutdown(wait=False, cancel_futures=True)
                    self._executor = self._start()
            raise WorkerDiedError(
                f"A worker process of {self._spec.card.name} died while it had {len(jobs)} item(s).",
                "Most often memory ran out: set MODELLAB_WORKERS to 1, or choose a smaller model or compute type. What was "
                "finished is kept.",
            ) from error
        except (CancelledError, RuntimeError) as error:
            if self._closed:
                raise self._closed_error() from error
            raise

    def _closed_error(self) -> EngineError:
        return EngineError(f"The workers of {self._spec.card.name} were stopped.", "Run the command again.")

    def map(self, do: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """Do something else than inference in workers that are idle by now, as the builtin does here.

        All is begun at once; after the death of a worker, the rest is done here.
        """
        left = list(items)
        try:
            begun = self._executor.map(do, left)
        except BrokenProcessPool:
            return map(do, left)

        def results() -> Iterator[U]:
            try:
                for result in begun:
                    del left[0]
                    yield result
            except BrokenProcessPool:
                yield from map(do, left)

        return results()

    def close(self, *, at_once: bool) -> None:
        """End the workers.

        Args:
            at_once: What is in flight is dropped; else idle workers end by themselves while the caller goes on.
        """
        with self._lock:
            self._closed = True
            executor = self._executor
        if at_once:
            for process in list((executor._processes or {}).values()):
                process.terminate()
        executor.shutdown(wait=at_once, cancel_futures=True)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # After an error or Ctrl-C what is in flight is dropped; the store has everything before it.
        self.close(at_once=kind is not None)


_begun: dict[tuple[str, int], WorkerPool] = {}
Step = Callable[[WorkerPool, tuple[J, ...]], ShardResult[R]]
"""Computes and keeps one shard."""
