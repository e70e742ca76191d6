"""What an evaluation costs beyond inference: `modellab evaluate` against a bare loop of the same engine.

Both run as fresh processes with the same number of workers and threads, over the same files in the same order, in turn, in
one run. The evaluation talks to a Prefect server that runs already, in a home that has been used before (MLflow's tables,
matplotlib's fonts and Python's bytecode are there) but holds no prediction of the model.

Printed are wall times and their ratio, and processor seconds with theirs: the whole tree of processes, and for the
evaluation the server's too. Wall time is what a user waits and the target is about; on a machine that others use as well,
it says as much about them, and the processor seconds are steadier.

    python benchmarks/evaluation_overhead.py [--model faster-whisper-base] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from modellab import servers
from modellab.settings import quiet_dependencies, read_settings
from models.weights import fetch
from pipelines.home import Home

BARE = Path(__file__).with_name("bare_loop.py")
TARGET = 1.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="faster-whisper-base")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    lab = read_settings().lab()
    cards = lab.cards()
    fetch(cards[options.model], cards, lab.home.weights, print)
    with tempfile.TemporaryDirectory() as scratch:
        server_home = Home(Path(scratch) / "server")
        quiet_dependencies(server_home.root)
        spec = servers.specs(server_home, 4299, 5999)[0]
        servers.start(server_home, [spec], print)
        try:
            (running,) = [status for status in servers.status(server_home) if status.name == spec.name]
            server = psutil.Process(running.pid)
            rounds = []
            for number in range(options.rounds):
                home = Path(tempfile.mkdtemp(dir=scratch))
                (home / "weights").symlink_to(lab.home.weights)
                # Whoever comes first has the colder caches, so they take turns.
                rounds.append(one_round(options.model, home, f"{spec.url}/api", server, bare_first=number % 2 == 0))
                shutil.rmtree(home)
        finally:
            servers.stop(server_home)
    for done in rounds:
        full, bare = done.full, done.bare
        print(
            f"evaluate {full.wall_s:6.1f} s, processors {full.cpu_s:6.1f} s (server {done.server_cpu_s:.1f} s)   "
            f"bare loop {bare.wall_s:6.1f} s, {bare.cpu_s:6.1f} s   ratio {done.wall_ratio:.3f}, {done.cpu_ratio:.3f}"
        )
    walls, processors = [done.wall_ratio for done in rounds], [done.cpu_ratio for done in rounds]
    print(f"wall: median ratio {statistics.median(walls):.3f}, {min(walls):.3f} to {max(walls):.3f} (target: {TARGET})")
    print(f"processors: median ratio {statistics.median(processors):.3f}, {min(processors):.3f} to {max(processors):.3f}")


@dataclass(frozen=True)
class Cost:
    """Of one command."""

    wall_s: float
    cpu_s: float
    """User and system time of the command and all its children."""


@dataclass(frozen=True)
class Round:
    """The evaluation and the bare loop, one after the other."""

    full: Cost
    bare: Cost
    server_cpu_s: float
    """Processor time of the Prefect server while the evaluation ran."""

    @property
    def wall_ratio(self) -> float:
        """What a user waits, in bare loops."""
        return self.full.wall_s / self.bare.wall_s

    @property
    def cpu_ratio(self) -> float:
        """What the machine works, in bare loops."""
        return (self.full.cpu_s + self.server_cpu_s) / self.bare.cpu_s


def one_round(model: str, home: Path, api: str, server: psutil.Process, *, bare_first: bool) -> Round:
    environment = {**os.environ, "MODELLAB_HOME": str(home), "PREFECT_API_URL": api}
    # Users have bytecode; where a machine does not let Python write it, every process would compile the lab anew.
    for name in ("PREFECT_HOME", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    used = "faster-whisper-tiny.en" if model != "faster-whisper-tiny.en" else "whisper-tiny.en"
    command = [sys.executable, "-m", "modellab", "evaluate"]
    timed([*command, used, "--corpus", "starter", "--limit", "1"], environment)
    loop = [sys.executable, str(BARE), "--model", model]
    bare = timed(loop, environment)[0] if bare_first else None
    before = cpu_of(server)
    full, out = timed([*command, model, "--corpus", "starter", "--json"], environment)
    server_cpu_s = cpu_of(server) - before
    assert json.loads(out)["timings"]["reused"] == 0, "the store was not empty"
    return Round(full, bare or timed(loop, environment)[0], server_cpu_s)


def cpu_of(process: psutil.Process) -> float:
    return sum(sum(member.cpu_times()[:2]) for member in (process, *process.children(recursive=True)))


def timed(command: list[str], environment: dict[str, str]) -> tuple[Cost, str]:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, cpu_s), done.stdout


if __name__ == "__main__":
    main()
