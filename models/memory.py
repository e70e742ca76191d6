"""What a process costs in memory."""

from __future__ import annotations

from pathlib import Path


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
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024  # macOS counts bytes, others KiB
