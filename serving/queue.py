"""The bounded queue in front of the engines: who may come in, whose turn it is, and when the others may come back.

A request takes a place before its body is read, so that what waits is bounded in number and in bytes. An engine call cannot
be interrupted: when its client has gone, its result is dropped and its turn ends with the call. A request that still waits
leaves at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from serving.errors import busy
from serving.settings import ServiceSettings

T = TypeVar("T")
REMEMBERED = 20
"""Turns whose mean length says how long the queue is in seconds."""
FIRST_GUESS_S = 1.0
"""Length of a turn before any has ended."""
LONGEST_RETRY_S = 60.0


class Queue:
    """Places and turns of one service process. Used from one event loop."""

    def __init__(self, settings: ServiceSettings, running: int = 1) -> None:
        """Take how many may run and wait; `running` counts where the settings leave it open."""
        self._running = settings.running or running
        self._most_places = self._running + settings.waiting
        self._max_wait_s = settings.max_wait_s
        self._turns = asyncio.Semaphore(self._running)
        self._threads = ThreadPoolExecutor(self._running, "engine")
        self._lengths: deque[float] = deque(maxlen=REMEMBERED)
        self.places = 0
        """Requests that were let in and are not answered yet."""
        self.running = 0
        """Turns under way."""

    @property
    def full(self) -> bool:
        """Whether the next request is turned away."""
        return self.places >= self._most_places

    @property
    def waiting(self) -> int:
        """Requests that were let in and have no turn: being uploaded, decoded, or waiting for the engine."""
        return max(0, self.places - self.running)

    def retry_after_s(self) -> float:
        """Seconds that the queue takes to empty, by the mean of the last turns."""
        mean_s = sum(self._lengths) / len(self._lengths) if self._lengths else FIRST_GUESS_S
        return min(LONGEST_RETRY_S, mean_s * max(1, self.places) / self._running)

    @contextmanager
    def place(self, *, kept_free: bool = False) -> Iterator[None]:
        """Hold a place.

        Args:
            kept_free: For a live transcription, whose speech cannot be sent again. There are as many more places as may be
                held at once.

        Raises:
            ApiError: 503, all are taken.
        """
        if self.full and not kept_free:
            message = f"{self.places} requests are being served or wait; try again later."
            raise busy(message, self.retry_after_s(), "queue_full")
        self.places += 1
        try:
            yield
        finally:
            self.places -= 1

    async def run(self, call: Callable[[], T]) -> T:
        """Wait for a turn, and call an engine in its thread.

        Raises:
            ApiError: 503, the turn did not come in time.
            Exception: What the call raises.
        """
        await self.take_turn()
        return await asyncio.shield(self.start(call))

    async def take_turn(self) -> None:
        """Wait for a turn, which `start` or `give_back` ends.

        Raises:
            ApiError: 503, it did not come in time.
        """
        try:
            async with asyncio.timeout(self._max_wait_s):
                await self._turns.acquire()
        except TimeoutError:
            message = f"No turn within {self._max_wait_s:g} s; try again later."
            raise busy(message, self.retry_after_s(), "queue_timeout") from None

    def give_back(self) -> None:
        """End a turn in which nothing was started."""
        self._turns.release()

    def start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Call an engine in its thread; the turn ends when the call does, whoever still waits for it.

        Raises:
            ApiError: 503, the service is ending.
        """
        began = time.monotonic()
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        except RuntimeError as error:
            self.give_back()
            raise busy("The service is ending; try again later.", LONGEST_RETRY_S, "shutting_down") from error
        self.running += 1

        def end(done: asyncio.Future[T]) -> None:
            self.running -= 1
            self._lengths.append(time.monotonic() - began)
            self._turns.release()
            if not done.cancelled():
                done.exception()  # nobody else may be left to look at it

        future.add_done_callback(end)
        return future

    def close(self) -> None:
        """Let the calls under way end, and start no other."""
        self._threads.shutdown(wait=True, cancel_futures=True)
