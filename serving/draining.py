"""The end of a service: live transcriptions finish what they were sent before the server closes their connections.

A server closes WebSockets as soon as it is told to end, and waits for requests only. So the signal is held up here until no
live transcription is left, or the time for it is over.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Draining:
    """Knows how many live transcriptions are under way, and tells them when to end."""

    def __init__(self, most_s: float) -> None:
        """Take how long the end may be held up."""
        self._most_s = most_s
        self._all_gone = asyncio.Event()
        self.begun = asyncio.Event()
        """Set when the service is told to end."""
        self.sessions = 0
        """Live transcriptions under way."""

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count one while the block runs."""
        self.sessions += 1
        try:
            yield
        finally:
            self.sessions -= 1
            if not self.sessions:
                self._all_gone.set()

    @contextmanager
    def holding_up_signals(self) -> Iterator[None]:
        """Hold the signals up that end the server, while the block runs; a second one is passed on at once."""
        if threading.current_thread() is not threading.main_thread():  # Python hands no signal to other threads
            yield
            return
        loop = asyncio.get_running_loop()
        before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

        def told(number: int, frame: FrameType | None) -> None:
            passed_on = before[number]
            signal.signal(number, passed_on)
            if callable(passed_on):
                loop.call_soon_threadsafe(lambda: self._end(lambda: passed_on(number, frame)))

        ours = [number for number, handler in before.items() if callable(handler)]
        for number in ours:
            signal.signal(number, told)
        try:
            yield
        finally:
            for number in ours:
                if signal.getsignal(number) is told:
                    signal.signal(number, before[number])

    def _end(self, pass_on: Any) -> None:
        self.begun.set()
        if not self.sessions:
            pass_on()
            return
        self._all_gone.clear()
        self._waiting = asyncio.create_task(self._wait(pass_on))  # kept, or it might be collected

    async def _wait(self, pass_on: Any) -> None:
        try:
            async with asyncio.timeout(self._most_s):
                await self._all_gone.wait()
        except TimeoutError:
            pass
        pass_on()
