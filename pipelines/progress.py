"""What long work says of itself; the command line draws it, a server's log prints it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class Progress(Protocol):
    """Listens to a running step; called from several threads."""

    def say(self, text: str) -> None:
        """Take one line about what begins now."""

    def start(self, what: str, total: int) -> None:
        """Begin to count ``total`` recordings."""

    def advance(self, count: int) -> None:
        """Count recordings that are done."""

    def finish(self) -> None:
        """End the count that was started."""


class Silent:
    """Listens to nothing: the default, and what ``--json`` pipelines in scripts want."""

    def say(self, text: str) -> None:
        """Ignore the line."""

    def start(self, what: str, total: int) -> None:
        """Ignore the count."""

    def advance(self, count: int) -> None:
        """Ignore the count."""

    def finish(self) -> None:
        """Ignore the end."""


_SILENT = Silent()
listener: ContextVar[Progress] = ContextVar("modellab_progress", default=_SILENT)
"""Who listens in this context. Not an argument: a flow's arguments must be plain data."""
