"""What an evaluation costs beyond inference: `modellab evaluate` against a bare loop of the same engine.

Both run as fresh processes with the same number of workers and threads, over the same files in the same order, in turn, in
one run. The evaluation talks to a Prefect server that runs already, in a home that has been used before (MLflow's tables and
matplotlib's fonts are there) but holds no prediction of the model. Printed are the wall times and their ratio.

    python benchmarks/evaluation_overhead.py [--model faster-whisper-base] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
            rounds = [
                one_round(options.model, lab.home.weights, f"{spec.url}/api", Path(scratch)) for _ in range(options.rounds)
            ]
        finally:
            servers.stop(server_home)
    ratios = [full / bare for full, bare, _ in rounds]
    for full, bare, inside in rounds:
        print(
            f"evaluate {full:6.1f} s   bare loop {bare:6.1f} s   ratio {full / bare:.3f}   inside the flow {inside:6.1f} s"
        )
    print(f"median ratio {statistics.median(ratios):.3f} (target: at most {TARGET})")


def one_round(model: str, weights: Path, api: str, scratch: Path) -> tuple[float, float, float]:
    """Give the wall time of the evaluation, of the bare loop, and of the flow inside the evaluation."""
    home = Path(tempfile.mkdtemp(dir=scratch))
    used = "faster-whisper-tiny.en" if model != "faster-whisper-tiny.en" else "whisper-tiny.en"
    (home / "weights").symlink_to(weights)
    environment = {**os.environ, "MODELLAB_HOME": str(home), "PREFECT_API_URL": api}
    environment.pop("PREFECT_HOME", None)
    timed([sys.executable, "-m", "modellab", "evaluate", used, "--corpus", "starter", "--limit", "1"], environment)
    bare = timed([sys.executable, str(BARE), "--model", model], environment)[0]
    full, out = timed([sys.executable, "-m", "modellab", "evaluate", model, "--corpus", "starter", "--json"], environment)
    result = json.loads(out)
    assert result["timings"]["reused"] == 0, "the store was not empty"
    shutil.rmtree(home)
    return full, bare, result["timings"]["wall_s"]


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return time.perf_counter() - start, done.stdout


if __name__ == "__main__":
    main()
