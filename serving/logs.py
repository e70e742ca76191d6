"""Structured logs: one JSON object a line, of named fields only.

What is logged is listed here and nothing else gets in: no audio, no text, no file name, no key, and no message of an
exception, for it may quote any of these.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO

LOGGER = logging.getLogger("modellab.serving")
FIELDS = (
    "request_id", "method", "route", "status", "code", "duration_ms", "client", "key", "model", "audio_s", "characters",
    "turns", "close_code", "error", "where",
)  # fmt: skip
"""All that a line may say beside its time, level and event."""


class JsonLines(logging.Formatter):
    """Writes a record's event and known fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        known = record.__dict__
        return json.dumps({**line, **{name: known[name] for name in FIELDS if known.get(name) is not None}})


def set_up(stream: TextIO | None = None) -> None:
    """Write the service's log to a stream, by default standard error; other handlers of it are replaced."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def log(event: str, level: int = logging.INFO, **fields: str | float | None) -> None:
    """Log an event with fields of `FIELDS`."""
    assert set(fields) <= set(FIELDS), f"unknown log fields: {set(fields) - set(FIELDS)}"
    LOGGER.log(level, event, extra=fields)


def log_failure(error: BaseException, request_id: str) -> None:
    """Log what type of error came up and where, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    where = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    log("failure", logging.ERROR, request_id=request_id, error=type(error).__name__, where=where)
