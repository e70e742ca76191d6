"""A packaged service is told to end while requests are in flight: they are answered whole, and it can be started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest

from models.memory import ALLOCATOR
from serving.parity import HeardSample, check_parity
from serving.run import running
from tests.serving.evaluated_lab import RECOGNISER, Shipped
from tests.serving.service import TIMEOUT_S, wait_until

pytestmark = pytest.mark.real

PATH = "/v1/audio/transcriptions"


@contextmanager
def half_sent(url: str, sample: HeardSample) -> Iterator[tuple[socket.socket, bytes]]:
    """Send a request but for its second half; gives the connection and what is left to send."""
    form = {"model": RECOGNISER, "language": "en"}
    request = httpx2.Request("POST", f"{url}{PATH}", data=form, files={"file": ("a", sample.path.read_bytes())})
    body = request.read()
    head = f"POST {PATH} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", request.url.port or 0), TIMEOUT_S) as connection:
        connection.sendall(head.encode() + b"\r\n" + body[: len(body) // 2])
        yield connection, body[len(body) // 2 :]


def answer_on(connection: socket.socket, rest: bytes) -> tuple[int, str]:
    """Send the rest, and read the answer to its end."""
    connection.sendall(rest)
    received = b""
    while block := connection.recv(65536):
        received += block
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
        )
        if body and len(body) >= length:
            return int(head.split()[1]), json.loads(body)["text"]
    raise AssertionError(f"the connection was closed after {received!r}")


def waiting(url: str) -> int:
    return int(httpx2.get(f"{url}/v1/statistics", trust_env=False).json()["queue"]["waiting"])


def listens(process: psutil.Process) -> bool:
    """Whether a worker takes connections."""
    return any(found.status == psutil.CONN_LISTEN for found in process.net_connections("tcp"))


def worker_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    (server,) = psutil.Process(process.pid).children()  # of its guard
    (worker,) = [child for child in server.children() if listens(child)]
    return worker


def test_what_is_in_flight_when_it_is_told_to_end_is_answered(shipped: Shipped, tmp_path: Path) -> None:
    sample = shipped.samples[0]
    assert isinstance(sample, HeardSample)
    with running(shipped.store, shipped.bento, tmp_path / "log") as (url, process):
        worker = worker_of(process)
        assert worker.environ().items() >= ALLOCATOR.items(), "which glibc reads when a process starts"
        with half_sent(url, sample) as (connection, rest):
            wait_until(lambda: waiting(url) == 1)  # it has its place, and nothing was heard yet
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not listens(worker))  # the end has begun
            assert answer_on(connection, rest) == (200, sample.text)
        assert process.wait(TIMEOUT_S) == 0
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith('{"time"')]
    assert [line["status"] for line in lines if line.get("route") == PATH] == [200]
    # Nothing is left that keeps it from starting again, and it answers as before.
    with running(shipped.store, shipped.bento, tmp_path / "log") as (url, _):
        assert check_parity(url, RECOGNISER, shipped.packaged.fingerprint, shipped.samples).passed


def test_a_client_that_never_ends_its_request_does_not_keep_it_alive(shipped: Shipped, tmp_path: Path) -> None:
    """It is given up at the upload's limit; the limit is set low here, and nothing depends on how low."""
    sample = shipped.samples[0]
    assert isinstance(sample, HeardSample)
    settings = {"MODELLAB_SERVE_MAX_UPLOAD_S": "2"}
    with (
        running(shipped.store, shipped.bento, tmp_path / "log", settings=settings) as (url, process),
        half_sent(url, sample) as (connection, _),
        ThreadPoolExecutor(1) as threads,
    ):
        received = threads.submit(connection.recv, 65536)
        wait_until(lambda: waiting(url) == 1 or received.done())
        process.send_signal(signal.SIGTERM)
        assert b" 408 " in received.result(TIMEOUT_S)
        assert process.wait(TIMEOUT_S) == 0
