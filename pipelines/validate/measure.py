"""Measuring the recordings that were not measured before, in processes, a batch at a time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from models.audio import file_sha256
from pipelines.processes import spawn_pool
from pipelines.progress import listener
from pipelines.validate.facts import measure_file
from pipelines.validate.store import FactsStore, Measured, stamp_of

BATCH_FILES = 64
"""Files a batch: what a killed run loses of each process."""
BATCHES_AHEAD = 4
"""Batches handed out a process; bounds what is in memory, whatever the size of the corpus."""
FEW_FILES = 32
"""So many are measured in this process: starting others costs more."""


@dataclass
class Counts:
    """What one round of measuring did."""

    measured: int = 0
    """Files that were decoded."""
    reused: int = 0
    """Files known from before, by place and time or by their bytes."""


def measure_missing(paths: Iterable[Path], store: FactsStore, workers: int, what: str, total: int) -> Counts:
    """Measure those of the files that the store does not know; each batch is kept as soon as it is done.

    A file that is not there is passed over: the suites tell it.

    Args:
        paths: The files; a generator is read as it is needed.
        store: What is known, and where results go.
        workers: Processes.
        what: What progress is told about.
        total: How many files there are.
    """
    counts = Counts()
    progress = listener.get()
    progress.start(what, total)
    try:
        unknown = _unknown(paths, store, counts, progress.advance)
        first = list(islice(unknown, FEW_FILES))
        for batch in _measured(store, first, unknown, workers):
            fresh = sum(measured.facts is not None for measured in batch)
            counts.measured += fresh
            counts.reused += len(batch) - fresh
            store.add(batch)
            progress.advance(len(batch))
    finally:
        progress.finish()
    return counts


def _unknown(paths: Iterable[Path], store: FactsStore, counts: Counts, advance: Callable[[int], None]) -> Iterator[Path]:
    """Give the files that must be read; the others are counted."""
    passed = 0
    for path in paths:
        try:
            known = store.digest_of(path, stamp_of(path))
        except OSError:
            passed += 1
        else:
            if known is None or not store.has(known):
                yield path
                continue
            counts.reused += 1
            passed += 1
        if passed >= BATCH_FILES:
            advance(passed)
            passed = 0
    advance(passed)


def _measured(store: FactsStore, first: list[Path], rest: Iterator[Path], workers: int) -> Iterator[list[Measured]]:
    if len(first) < FEW_FILES:
        if first:
            yield _measure([str(path) for path in first], store)
        return
    paths = chain(first, rest)
    with spawn_pool(workers, 1, _begin, store.path) as pool:
        running: set[Future[list[Measured]]] = set()
        while True:
            while len(running) < workers * BATCHES_AHEAD and (batch := [str(p) for p in islice(paths, BATCH_FILES)]):
                running.add(pool.submit(_measure_there, batch))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


_store: list[FactsStore] = []
"""Of a worker process: what is known already."""


def _begin(path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _store.append(FactsStore(path))


def _measure_there(paths: list[str]) -> list[Measured]:
    return _measure(paths, _store[0])


def _measure(paths: list[str], store: FactsStore) -> list[Measured]:
    out = []
    for path in map(Path, paths):
        try:
            stamp = stamp_of(path)
            sha256 = file_sha256(path)
            out.append(Measured(path, stamp, sha256, None if store.has(sha256) else measure_file(path, sha256)))
        except OSError:  # gone or not readable: the suites tell it
            continue
    return out
