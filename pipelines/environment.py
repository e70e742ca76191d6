"""Where a number was made: hardware, versions, and the commit of the project."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path

import psutil

VERSIONS = ("modellab", "jiwer", "numpy", "soundfile", "soxr", "torch", "prefect", "mlflow", "dvc")


def hardware() -> dict[str, str]:
    """Describe the machine as far as speed depends on it."""
    return {
        "cpu": _cpu_model(),
        "cores": str(psutil.cpu_count() or 0),
        "memory_gib": str(round(psutil.virtual_memory().total / 2**30)),
        "system": f"{platform.system()} {platform.machine()}",
    }


def hardware_digest() -> str:
    """Digest of `hardware`; speeds of different machines are never compared."""
    return hashlib.sha256(json.dumps(hardware(), sort_keys=True).encode()).hexdigest()[:16]


def environment(project: Path) -> dict[str, str]:
    """Hardware, Python, the versions that matter, and git's commit and dirty state."""
    found = {**hardware(), "python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**found, **git_state(project)}


def git_state(project: Path) -> dict[str, str]:
    """Commit and dirty state of the project; empty outside a git checkout."""
    commit = _git(project, "rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = _git(project, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": str(bool(dirty)).lower()}


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
