"""Add 1,000 recordings of 5 s, against a bare decode of the same files in as many processes.

The addition reads, measures, holds to the suites, copies, and makes a DVC version; the target is a minute on two cores.

    python benchmarks/corpus_add_1000.py [--files 1000] [--seconds 5] [--rounds 3] [--no-dvc]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import soundfile
from corpus_project import make_project, run, write_sound

RATE_HZ = 16_000
TARGET_S = 60


def decode(paths: list[str]) -> float:
    """Give the processor time that decoding took."""
    began = time.process_time()
    for path in paths:
        soundfile.read(path, dtype="float32")
    return time.process_time() - began


def bare_decode(paths: list[str], processes: int) -> tuple[float, float]:
    """Decode all; gives seconds by the clock and of the processor."""
    shards = [paths[start : start + 64] for start in range(0, len(paths), 64)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(decode, [paths[:1]] * processes))  # the start of the processes is not the decode
        began = time.perf_counter()
        cpu_s = sum(pool.map(decode, shards))
        return time.perf_counter() - began, cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-dvc", action="store_true")
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory(prefix="modellab-bench-") as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        for number in range(arguments.files):
            path = source / f"u{number:04}.flac"
            write_sound(path, number, arguments.seconds, RATE_HZ)
            path.with_suffix(".txt").write_text(f"this is sentence number {number} of them\n")
        paths = [str(path) for path in sorted(source.glob("*.flac"))]
        for number in range(arguments.rounds):
            root = Path(scratch) / f"round{number}"
            make_project(root, dvc=not arguments.no_dvc)
            bare_s, bare_cpu_s = bare_decode(paths, 2)
            cost = run(root, "add", str(source), "--name", "bench", "--licence", "internal", "--speaker", "one")
            again = run(root, "validate", "bench")
            assert cost.answer["status"] == "added" and cost.answer["validation"]["measured"] == arguments.files
            assert again.answer["measured"] == 0
            ratios.append(cost.cpu_s / bare_cpu_s)
            print(
                f"round {number + 1}: added in {cost.seconds:.1f} s (target {TARGET_S} s), {cost.cpu_s:.1f} s of processor; "
                f"bare decode {bare_s:.1f} s, {bare_cpu_s:.1f} s of processor: {ratios[-1]:.1f} times as much; peak "
                f"{cost.peak_mib:.0f} MiB; validated again in {again.seconds:.1f} s ({again.cpu_s:.1f}), nothing read",
                flush=True,
            )
    print(f"median ratio {median(ratios):.1f}")


if __name__ == "__main__":
    main()
