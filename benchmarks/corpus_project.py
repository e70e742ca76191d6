"""What the benchmarks of corpora share: a project under git and DVC in a folder of its own, and commands with their cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    seconds: float
    cpu_s: float
    """Processor time of the command and its processes; on a busy machine it says more than the clock."""
    peak_mib: float
    """Largest resident size of the command's own process."""
    answer: Any
    """What it printed as JSON; None where it was ended."""


def make_project(root: Path, *, dvc: bool) -> None:
    """Make a project with the shipped policy."""
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    if dvc:
        for command in (["git", "init", "-q"], [str(Path(sys.executable).parent / "dvc"), "init", "-q"]):
            subprocess.run(command, cwd=root, check=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})
        (root / ".gitignore").write_text("/data\n/.modellab\n")


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ``modellab corpus …`` in a project."""
    environment = {**os.environ, "MODELLAB_PROJECT": str(root), "PYTHONPATH": str(REPOSITORY)}
    environment["DVC_SITE_CACHE_DIR"] = str(root / ".site")
    return subprocess.Popen(
        [sys.executable, "-m", "modellab", "corpus", *arguments, "--json"],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def run(root: Path, *arguments: str) -> Cost:
    """Run ``modellab corpus …`` and take its cost."""
    began = time.perf_counter()
    process = start(root, *arguments)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, printed[-2000:]
    seconds = time.perf_counter() - began
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, json.loads(printed))


def write_sound(path: Path, seed: int, seconds: float, rate_hz: int) -> None:
    """Write noise in bursts, each file another: what is the same twice would be refused."""
    count = round(seconds * rate_hz)
    envelope = 0.5 + 0.5 * np.sin(np.arange(count) * (2 * np.pi * 3 / rate_hz))
    noise = np.random.default_rng(seed).standard_normal(count)
    soundfile.write(path, (0.1 * envelope * noise).astype(np.float32), rate_hz, subtype="PCM_16")
