"""What an evaluation costs beyond inference: `modellab evaluate` against a bare loop of the same engine.

Both run as fresh processes with the same number of workers and threads, over the same files in the same order, in turn, in
one run. The evaluation runs beside the servers of `modellab up`, in a home that has been used before (MLflow's tables,
matplotlib's fonts and Python's bytecode are there) but holds no prediction of the model.

Printed are wall times and their ratio, and processor seconds with theirs: the whole tree of processes, and for the
evaluation the servers' too. Wall time is what a user waits and the target is about; on a machine that others use as well,
it says as much about them, and the processor seconds are steadier.

    python benchmarks/evaluation_overhead.py [--model faster-whisper-base] [--rounds 2] [--without standby]
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
from modellab.quiet import quiet_dependencies
from modellab.settings import read_settings
from models.weights import fetch
from pipelines.home import Home

BARE = Path(__file__).with_name("bare_loop.py")
TARGET = 1.10
PREFECT_PORT, MLFLOW_PORT = 4299, 5999


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="faster-whisper-base")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--without", choices=servers.NAMES, help="Do not start this one.")
    options = parser.parse_args()
    lab = read_settings().lab()
    cards = lab.cards()
    fetch(cards[options.model], cards, lab.home.weights, print)
    with tempfile.TemporaryDirectory() as scratch:
        home = Home(Path(scratch) / "home").open()
        (home.root / "weights").symlink_to(lab.home.weights)
        environment = environment_for(home)
        used = "faster-whisper-tiny.en" if options.model != "faster-whisper-tiny.en" else "whisper-tiny.en"
        use = [sys.executable, "-m", "modellab", "evaluate", used, "--corpus", "starter", "--limit", "1"]
        timed(use, environment)
        wanted = [spec for spec in servers.specs(home, PREFECT_PORT, MLFLOW_PORT) if spec.name != options.without]
        quiet_dependencies(home.root)
        servers.start(home, wanted, print)
        try:
            for _ in range(2):  # the servers do much in their first seconds
                timed(use, environment)
            # Whoever comes first has the colder caches, so they take turns.
            rounds = [one_round(options.model, home, environment, bare_first=n % 2 == 0) for n in range(options.rounds)]
        finally:
            servers.stop(home)
    for done in rounds:
        full, bare = done.full, done.bare
        print(
            f"evaluate {full.wall_s:6.1f} s, processors {full.cpu_s:6.1f} s   "
            f"bare loop {bare.wall_s:6.1f} s, {bare.cpu_s:6.1f} s   ratio {done.wall_ratio:.3f}, {done.cpu_ratio:.3f}"
        )
    walls, processors = [done.wall_ratio for done in rounds], [done.cpu_ratio for done in rounds]
    print(f"wall: median ratio {statistics.median(walls):.3f}, {min(walls):.3f} to {max(walls):.3f} (target: {TARGET})")
    print(f"processors: median ratio {statistics.median(processors):.3f}, {min(processors):.3f} to {max(processors):.3f}")


def environment_for(home: Home) -> dict[str, str]:
    """The user's variables, for a home of its own."""
    # Users have bytecode; where a machine does not let Python write it, every process would compile the lab anew.
    dropped = ("PREFECT_HOME", "PREFECT_API_URL", "PYTHONDONTWRITEBYTECODE")
    for name in dropped:
        os.environ.pop(name, None)
    os.environ["MODELLAB_HOME"] = str(home.root)
    return dict(os.environ)


@dataclass(frozen=True)
class Cost:
    """Of one command."""

    wall_s: float
    cpu_s: float
    """User and system time of the command and all its children, and of the servers beside it."""


@dataclass(frozen=True)
class Round:
    """The evaluation and the bare loop, one after the other."""

    full: Cost
    bare: Cost

    @property
    def wall_ratio(self) -> float:
        """What a user waits, in bare loops."""
        return self.full.wall_s / self.bare.wall_s

    @property
    def cpu_ratio(self) -> float:
        """What the machine works, in bare loops."""
        return self.full.cpu_s / self.bare.cpu_s


def one_round(model: str, home: Home, environment: dict[str, str], *, bare_first: bool) -> Round:
    loop = [sys.executable, str(BARE), "--model", model]
    evaluate = [sys.executable, "-m", "modellab", "evaluate", model, "--corpus", "starter", "--json"]
    bare = timed(loop, environment)[0] if bare_first else None
    shutil.rmtree(home.predictions)
    before = cpu_of_servers(home)
    full, out = timed(evaluate, environment)
    full = Cost(full.wall_s, full.cpu_s + cpu_of_servers(home) - before)
    assert json.loads(out)["timings"]["reused"] == 0, "the store was not empty"
    return Round(full, bare or timed(loop, environment)[0])


def cpu_of_servers(home: Home) -> float:
    """Processor seconds of the servers, their children, and those of their children that have ended."""
    running = [psutil.Process(status.pid) for status in servers.status(home) if status.pid is not None]
    return sum(sum(one.cpu_times()[:4]) for server in running for one in (server, *server.children(recursive=True)))


def timed(command: list[str], environment: dict[str, str]) -> tuple[Cost, str]:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, cpu_s), done.stdout


if __name__ == "__main__":
    main()
