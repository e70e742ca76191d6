"""Pools of processes that know before their first import how many threads they may use, and what to do with freed memory.

Processes are spawned, never forked: OpenMP's threads do not survive a fork, and a forked pool hangs for ever.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from models.memory import ALLOCATOR
from models.variables import unless_set, variables

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def spawn_pool(workers: int, threads: int, begin: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Start the processes of a pool at once, side by side with what the caller does next.

    Args:
        workers: How many.
        threads: What the libraries of each may use.
        begin: Called first in each process, with the arguments.
        *arguments: Such as can be pickled.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=begin, initargs=arguments)
    with environment_of_children(threads):
        for _ in range(workers):
            pool.submit(_ready)
    return pool


def environment_of_children(threads: int) -> AbstractContextManager[None]:
    """Let processes that are started in the block know how many threads they have, and to hold on to their memory.

    Both are read before a process runs anything of ours. OpenBLAS, left to itself, takes a thread a core when numpy is
    imported, which spins beside the engine: with faster-whisper that was a tenth of all work. For memory see
    `models.memory.ALLOCATOR`; there, what the user has set stays.
    """
    return variables({**unless_set(ALLOCATOR), **dict.fromkeys(THREAD_VARIABLES, str(threads))})


def _ready() -> None:
    """Do nothing: a pool starts its processes at the first call."""
