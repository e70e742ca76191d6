"""Add, validate and slice a corpus of 200,000 made-up utterances: seconds, peak memory, and what a kill costs.

The addition is killed when half of the recordings are measured, and run again. Then everything is validated once more, ten
recordings are changed and it is validated again, and a slice is read. Memory is that of the command's own process.

    python benchmarks/corpus_200k.py [--utterances 200000] [--dvc]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import wave
from contextlib import closing
from pathlib import Path

import numpy as np
from corpus_project import REPOSITORY, Cost, make_project, run, start, write_sound

RATE_HZ = 4_000
SECONDS = 0.25
CHANGED = 10
SLICE = """
import sys, time
from pathlib import Path
from models.memory import peak_memory_mib
from pipelines.corpus import find_corpus
began, before = time.perf_counter(), peak_memory_mib()
kept = len(find_corpus("big", Path(sys.argv[1]), [("accent", "a3"), ("domain", "calls")]).utterances)
print(kept, time.perf_counter() - began, peak_memory_mib() - before)
"""


NOISE = np.random.default_rng(0).integers(-6000, 6000, 1 << 22, dtype=np.int16).tobytes()


def write_quickly(path: Path, number: int) -> None:
    """Write a WAV file of noise that no other number has; the standard library alone takes a tenth of libsndfile's time."""
    length = round(SECONDS * RATE_HZ) * 2
    start_ = number * 38 % (len(NOISE) - length)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(NOISE[start_ : start_ + length])


def make_source(folder: Path, count: int) -> None:
    with (folder / "manifest.jsonl").open("w") as manifest:
        for number in range(count):
            name = f"{number // 1000:03}/u{number:06}.wav"
            (folder / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
            write_quickly(folder / "audio" / name, number)
            row = {
                "id": f"u{number:06}",
                "audio_filepath": f"audio/{name}",
                "duration": SECONDS,
                "text": f"word {number}",
                "speaker": f"s{number % 2000}",
                "license": "CC0-1.0",
                "tags": {"domain": ("read", "calls")[number % 2], "accent": f"a{number % 20}"},
            }
            manifest.write(json.dumps(row) + "\n")


def measured(root: Path) -> int:
    path = root / ".modellab" / "validations" / "facts.sqlite"
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(path, timeout=1)) as database:
            return int(database.execute("select count(*) from seen").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


def kill_half_way(root: Path, arguments: list[str], half: int) -> tuple[float, int]:
    began = time.perf_counter()
    process = start(root, *arguments)
    while measured(root) < half:
        assert process.poll() is None, "it ended before it was half-way"
        time.sleep(0.2)
    for child in subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split():
        os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()
    return time.perf_counter() - began, measured(root)


def told(what: str, cost: Cost) -> None:
    print(f"{what}: {cost.seconds:.0f} s, {cost.cpu_s:.0f} s of processor, peak {cost.peak_mib:.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=200_000)
    parser.add_argument("--dvc", action="store_true", help="under DVC: minutes more, and twice the disk")
    options = parser.parse_args()
    count = options.utterances
    with tempfile.TemporaryDirectory(prefix="modellab-bench-") as scratch:
        source, root = Path(scratch) / "source", Path(scratch) / "project"
        source.mkdir()
        began = time.perf_counter()
        make_source(source, count)
        print(f"{count} recordings made in {time.perf_counter() - began:.0f} s", flush=True)
        make_project(root, dvc=options.dvc)
        arguments = ["add", str(source), "--name", "big", "--link"]
        seconds, kept = kill_half_way(root, arguments, count // 2)
        left = sorted(path.name for path in (root / "data").iterdir())
        print(f"killed after {seconds:.0f} s: {kept} recordings measured and kept, data/ holds {left}", flush=True)
        added = run(root, *arguments)
        assert added.answer["status"] == "added", added.answer["validation"]["expectations"]
        fresh = added.answer["validation"]["measured"]
        told(f"run again, and added ({fresh} measured, the others known)", added)
        assert fresh <= count - kept
        again = run(root, "validate", "big")
        told(f"validated again ({again.answer['measured']} read)", again)
        assert again.answer["measured"] == 0
        for number in range(CHANGED):
            path = root / "data" / "big" / "audio" / "000" / f"u{number:06}.wav"
            path.unlink()  # not written over: it is a link to the source
            write_sound(path, count + number, SECONDS, RATE_HZ)
        changed = run(root, "validate", "big")
        told(f"{CHANGED} changed, validated again ({changed.answer['measured']} read)", changed)
        assert changed.answer["measured"] == CHANGED
        done = subprocess.run(
            [sys.executable, "-c", SLICE, str(root / "data")], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        rows, seconds_, mib = done.stdout.split()
        print(f"sliced to {rows}: {float(seconds_):.1f} s, {float(mib):.0f} MiB more than an empty process")


if __name__ == "__main__":
    main()
