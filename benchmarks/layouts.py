"""Which layout of processes and threads is fastest: one process of all cores, or as many single-threaded ones.

python benchmarks/layouts.py [--model faster-whisper-tiny.en] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics

from bare_loop import run, starter_jobs

from modellab.settings import read_settings
from models.engine import available_cores
from models.weights import fetch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="faster-whisper-tiny.en")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lab = read_settings().lab()
    cards = lab.cards()
    card = cards[options.model]
    weights = fetch(card, cards, lab.home.weights, print).folder
    jobs = starter_jobs(card)
    cores = available_cores()
    layouts = {(1, cores), (cores, 1)}
    seconds: dict[tuple[int, int], list[float]] = {layout: [] for layout in sorted(layouts)}
    for _ in range(options.rounds):
        for workers, threads in seconds:
            seconds[workers, threads].append(run(card, weights, jobs, workers, threads))
    best = min(statistics.median(values) for values in seconds.values())
    for (workers, threads), values in seconds.items():
        median = statistics.median(values)
        print(f"{workers} process(es) x {threads} thread(s): median {median:6.1f} s, {median / best:.2f} x the fastest")


if __name__ == "__main__":
    main()
