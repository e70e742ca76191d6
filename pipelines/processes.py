"""Pools of processes that know how many threads they may use before their first import.

Processes are spawned, never forked: OpenMP's threads do not survive a fork, and a forked pool hangs for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_environment = threading.Lock()
"""Held while the environment is not the user's."""


def spawn_pool(workers: int, threads: int, begin: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Start the processes of a pool at once, side by side with what the caller does next.

    Args:
        workers: How many.
        threads: What the libraries of each may use.
        begin: Called first in each process, with the arguments.
        *arguments: Such as can be pickled.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=begin, initargs=arguments)
    with threads_of_children(threads):
        for _ in range(workers):
            pool.submit(_ready)
    return pool


@contextmanager
def threads_of_children(threads: int) -> Iterator[None]:
    """Let processes that are started in the block know how many threads their libraries may use.

    OpenBLAS reads this when numpy is imported, which a process does before it runs anything of ours. Left to itself it takes
    a thread a core, which spins beside the engine: with faster-whisper that was a tenth of all work.
    """
    with _environment:
        before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _ready() -> None:
    """Do nothing: a pool starts its processes at the first call."""
