"""The least there is to do: workers that load an engine and transcribe files from a queue, and nothing else.

Used by evaluation_overhead.py and layouts.py; prints seconds and recordings as JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path

from modellab.settings import read_settings
from models.card import ModelCard
from models.weights import locate
from pipelines.corpus import find_corpus
from pipelines.lab import Layout
from pipelines.processes import environment_of_children


def work(card: ModelCard, weights: Path, threads: int, queue: multiprocessing.Queue) -> None:
    from models.audio import decode
    from models.engine import build_engine, placement_of

    engine = build_engine(card, weights, placement_of(card, None, None, threads))
    while (job := queue.get()) is not None:
        path, language = job
        engine.transcribe(decode(path).samples, language=language)


def run(card: ModelCard, weights: Path, jobs: list[tuple[Path, str]], workers: int, threads: int) -> float:
    """Transcribe all jobs and give the wall time from starting the workers to the last answer."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for job in [*jobs, *[None] * workers]:
        queue.put(job)
    start = time.perf_counter()
    processes = [context.Process(target=work, args=(card, weights, threads, queue)) for _ in range(workers)]
    with environment_of_children(threads):
        for process in processes:
            process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, f"a worker ended with {process.exitcode}"
    return time.perf_counter() - start


def starter_jobs(card: ModelCard) -> list[tuple[Path, str]]:
    """The starter recordings that the model understands, longest first, as an evaluation takes them."""
    corpus = find_corpus("starter", read_settings().project_folder() / "data")
    utterances = sorted(corpus.utterances, key=lambda utterance: -utterance.duration)
    return [(corpus.audio_path(u), u.language) for u in utterances if card.understands(u.language)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    lab = read_settings().lab()
    card = lab.cards()[options.model]
    layout = Layout.of_machine()
    jobs = starter_jobs(card)
    seconds = run(card, locate(card, lab.home.weights).folder, jobs, layout.workers, layout.threads)
    print(json.dumps({"seconds": seconds, "recordings": len(jobs)}))


if __name__ == "__main__":
    main()
