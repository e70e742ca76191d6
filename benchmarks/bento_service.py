"""What the benchmarks of serving share: a package built for the occasion, a service of it, and clients. Loopback only."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from modellab.quiet import quiet_dependencies
from modellab.settings import read_settings
from models.engine import engine_class
from pipelines.lab import Lab
from serving.package import build, describe
from serving.requirements import SERVICE, pinned
from serving.run import running
from serving.store import Store

TIMEOUT_S = 300.0
URL = "/v1/audio/transcriptions"
UNLIMITED = {"MODELLAB_SERVE_RATE_PER_MINUTE": "1000000", "MODELLAB_SERVE_RATE_BURST": "1000000"}
"""The limit of one client's rate is not what is measured; the queue is as it ships."""
CLIPS = ("digits-george-0", "digits-george-1", "lj-lj001-0002", "jfk-inaugural", "cv-22058267")
"""Recordings of the starter corpus, 2 to 11 s."""


@dataclass(frozen=True)
class Served:
    """A service that runs."""

    url: str
    model: str
    pid: int

    def tree_mib(self) -> float:
        """Resident memory of its processes together."""
        processes = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        return sum(process.memory_info().rss for process in processes) / 2**20


def open_lab() -> Lab:
    lab = read_settings().lab()
    quiet_dependencies(lab.home_folder)
    return lab


@contextmanager
def service_of(lab: Lab, model: str, settings: Mapping[str, str] = UNLIMITED) -> Iterator[Served]:
    """Package a model as it is, without evaluating it, and serve it as a process until the block ends."""
    root = lab.home.root / "benchmarks" / "bento"
    shutil.rmtree(root, ignore_errors=True)
    store = Store(root / "store")
    bundle, located = describe(lab, model, print)
    pins = pinned((*SERVICE, *engine_class(bundle.card).packages))
    try:
        bento = build(lab, store, bundle, located, pins, print)
        with running(store, bento, root.parent / "service.log", settings=settings) as (url, process):
            yield Served(url, model, process.pid)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def clip(lab: Lab, name: str) -> Path:
    """Find a recording of the starter corpus."""
    (found,) = (lab.data / "starter" / "audio").glob(f"{name}.*")
    return found


@dataclass(frozen=True)
class Answer:
    """One request: when it began, how long it took, what came; status 0 is no answer at all."""

    at_s: float
    seconds: float
    status: int
    text: str


class Client:
    """One client that keeps its connection."""

    def __init__(self, served: Served) -> None:
        self._served = served
        # Without certificates, which it would read for nothing: clients work on the cores that are measured.
        self._http = httpx2.Client(base_url=served.url, timeout=TIMEOUT_S, trust_env=False, verify=False)
        self._forms: dict[Path, tuple[bytes, str]] = {}

    def transcribe(self, path: Path, content: bytes) -> Answer:
        """Send a recording and wait for its transcript."""
        # Written once a recording, for the same reason.
        if path not in self._forms:
            fields, files = {"model": self._served.model, "language": "en"}, {"file": (path.name, content)}
            form = self._http.build_request("POST", URL, data=fields, files=files)
            self._forms[path] = form.read(), form.headers["content-type"]
        body, kind = self._forms[path]
        began = time.monotonic()
        try:
            answer = self._http.post(URL, content=body, headers={"Content-Type": kind})
        except httpx2.HTTPError as error:
            return Answer(began, time.monotonic() - began, 0, type(error).__name__)
        return Answer(began, time.monotonic() - began, answer.status_code, answer.text)

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def closed_loop(served: Served, paths: Sequence[Path], clients: int, requests: int) -> tuple[list[Answer], float]:
    """Let clients ask one request after the other until so many are answered; gives the answers and the wall time."""
    contents = [(path, path.read_bytes()) for path in paths]
    lock, left = threading.Lock(), iter(range(requests))

    def work() -> list[Answer]:
        client, answers = Client(served), []
        try:
            while True:
                with lock:
                    number = next(left, None)
                if number is None:
                    return answers
                answers.append(client.transcribe(*contents[number % len(contents)]))
        finally:
            client.close()

    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        done = [pool.submit(work) for _ in range(clients)]
        answers = [answer for future in done for answer in future.result()]
    return answers, time.monotonic() - began
