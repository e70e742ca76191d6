"""The other end of `models.remote`: one engine in a Python environment of its own, answering calls over a pipe.

Started by `models.remote` in that environment. Beside the engine's library it needs numpy, pydantic, PyYAML, soundfile and
soxr.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from inspect import isroutine
from pathlib import Path
from typing import IO, Any

from models import wire
from models.card import ModelCard
from models.engine import Placement, build_engine
from models.errors import LabError
from models.memory import peak_memory_mib

PARENT_CHECK_S = 1.0
"""How often this process looks whether its parent still lives, while a call keeps it from noticing."""
TRACE_LINES = 3
"""How much of a library's traceback crosses."""


def main() -> None:
    """Build the engine that the first frame describes and answer calls until the pipe is closed."""
    # Ctrl-C reaches the whole process group; what becomes of this process is its parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    calls, answers = _private_pipes()
    with contextlib.suppress(wire.Closed, BrokenPipeError):  # the parent is done with us
        Server(calls, answers).run()
    os._exit(0)  # libraries' own threads and exit handlers would only delay it


class Server:
    """Answers one call at a time; iterators are advanced one piece a call."""

    def __init__(self, calls: IO[bytes], answers: IO[bytes]) -> None:
        """Keep the two ends of the conversation."""
        self._calls, self._answers = calls, answers
        self._engine: Any = None
        self._open: dict[int, Iterator[Any]] = {}

    def run(self) -> None:
        """Answer until the pipe is closed.

        Raises:
            Closed: The parent has closed the pipe or is gone.
        """
        while True:
            request = wire.receive(self._calls)
            try:
                answer = self._answer(request)
                wire.send(self._answers, {**answer, "peak_mib": peak_memory_mib()})
            except BrokenPipeError:
                raise
            except Exception as error:
                wire.send(self._answers, {"error": _described(error), "peak_mib": peak_memory_mib()})

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "build":
                # Here the environment is this one: the engine is built in this process.
                card = ModelCard.model_validate_json(request["card"]).model_copy(update={"environment": None})
                placement = Placement(**request["placement"])
                self._engine = build_engine(card, Path(request["weights"]), placement, request["task"])
                return _public(self._engine)
            case "call":
                value = getattr(self._engine, request["name"])(*request["args"], **request["kwargs"])
                if isinstance(value, Iterator):
                    self._open[id(value)] = value
                    return {"iterator": id(value)}
                return {"value": value}
            case "next":
                for value in self._open[request["iterator"]]:
                    return {"value": value}
                return {"end": True}
            case "close":
                iterator = self._open.pop(request["iterator"])
                if isinstance(iterator, Generator):
                    iterator.close()
                return {}
            case other:
                raise ValueError(f"unknown request {other!r}")


def _public(engine: Any) -> dict[str, Any]:
    """Name what the engine can do, and give what it only says, such as the names of its voices."""
    methods, values = [], {}
    for name in dir(engine):
        if name.startswith("_"):
            continue
        value = getattr(engine, name)
        if isroutine(value):
            methods.append(name)
        elif _is_plain(value):
            values[name] = value
    return {"methods": methods, "values": values}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _described(error: Exception) -> dict[str, str]:
    if isinstance(error, LabError):
        return {"class": type(error).__name__, "message": error.message, "remedy": error.remedy}
    frames = traceback.extract_tb(error.__traceback__)[-TRACE_LINES:]
    where = " ← ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return {"class": "", "message": f"{type(error).__name__}: {error} ({where})", "remedy": ""}


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep the pipe's ends to ourselves: what a library prints goes to standard error, and it finds no input."""
    sys.stdout.flush()
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return calls, answers


def _end_with_parent(parent: int) -> None:
    """End when the parent is gone: a killed run must not leave models in memory."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)
