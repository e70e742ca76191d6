"""Speed measured fairly: two models timed in turn, on the same recordings, on the same machine, in the same run.

Each model has one fresh process with all of the lab's threads; while one works the other waits. Every recording (or text) is
given to both before the next, and who goes first alternates from one to the next and from round to round, so that a slow
spell of the machine falls on both. Warm-up is left out. A measured duel is kept and used again for the same two models,
recordings and hardware: it was fresh when taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from models.types import Record
from pipelines.home import write_atomically
from pipelines.inference import EngineSpec, Job, SpeakJob, WorkerReport
from pipelines.workers import WorkerPool

DUEL_ROUNDS = 2
"""How often both models hear each recording."""


@dataclass(frozen=True)
class Entry:
    """What both models are given: a recording or a text."""

    key: str
    """Digest of the audio or the text."""
    size: float
    """Seconds of audio, or characters of text; only for choosing."""
    job: Job | SpeakJob


class Timed(Record):
    """One recording or text, timed on both models in seconds."""

    audio_sha256: str
    """Digest of the audio, or of the text that both spoke."""
    audio_s: float
    """Length of the recording, or of what the candidate said."""
    candidate_s: float
    baseline_s: float
    baseline_audio_s: float | None = None
    """Length of what the baseline said; None of a recording, which is the same for both."""
    candidate_first_s: float | None = None
    """Time until the candidate's first audio; None of a recording."""
    baseline_first_s: float | None = None


class Duel(Record):
    """Side-by-side timings of two models."""

    candidate: str
    """Model fingerprint."""
    baseline: str
    """Model fingerprint."""
    hardware: str
    """Digest of the machine's description."""
    threads: int
    """Threads of each model's one process."""
    timings: tuple[Timed, ...]
    """One row a recording and round."""
    load_s: tuple[float, float]
    """Loading time of candidate and baseline."""
    peak_mib: tuple[float, float]
    """Peak memory of candidate's and baseline's process."""
    measured_at: str
    """ISO 8601, UTC."""


def duel_entries(entries: Sequence[Entry], count: int) -> list[Entry]:
    """Choose what is timed, 2 or more: evenly spread over all sizes, the same for every pair of models."""
    by_key = {entry.key: entry for entry in entries}
    ordered = sorted(by_key.values(), key=lambda entry: (entry.size, entry.key))
    if len(ordered) <= count:
        return ordered
    step = (len(ordered) - 1) / (count - 1)
    return [ordered[round(index * step)] for index in range(count)]


def duel_path(folder: Path, candidate: str, baseline: str, hardware: str, threads: int, entries: Sequence[Entry]) -> Path:
    """Where the duel of these two models on these entries and this machine is kept."""
    parts = [candidate, baseline, hardware, threads, DUEL_ROUNDS, sorted(entry.key for entry in entries)]
    return folder / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}.json"


def load_duel(path: Path) -> Duel | None:
    """Read a kept duel; None if there is none (or it was written by another version)."""
    if not path.is_file():
        return None
    try:
        return Duel.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError:
        return None


def run_duel(
    candidate: EngineSpec,
    baseline: EngineSpec,
    entries: Sequence[Entry],
    hardware: str,
    path: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Duel:
    """Time both models in turn and keep the result at ``path``.

    Raises:
        EngineError: A model cannot be loaded.
        AudioError: A recording cannot be decoded; callers pass recordings that both models have transcribed.
    """
    total = len(entries) * DUEL_ROUNDS
    timings: list[Timed] = []
    with WorkerPool(candidate, 1) as first, WorkerPool(baseline, 1) as second:
        # A worker's own warm-up may be cheap; what decides between two models leaves a whole recording of each out.
        for pool in (first, second):
            _time(pool, entries[0].job)
        for number in range(total):
            entry = entries[number % len(entries)]
            pools = (first, second) if (number + number // len(entries)) % 2 == 0 else (second, first)
            results = {id(pool): _time(pool, entry.job) for pool in pools}
            ours, theirs = results[id(first)], results[id(second)]
            timings.append(
                Timed(
                    audio_sha256=entry.key,
                    audio_s=ours.audio_s,
                    candidate_s=ours.inference_s,
                    baseline_s=theirs.inference_s,
                    baseline_audio_s=theirs.audio_s if isinstance(entry.job, SpeakJob) else None,
                    candidate_first_s=ours.first_audio_s,
                    baseline_first_s=theirs.first_audio_s,
                )
            )
            progress(number + 1, total)
        duel = Duel(
            candidate=candidate.fingerprint,
            baseline=baseline.fingerprint,
            hardware=hardware,
            threads=candidate.placement.threads,
            timings=tuple(timings),
            load_s=(ours.worker.load_s, theirs.worker.load_s),
            peak_mib=(ours.worker.peak_mib, theirs.worker.peak_mib),
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    write_atomically(path, duel.model_dump_json(indent=1))
    return duel


@dataclass(frozen=True)
class _Turn:
    """One model's turn at one entry."""

    audio_s: float
    inference_s: float
    first_audio_s: float | None
    worker: WorkerReport


def _time(pool: WorkerPool, job: Job | SpeakJob) -> _Turn:
    if isinstance(job, SpeakJob):
        spoken = pool.speak([job])
        (synthesis,), (worker,) = spoken.records, spoken.workers
        return _Turn(synthesis.audio_s, synthesis.timing.inference_s, synthesis.timing.first_audio_s, worker)
    heard = pool.run([job])
    (prediction,), (worker,) = heard.records, heard.workers
    return _Turn(prediction.audio_s, prediction.timing.inference_s, None, worker)
