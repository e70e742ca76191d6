"""Recordings that wait together go through one engine call, where the engine gains from it.

The oldest that waits leads: when its turn comes it takes along the others that ask the same of the same model, in the order
in which they came. Who asks something else keeps its place, so nobody is overtaken by a batch.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from serving.queue import Queue

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class _Entry(Generic[T, R]):
    item: T
    answer: asyncio.Future[R] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches(Generic[T, R]):
    """Batches of one service process. Used from one event loop."""

    def __init__(self, queue: Queue, most: int, wait_s: float) -> None:
        """Take the queue for turns, the most items of a call, and how long a leader waits for more."""
        self._queue, self._most, self._wait_s = queue, most, wait_s
        self._waiting: dict[Hashable, list[_Entry[T, R]]] = defaultdict(list)

    async def run(self, alike: Hashable, item: T, call: Callable[[Sequence[T]], Sequence[R]]) -> R:
        """Have an item computed, alone or with others.

        Args:
            alike: Items with the same value may share a call.
            item: What to compute.
            call: Computes several items, in a thread; the same for all that are alike.

        Raises:
            ApiError: 503, the turn did not come in time.
            Exception: What the call raises for this item.
        """
        entry: _Entry[T, R] = _Entry(item)
        self._waiting[alike].append(entry)
        lead = asyncio.create_task(self._lead(alike, entry, call))
        try:
            either: set[asyncio.Future[Any]] = {lead, entry.answer}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._waits(alike, entry):
                await lead  # raises what kept it from its turn
            return await entry.answer
        finally:
            lead.cancel()
            entry.answer.cancel()
            self._leave(alike, entry)

    async def _lead(self, alike: Hashable, entry: _Entry[T, R], call: Callable[[Sequence[T]], Sequence[R]]) -> None:
        await self._queue.take_turn()
        try:
            if self._wait_s and len(self._waiting[alike]) < self._most:
                await asyncio.sleep(self._wait_s)
        except asyncio.CancelledError:
            self._queue.give_back()
            raise
        if not self._waits(alike, entry):  # it went along with another
            self._queue.give_back()
            return
        batch = [entry, *(other for other in self._waiting[alike] if other is not entry)][: self._most]
        for one in batch:
            self._leave(alike, one)
        calling = self._queue.start(lambda: _computed(call, [one.item for one in batch]))
        calling.add_done_callback(lambda done: None if done.cancelled() else _tell(batch, done.result()))
        await asyncio.shield(calling)

    def _waits(self, alike: Hashable, entry: _Entry[T, R]) -> bool:
        return entry in self._waiting.get(alike, ())

    def _leave(self, alike: Hashable, entry: _Entry[T, R]) -> None:
        waiting = self._waiting.get(alike, [])
        if entry in waiting:
            waiting.remove(entry)
        if not waiting:
            self._waiting.pop(alike, None)


def _computed(call: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | Exception]:
    """Compute the items together; where that fails, each alone, so that the fault of one is not the others'."""
    try:
        return list(call(items))
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [answer for item in items for answer in _computed(call, [item])]


def _tell(batch: Sequence[_Entry[T, R]], told: Sequence[R | Exception]) -> None:
    for entry, answer in zip(batch, told, strict=True):
        if entry.answer.done():
            continue  # its client has gone
        if isinstance(answer, Exception):
            entry.answer.set_exception(answer)
        else:
            entry.answer.set_result(answer)
