"""A service under twice the load that it can serve: no crash, no growth of memory, every request answered.

A package runs in processes of its own on loopback with the settings that it ships with but for the rate of one client. Its
capacity is measured first, by clients that keep it busy; then requests arrive at a multiple of that, evenly, whether or not
others were answered. Each must be answered by 200, 429 or 503, and the memory of the service may grow by a tenth at most,
from the peak of the first tenth of the time to the peak of the rest. Exits with 1 where that does not hold.

    python benchmarks/bento_soak.py [--seconds 600] [--factor 2] [--model faster-whisper-tiny.en] [--out DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from bento_service import CLIPS, Answer, Client, Served, clip, closed_loop, open_lab, service_of

ALLOWED = frozenset({200, 429, 503})
GROWTH_TARGET = 0.10
SAMPLE_S = 0.5
MOST_AT_ONCE = 64
"""Threads that ask: more than the service's queue has places, so that it is the service that turns requests away."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="faster-whisper-tiny.en")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--factor", type=float, default=2, help="times the capacity")
    parser.add_argument("--capacity-requests", type=int, default=60, help="from which the capacity is measured")
    parser.add_argument("--out", type=Path, help="folder for soak.json and soak.png; default: benchmarks/ in the home")
    options = parser.parse_args()
    lab = open_lab()
    out = options.out or lab.home.root / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    paths = [clip(lab, name) for name in CLIPS]
    with service_of(lab, options.model) as served:
        expected = {path: Client(served).transcribe(path, path.read_bytes()).text for path in paths}
        warm, wall_s = closed_loop(served, paths, 4, options.capacity_requests)
        assert all(answer.status == 200 for answer in warm)
        capacity = len(warm) / wall_s
        print(f"capacity: {capacity:.2f} requests/s; {options.factor:g} times that for {options.seconds:g} s")
        memory = Memory(served)
        answers = open_loop(served, paths, capacity * options.factor, options.seconds)
        memory.stop()
        after = {path: Client(served).transcribe(path, path.read_bytes()) for path in paths}
        alive = all(answer.status == 200 and answer.text == expected[path] for path, answer in after.items())
    report = judged(answers, memory, options.seconds) | {"capacity_per_s": capacity, "alive": alive, "model": options.model}
    (out / "soak.json").write_text(json.dumps(report | {"memory": memory.samples}, indent=1), encoding="utf-8")
    draw(answers, memory, out / "soak.png")
    for name, value in report.items():
        print(f"{name}: {value}")
    print(f"written: {out / 'soak.json'}, {out / 'soak.png'}")
    held = alive and report["other"] == 0 and report["memory_growth"] <= GROWTH_TARGET
    print("held" if held else "NOT held")
    sys.exit(0 if held else 1)


class Memory:
    """Samples the service's resident memory while it works."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._began = time.monotonic()
        self._end = threading.Event()
        self.samples: list[tuple[float, float]] = []
        """Seconds since the beginning, MiB."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(SAMPLE_S):
            self.samples.append((round(time.monotonic() - self._began, 2), round(self._served.tree_mib(), 1)))

    def stop(self) -> None:
        """Take no more."""
        self._end.set()
        self._thread.join()


def open_loop(served: Served, paths: list[Path], per_s: float, seconds: float) -> list[Answer]:
    """Send requests at a rate, evenly; gives all answers, each counted from when it was due."""
    contents = [(path, path.read_bytes()) for path in paths]
    own = threading.local()

    def ask(number: int, due: float) -> Answer:
        if not hasattr(own, "client"):
            own.client = Client(served)
        answer: Answer = own.client.transcribe(*contents[number % len(contents)])
        return Answer(due - began, time.monotonic() - due, answer.status, answer.text)

    began = time.monotonic()
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        futures = []
        for number in range(int(per_s * seconds)):
            due = began + number / per_s
            time.sleep(max(0.0, due - time.monotonic()))
            futures.append(pool.submit(ask, number, due))
        return [future.result() for future in futures]


def judged(answers: list[Answer], memory: Memory, seconds: float) -> dict[str, object]:
    """Count what came, and hold the memory's later peak to the first tenth's."""
    statuses = Counter(answer.status for answer in answers)
    first = max(mib for at, mib in memory.samples if at <= seconds / 10)
    rest = max(mib for at, mib in memory.samples if at > seconds / 10)
    served = [answer.seconds for answer in answers if answer.status == 200]
    refused = [answer.seconds for answer in answers if answer.status in (429, 503)]
    return {
        "seconds": seconds,
        "requests": len(answers),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "other": sum(count for status, count in statuses.items() if status not in ALLOWED),
        "served_per_s": round(len(served) / seconds, 2),
        "served_p50_s": round(float(np.quantile(served, 0.5)), 2),
        "served_p99_s": round(float(np.quantile(served, 0.99)), 2),
        "refused_p99_s": round(float(np.quantile(refused, 0.99)), 2) if refused else None,
        "memory_first_tenth_mib": first,
        "memory_rest_mib": rest,
        "memory_growth": round(rest / first - 1, 4),
    }


def draw(answers: list[Answer], memory: Memory, target: Path) -> None:
    """Plot memory and latency over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 6), sharex=True, layout="constrained")
    top.plot(*zip(*memory.samples, strict=True))
    top.set(ylabel="resident memory in MiB", ylim=(0, None))
    for status, colour in ((200, "tab:blue"), (503, "tab:orange"), (429, "tab:red")):
        chosen = [(answer.at_s, answer.seconds) for answer in answers if answer.status == status]
        if chosen:
            bottom.scatter(*zip(*chosen, strict=True), s=4, color=colour, label=str(status))
    bottom.set(xlabel="s", ylabel="latency in s", ylim=(0, None))
    bottom.legend()
    figure.savefig(target, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
