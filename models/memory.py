"""What a process costs in memory, and when it gives memory back."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from contextlib import suppress
from pathlib import Path

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20), "MALLOC_ARENA_MAX": "1"}
"""Environment variables that a process which runs an engine is started with; glibc reads them then, others never.

An engine frees hundreds of MiB after each call and wants them again for the next. By default glibc returns them to the
system in between, which then zeroes every page anew: with faster-whisper that was a fifth of all work. So nothing is mapped
on its own, up to 512 MiB of free memory stay, and threads take from one heap instead of each keeping one.
"""

TIDY_S = 30.0
"""Seconds between two returns of freed memory while an engine works."""
_tidied = time.monotonic()


def peak_memory_mib() -> float:
    """High-water mark of this process's resident memory in MiB.

    Read from ``VmHWM``: ``ru_maxrss`` survives ``exec`` on Linux and would count the parent's memory.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024  # macOS counts bytes, others KiB


def give_memory_back() -> None:
    """Return freed memory to the system, which the C library otherwise keeps for later."""
    gc.collect()
    _trim()


def tidy() -> None:
    """Return freed memory to the system if that was not done for `TIDY_S`; to be called after an engine's call.

    A heap that keeps everything slowly comes to hold gaps that no call fits into: in ten minutes a busy service grew by a
    quarter. The next call pays for its pages once, as every call would without `ALLOCATOR`.
    """
    global _tidied
    now = time.monotonic()
    if now - _tidied > TIDY_S:
        _tidied = now
        _trim()


def _trim() -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has no such function
            ctypes.CDLL(None).malloc_trim(0)
