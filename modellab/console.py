"""Printing: tables and JSON on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: BaseModel | list[Any] | dict[str, Any]) -> None:
    """Print one JSON document on standard output."""
    text = value.model_dump_json(indent=2) if isinstance(value, BaseModel) else json.dumps(value, indent=2, default=_plain)
    sys.stdout.write(text + "\n")


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)


class TerminalProgress:
    """Draws a bar on a terminal, and prints a line now and then where there is none."""

    LINES = 10
    """Lines printed over the whole of a count where no bar can be drawn."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what, self._done, self._total, self._printed = "", 0, 0, 0

    def say(self, text: str) -> None:
        """Print one line."""
        err.print(f"[dim]·[/dim] {text}", markup=True)

    def start(self, what: str, total: int) -> None:
        """Begin a bar."""
        self._what, self._done, self._total, self._printed = what, 0, total, 0
        if not err.is_terminal:
            self.say(f"{what}: {total} to do")
            return
        self._bar = Progress(
            TextColumn("[dim]·[/dim] {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=err,
        )
        self._bar.start()
        self._task = self._bar.add_task(what, total=total)

    def advance(self, count: int) -> None:
        """Move the bar."""
        with self._lock:
            self._done += count
            if self._bar is not None and self._task is not None:
                self._bar.advance(self._task, count)
            elif self._total and self._done * self.LINES // self._total > self._printed:
                self._printed = self._done * self.LINES // self._total
                self.say(f"{self._what}: {self._done} of {self._total}")

    def finish(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
