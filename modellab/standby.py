"""The standby process of `modellab up`: it has imported what evaluations need, and forks for each command handed over.

Started by `modellab.servers`, asked by `modellab.handover`. It only waits: it opens no store and keeps nothing between
commands. When the code changes that it has imported, or the Prefect server whose address it has read, it starts itself
anew, and the command that found it so runs by itself.

A fork is safe while no thread of Python runs here and no library with OpenMP is loaded, whose threads a fork does not have.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from modellab import handover
from modellab.quiet import quiet_dependencies
from models.collector import collector_paused
from pipelines.home import Home

IMPORTED = (
    "flows.compare",
    "flows.evaluate",
    "pipelines.report.comparison",
    "pipelines.report.evaluation",
    "anyio._backends._asyncio",
    "dvc.dvcfile",
    "dvc.repo",
    "jinja2",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "pyarrow.parquet",
    "scipy.optimize",
    "sqlalchemy.dialects.sqlite",
)
"""The flows, and what libraries import when they are first used."""
OURS = ("flows", "modellab", "models", "pipelines", "registry", "serving")
MODULE = "modellab.standby"
POLL_S = 0.05
HELD = {signal.SIGCHLD, signal.SIGTERM}
"""Not answered here until it is known who waits for a fork, and in the fork not by what answers them here: it would end
with 0, as if its command had passed."""


@dataclass(frozen=True)
class Command:
    """A command handed over; see `modellab.handover.hand_over`."""

    connection: socket.socket
    files: list[int]
    """Standard input, output and error of the process that waits for it."""
    arguments: list[str]
    folder: str
    environment: dict[str, str]

    def take_over(self) -> None:
        """Make this fork the process that the command was typed for."""
        os.setpgid(0, 0)  # it is paused together with its workers
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        for place, file in enumerate(self.files):
            os.dup2(file, place)
            os.close(file)
        for stream in (sys.stdout, sys.stderr):
            # The ignored type: libraries wrap the interpreter's stream, and pass this on to it.
            stream.reconfigure(line_buffering=stream.isatty())  # type: ignore[union-attr]
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.argv[1:] = self.arguments
        threading.Thread(target=self._end_with_client, daemon=True).start()

    def _end_with_client(self) -> None:
        """End as if killed when the process that waits was killed; what it passes on comes as signals."""
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Import, wait, and in each fork run one command and end with its exit code."""
    from modellab.entry import end_at_once, run_command

    codes = end_at_once()  # first, so that the exit handlers of all that is imported come before it
    home = handover.find_home_here()
    assert home is not None, "`modellab up` has a home"
    quiet_dependencies(home.root)
    given, circumstances = dict(os.environ), handover.circumstances(home)
    with handover.address(home) as path, socket.socket(socket.AF_UNIX) as listener:
        is_current = import_all(home)
        Path(path).unlink(missing_ok=True)
        mask = os.umask(0o077)  # nobody else's commands
        listener.bind(path)
        os.umask(mask)
        listener.listen()
        command = wait(listener, circumstances, is_current)
    if command is None:
        os.execve(sys.executable, [sys.executable, "-m", MODULE], given)  # noqa: S606 (this very program)
    command.take_over()
    run_command(codes)


def import_all(home: Home) -> Callable[[], bool]:
    """Import what commands would import, and give what says whether they would find the same now."""
    from modellab.servers import running_prefect, use_running_prefect
    from pipelines.report.figures import warm_up

    use_running_prefect(home)
    prefect = running_prefect(home)
    with collector_paused():
        for name in IMPORTED:
            importlib.import_module(name)
        warm_up()
    stamps = stamps_of_code()
    return lambda: stamps == stamps_of_code() and prefect == running_prefect(home)


def stamps_of_code() -> dict[str, tuple[int, int]]:
    """Give when each file of ours that is imported was changed (ns) and its size, and when a package was last installed."""
    ours = [module.__file__ for name, module in list(sys.modules.items()) if name.partition(".")[0] in OURS]
    stamps = {}
    for file in [sysconfig.get_path("purelib"), *filter(None, ours)]:
        with contextlib.suppress(FileNotFoundError):  # a file that is gone is a change as well
            stat = Path(file).stat()
            stamps[file] = stat.st_mtime_ns, stat.st_size
    return stamps


def wait(listener: socket.socket, circumstances: dict[str, Any], is_current: Callable[[], bool]) -> Command | None:
    """Fork for each command; returns in each fork with the command, and in this process with None when it is outdated."""
    waiting: dict[int, socket.socket] = {}

    def tell(number: int, frame: FrameType | None) -> None:
        """Tell those who wait for a fork how it ended."""
        while waiting and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with waiting.pop(ended[0]) as connection:
                answer(connection, status=os.waitstatus_to_exitcode(ended[1]))

    def end(number: int, frame: FrameType | None) -> None:
        """End when all forks have, so that whoever waits for one is told."""
        while waiting:
            time.sleep(POLL_S)
        sys.exit(0)

    signal.signal(signal.SIGCHLD, tell)
    signal.signal(signal.SIGTERM, end)
    while True:
        connection, _ = listener.accept()
        command = receive(connection, circumstances)
        if command is None:
            continue
        current = is_current()
        if current:
            signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
            process = os.fork()
            if not process:
                for other in waiting.values():
                    other.close()
                return command
            waiting[process] = connection
            answer(connection, process=process)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        else:
            connection.close()
        for file in command.files:
            os.close(file)
        if not current and not waiting:
            return None


def receive(connection: socket.socket, circumstances: dict[str, Any]) -> Command | None:
    """Read what is handed over; None, and a closed connection, where it must run elsewhere or is none."""
    connection.settimeout(handover.PATIENCE_S)
    files: list[int] = []
    try:
        _, files, _, _ = socket.recv_fds(connection, 1, handover.FILES)
        with connection.makefile("rb") as lines:
            request = json.loads(lines.readline())
        if request["circumstances"] == circumstances:
            connection.settimeout(None)
            return Command(connection, files, request["arguments"], request["folder"], request["environment"])
    except (OSError, ValueError, LookupError, TypeError):  # it has hung up, is slow, or another program
        pass
    for file in files:
        os.close(file)
    connection.close()
    return None


def answer(connection: socket.socket, **values: int) -> None:
    """Send one answer; to nobody where the other has gone."""
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(values).encode() + b"\n")


if __name__ == "__main__":
    main()
