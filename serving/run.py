"""Running a Bento as a process on a loopback port; it ends without cutting off what is in flight, and with its starter."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import psutil

from models.errors import StateError
from serving import guard
from serving.bundle import FAILED
from serving.store import Bento, Store, last_line, serve_command

LOOPBACK = "127.0.0.1"
READY_TIMEOUT_S = 600.0
"""Loading the largest models from a slow disk takes minutes."""
POLL_S = 0.2

SETTINGS = "MODELLAB_SERVE_"
CHECK_SETTINGS = {
    f"{SETTINGS}MAX_AUDIO_S": "14400",
    f"{SETTINGS}MAX_UPLOAD_BYTES": str(1 << 30),
    f"{SETTINGS}MAX_INPUT_CHARS": "1000000",
    f"{SETTINGS}MAX_DECODE_S": "600",
}
"""A check asks for what was evaluated, however long it is, and from this machine only. The user's settings are not used."""


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def check_port(port: int) -> None:
    """Refuse a port that is taken.

    Raises:
        StateError: Someone listens on it, or it may not be used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise StateError(f"Port {port} cannot be used ({error.strerror}).", "Choose another with --port.") from error


@contextmanager
def running(
    store: Store, bento: Bento, log: Path, *, port: int | None = None, settings: Mapping[str, str] = CHECK_SETTINGS
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve a Bento until the block ends.

    Args:
        store: Where it lies.
        bento: What to serve.
        log: File that takes what the service prints.
        port: On loopback, with the user's settings; None is for a check: a free one, with `settings`.
        settings: Environment variables of the service in place of the user's, where no port is given.

    Yields:
        Its address, ready for requests, and its process.

    Raises:
        StateError: It ended before it was ready, or did not become ready in time.
    """
    environment = store.environment()
    if port is None:
        port = free_port()
        environment = {k: v for k, v in environment.items() if not k.startswith(SETTINGS)} | dict(settings)
    url = f"http://{LOOPBACK}:{port}"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            guard.command(serve_command(bento.path, port, LOOPBACK)),
            cwd=store.home,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for us: the service ends with the block
        )
    try:
        _wait_until_ready(process, url, log, bento)
        yield url, process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a service; what is in flight is finished first, unless the wait is interrupted."""
    if process.poll() is not None:
        return
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(guard.STOP_TIMEOUT_S)
    finally:
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, bento: Bento) -> None:
    until = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None and _failure(log) is None:
        if _answers(f"{url}/readyz"):
            return
        time.sleep(POLL_S)
    failed = _failure(log) or last_line(log.read_text(errors="replace"))
    raise StateError(f"The service of {bento.tag} did not become ready: {failed}.", f"Its log is {log}.")


def _answers(url: str) -> bool:
    try:
        return bool(httpx2.get(url, timeout=5.0, trust_env=False).status_code == 200)
    except httpx2.HTTPError:
        return False


def _failure(log: Path) -> str | None:
    for line in log.read_text(errors="replace").splitlines():
        if FAILED in line:
            return line.partition(FAILED)[2].strip().rstrip(".")
    return None
