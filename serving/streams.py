"""What an engine gives piece by piece: computed in its turn, and sent as fast as the client takes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Generic, TypeVar

from serving.queue import Queue

T = TypeVar("T")


class Produced(Generic[T]):
    """Pieces on their way from an engine's thread to an event loop.

    The turn does not wait for the client: what was not taken yet waits in memory, which the limits of a request bound.
    """

    def __init__(self, queue: Queue, produce: Callable[[], Iterator[T]], place: ExitStack) -> None:
        """Take what makes the pieces, in an engine's thread, and the place, which is free again when it is done."""
        self._queue, self._produce, self._place = queue, produce, place
        self._ready: asyncio.Queue[T | None] = asyncio.Queue()
        self._stopped = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._queue.run(self._run))

        def ended(task: asyncio.Task[None]) -> None:
            self._place.close()
            if not task.cancelled():
                task.exception()  # `next` raises it, where anybody still listens
            self._ready.put_nowait(None)

        self._task.add_done_callback(ended)

    def stop(self) -> None:
        """Let the engine end with the piece it is at, or leave the queue."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()

    async def next(self) -> T | None:
        """Wait for a piece; None when there is no other.

        Raises:
            ApiError: The turn did not come.
            Exception: What the engine raises.
        """
        piece = await self._ready.get()
        if piece is None and self._task is not None:
            await self._task
        return piece

    async def rest(self, first: T | None) -> AsyncIterator[T]:
        """Give all pieces as they come, from the first, which was waited for."""
        try:
            piece = first
            while piece is not None:
                yield piece
                piece = await self.next()
        finally:
            self.stop()

    def _run(self) -> None:
        pieces = self._produce()
        try:
            for piece in pieces:
                if self._stopped.is_set():
                    break
                self._loop.call_soon_threadsafe(self._ready.put_nowait, piece)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
