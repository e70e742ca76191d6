"""An engine in another Python environment, used as if it were here.

The engine runs in a process of its own (`models.serve_engine`) and is called over a pipe (`models.wire`). That process ends
with this one. Beside the standard library it sees the package ``models`` of this checkout and nothing else of it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from models import errors, wire
from models.errors import EngineError, LabError

if TYPE_CHECKING:
    from models.card import ModelCard
    from models.engine import Placement
    from models.types import Task

# Not by PYTHONPATH: beside this package may lie others, of another Python's site-packages.
_START = """
import importlib.util, sys
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location("models", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["models"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["models"])
from models.serve_engine import main
main()
"""
LAST_LINES = 5
"""How many lines of a dead process's standard error are told."""
LINE_CHARACTERS = 300
END_TIMEOUT_S = 5.0
"""How long a process may take to end once its pipe is closed; then it is killed."""


class EngineDiedError(EngineError):
    """The engine's process ended in the middle of a call. The next call starts another, so trying again can help."""


class RemoteEngine:
    """Has the methods and values of the engine that runs elsewhere, and nothing that it lacks.

    Safe to use from several threads; calls wait for one another, and for a stream until it is read or closed.
    """

    def __init__(self, interpreter: Path, card: ModelCard, weights: Path, placement: Placement, task: Task) -> None:
        """Start the process and build the engine there.

        Args:
            interpreter: From `models.environments.find_interpreter`.
            card: The model.
            weights: Folder of its verified weights.
            placement: From `models.engine.placement_of`.
            task: What it must be able to do.

        Raises:
            LabError: What building the engine there raised.
            EngineDiedError: The process ended before the engine was built.
        """
        self._interpreter, self._card, self._lock = interpreter, card, threading.Lock()
        self._build = {
            "do": "build",
            "card": card.model_dump_json(),
            "weights": str(weights),
            "placement": asdict(placement),
            "task": task,
        }
        self._child: _Child | None = None
        self._public: dict[str, Any] = {"methods": [], "values": {}}
        self.peak_memory_mib = 0.0
        """High-water mark of the process's resident memory, as of its last answer."""
        with self._lock:
            self._living()

    def __getattr__(self, name: str) -> Any:
        """Give a method or a value of the engine; an AttributeError where it has none, as any object does."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._public["values"]:
            value = self._public["values"][name]
            return tuple(value) if isinstance(value, list) else value
        if name in self._public["methods"]:
            return self._method(name)
        raise AttributeError(f"{self._card.engine} has no {name!r}")

    def close(self) -> None:
        """End the process. A later call starts another."""
        with self._lock:
            self._end()

    def _method(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                child = self._living()
                answer = self._ask(child, {"do": "call", "name": name, "args": args, "kwargs": kwargs})
            if "iterator" in answer:
                return self._pieces(child, answer["iterator"])
            return answer["value"]

        call.__name__ = name
        return call

    def _pieces(self, child: _Child, number: int) -> Iterator[Any]:
        # The lock is held from the first piece to the last: the engine's own may be, and its process does one thing at once.
        with self._lock:
            try:
                while "value" in (answer := self._ask(child, {"do": "next", "iterator": number})):
                    yield answer["value"]
            finally:
                with contextlib.suppress(EngineDiedError):
                    self._ask(child, {"do": "close", "iterator": number})

    def _living(self) -> _Child:
        """Give the process with its engine, started anew if it died. The lock is held by the caller."""
        if self._child is not None and not self._child.lives:  # between two calls: neither has failed
            self._end()
        if self._child is None:
            self._child = _Child(self._interpreter)
            try:
                self._public = self._ask(self._child, self._build)
            except LabError:
                self._end()
                raise
        return self._child

    def _ask(self, child: _Child, request: Mapping[str, Any]) -> dict[str, Any]:
        if child is not self._child:  # a stream whose process has died since
            raise self._died(child)
        try:
            answer = child.exchange(dict(request))
        except (wire.Closed, OSError, ValueError) as error:
            self._end()
            raise self._died(child) from error
        except BaseException:  # interrupted in the middle: the answer would be taken for that of the next call
            child.process.kill()
            self._end()
            raise
        self.peak_memory_mib = answer.pop("peak_mib")
        if "error" in answer:
            raise self._raised(answer["error"])
        return answer

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _raised(self, error: Mapping[str, str]) -> LabError:
        kind = getattr(errors, error["class"], None) if error["class"] else None
        if isinstance(kind, type) and issubclass(kind, LabError):
            return kind(error["message"], error["remedy"])
        return EngineError(
            f"{self._card.name} failed in {self._where}: {error['message']}.",
            "This is a fault of its engine or its library.",
        )

    def _died(self, child: _Child) -> EngineDiedError:
        how = child.how_it_ended()
        return EngineDiedError(
            f"{self._card.name} died in {self._where}: {how}.",
            "If memory ran out, use fewer workers; otherwise make the environment anew and try again.",
        )

    @property
    def _where(self) -> str:
        return f"the environment {self._card.environment!r} ({self._interpreter})"


class _Child:
    """The process and its pipes."""

    def __init__(self, interpreter: Path) -> None:
        command = [str(interpreter), "-P", "-c", _START, str(Path(__file__).parent)]
        # The variables of this environment would lead another Python to this one's packages.
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "VIRTUAL_ENV")}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=variables)
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self._calls, self._answers = self.process.stdin, self.process.stdout
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        # Not a method of ours, which would keep this object alive for as long as the process lives.
        self._reader = threading.Thread(target=_keep_last, args=(self.process.stderr, self._last), daemon=True)
        self._reader.start()
        self.end = weakref.finalize(self, _end, self.process)

    def exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        wire.send(self._calls, request)
        return wire.receive(self._answers)

    @property
    def lives(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def how_it_ended(self) -> str:
        """Give the exit code and the last words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_TIMEOUT_S)
        self._reader.join(END_TIMEOUT_S)
        code = self.process.returncode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"{how}; it said: {' | '.join(self._last) or 'nothing'}"


def _keep_last(pipe: IO[bytes], lines: deque[str]) -> None:
    for line in pipe:
        if text := line.decode(errors="replace").strip():
            lines.append(text[:LINE_CHARACTERS])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, which tells the process to end; kill it if it does not."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
