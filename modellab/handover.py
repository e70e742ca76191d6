"""Hands a command over to the standby process that `modellab up` keeps, which has imported what evaluations need.

Importing Prefect and MLflow takes over two seconds of a processor, beside the workers that infer. The standby process (see
`modellab.standby`) forks for each command; the fork has this process's terminal, folder, arguments and environment, and this
process waits for it, passes signals on, and ends as it ends.

Only the standard library is imported here, and little of that: this runs before everything else. Where there is no standby
process, or one that is not just like this one, the command runs here, and differs in nothing but the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from modellab.places import find_home
from modellab.quiet import switches
from models.errors import StateError
from pipelines.home import Home

SUPPORTED = sys.platform == "linux"
"""Elsewhere forks of a process with large libraries are not safe, and what `circumstances` reads is not there."""
COMMANDS = ("compare", "demo", "evaluate")
"""Commands that run flows, and are worth it."""
SOCKET = "standby.sock"
FILES = 3
"""Standard input, output and error."""
PATIENCE_S = 5.0
"""How long each side waits for the other's first words; after it the command runs here."""
EXIT_LOST = 2
"""Where the standby process ended before it could say how the command did: an error, and no verdict."""
DEBUG = "MODELLAB_DEBUG"
READ_ONCE = (
    *("PREFECT_", "MLFLOW_", "PYDANTIC_", "MPL", "OMP_", "OPENBLAS_"),
    *("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LANG", "LC_", "TZ", "HOME"),
)
"""Beginnings of variables that are read when a process starts or a library is imported, and never again."""


def hand_over(arguments: Sequence[str]) -> int | None:
    """Run a command in a fork of the standby process.

    Args:
        arguments: As typed, without the program's name.

    Returns:
        The exit code; None where the command must run here.
    """
    # Debugging shows the dependencies' warnings, which were silenced when they were imported.
    if not (SUPPORTED and arguments and arguments[0] in COMMANDS) or "--debug" in arguments or DEBUG in os.environ:
        return None
    home = find_home_here()
    if home is None:
        return None
    connection = connect(home)
    if connection is None:
        return None
    with connection, connection.makefile("rb") as answers:
        try:
            socket.send_fds(connection, [b"\n"], list(range(FILES)))
            request = {
                "arguments": list(arguments),
                "folder": str(Path.cwd()),
                "environment": dict(os.environ),
                "circumstances": circumstances(home),
            }
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(answers.readline() or b"{}")
        except (OSError, ValueError):
            return None
        if "process" not in answer:
            return None
        connection.settimeout(None)
        return _follow(answer["process"], answers)


def find_home_here() -> Home | None:
    """Give the home of a command that is typed here; None where there is none, which the command itself explains."""
    chosen, project = (os.environ.get(name) for name in ("MODELLAB_HOME", "MODELLAB_PROJECT"))
    with contextlib.suppress(StateError, OSError):
        return Home(find_home(_path(chosen), _path(project)))
    return None


def circumstances(home: Home) -> dict[str, Any]:
    """Describe what a fork has of its parent and cannot change any more, or should not; to be equal on both sides."""
    import resource

    environment = {**switches(home.root), **os.environ}
    mask = os.umask(0o077)
    os.umask(mask)
    limits = vars(resource).items()
    return {
        "python": [sys.version, sys.prefix, list(sys.flags)],
        "program": str(Path(__file__).resolve()),
        "namespaces": [str(path.readlink()) for path in sorted(Path("/proc/self/ns").iterdir())],
        "user": [os.geteuid(), os.getegid(), sorted(os.getgroups())],
        "mask": mask,
        "nice": os.nice(0),
        "processors": sorted(os.sched_getaffinity(0)),
        "limits": [list(resource.getrlimit(number)) for name, number in sorted(limits) if name.startswith("RLIMIT_")],
        "variables": {name: value for name, value in sorted(environment.items()) if name.startswith(READ_ONCE)},
    }


def connect(home: Home) -> socket.socket | None:
    """Connect to the standby process of a home; None where none answers."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    try:
        with address(home) as path:
            connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


@contextlib.contextmanager
def address(home: Home) -> Iterator[str]:
    """Give the socket's path by way of a descriptor of its folder: a socket's own path may have 107 bytes, a home's more."""
    folder = os.open(home.servers, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _follow(process: int, answers: BinaryIO) -> int:
    """Wait for the fork, passing on what this process is told meanwhile."""

    def forward(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    def pause(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            # Here somebody has sent SIGCONT.
            os.killpg(process, signal.SIGCONT)

    handlers = {
        signal.SIGTSTP: pause,
        **dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT), forward),
    }
    for number, handler in handlers.items():
        if signal.getsignal(number) != signal.SIG_IGN:  # as of nohup, or in the background of a script
            signal.signal(number, handler)
    line = answers.readline()
    if not line:
        sys.stderr.write("The standby process ended and cannot say how this went; the same command goes on from there.\n")
        return EXIT_LOST
    status: int = json.loads(line)["status"]
    return 128 - status if status < 0 else status  # as shells report a death by signal
