"""Takes: a voice that draws at random is asked again for some prompts, and how much it differs from itself is measured.

A seeded voice says a text the same way each time, and what was measured of one take holds for the next. Of the others it
must be known how far one take may lie from the next, or a difference between two voices cannot be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.engine import is_repeatable
from pipelines.inference import ShardResult, SpeakJob
from pipelines.lab import Lab
from pipelines.scores import UtteranceScore
from pipelines.speech_store import SpeechStore, Synthesis
from pipelines.synthesize import PreparedSpeech, PromptItem
from pipelines.types import TakeSpread
from pipelines.workers import WorkerPool

TAKES = 3
"""How often each of the chosen prompts is said."""
TAKE_PROMPTS = 8
"""Prompts that are said so often: 16 degrees of freedom for each deviation, and a bounded price where a server asks one."""
SHARD_PROMPTS = 2
"""Prompts a shard, each with all its takes: what a killed run loses."""


@dataclass(frozen=True)
class Takes:
    """What a voice must say several times."""

    prepared: PreparedSpeech
    """The evaluation, over the chosen prompts alone."""
    stores: tuple[SpeechStore, ...]
    """One for each take, so that a second evaluation asks for none anew."""
    shards: tuple[tuple[SpeakJob, ...], ...]
    """Each prompt's takes follow one another: a generator that was seeded when the voice was loaded gives the same numbers
    to the first call of every process, and would make takes of several loadings alike."""

    def said(self) -> list[PreparedSpeech]:
        """The takes as evaluations of what was said, when all is said; the audio of all takes lies with the first."""
        items = self.prepared.items
        known = [store.load(item.key for item in items) for store in self.stores]
        parts = [tuple(item for item in items if item.key in found) for found in known]
        return [
            replace(self.prepared, items=part, known=found, shards=())
            for part, found in zip(parts, known, strict=True)
            if part
        ]


def prepare_takes(lab: Lab, prepared: PreparedSpeech) -> Takes | None:
    """Plan what a voice must say several times; nothing, where it says a text the same way each time.

    Args:
        lab: Where the stores are.
        prepared: The evaluation.

    Raises:
        CardError: A decoding setting is wrong.
    """
    items = chosen_prompts(prepared.items)
    if not items or is_repeatable(prepared.card):
        return None
    stores = tuple(
        SpeechStore(lab.home.speech / f"take-{take}", prepared.fingerprint.digest) for take in range(1, TAKES + 1)
    )
    whole = set.intersection(*(set(store.load(item.key for item in items)) for store in stores))
    missing = {item.key: item.prompt for item in items if item.key not in whole}
    jobs = [[SpeakJob(p.text, p.language, prepared.store.audio)] * TAKES for p in missing.values()]
    shards = tuple(
        tuple(job for takes in jobs[start : start + SHARD_PROMPTS] for job in takes)
        for start in range(0, len(jobs), SHARD_PROMPTS)
    )
    return Takes(replace(prepared, items=items, unsupported=()), stores, shards)


def say_takes(pool: WorkerPool, stores: Sequence[SpeechStore], shard: Sequence[SpeakJob]) -> ShardResult[Synthesis]:
    """Say one shard and keep each take in its store."""
    result = pool.speak(shard)
    taken: Counter[tuple[str, str]] = Counter()
    by_take: list[list[Synthesis]] = [[] for _ in stores]
    for record in result.records:
        key = (record.text_sha256, record.language or "")
        by_take[taken[key]].append(record)
        taken[key] += 1
    for store, records in zip(stores, by_take, strict=True):
        if records:
            store.add(records)
    return result


def chosen_prompts(items: Sequence[PromptItem]) -> tuple[PromptItem, ...]:
    """Choose prompts with words, evenly over the selection."""
    spoken = [item for item in items if item.prompt.reference.strip()]
    at = np.linspace(0, len(spoken) - 1, min(TAKE_PROMPTS, len(spoken))).round().astype(int)
    return tuple(spoken[i] for i in at)


def take_spread(takes: Sequence[Sequence[UtteranceScore]]) -> TakeSpread:
    """Measure how much the takes of a prompt differ, over the prompts that all takes have.

    Args:
        takes: Scores of each take.
    """
    by_id = [{score.id: score for score in take} for take in takes]
    shared = sorted(set.intersection(*(set(take) for take in by_id)))

    def deviation(of: Callable[[UtteranceScore], float | None]) -> float | None:
        rows = [[of(take[name]) for take in by_id] for name in shared]
        return _pooled([row for row in rows if None not in row])  # type: ignore[misc]

    return TakeSpread(
        takes=len(takes),
        prompts=len(shared),
        word_error_rate=deviation(lambda s: s.words.errors / s.words.reference_length if s.is_speech else None),
        dnsmos_overall=deviation(lambda s: _measure(s.measures, "dnsmos_overall")),
        duration=deviation(lambda s: float(np.log(s.audio_s)) if s.audio_s > 0 else None),
    )


def _measure(measures: Mapping[str, float], name: str) -> float | None:
    return measures.get(name)


def _pooled(rows: Sequence[Sequence[float]]) -> float | None:
    """Root of the mean variance within rows; None without rows of two or more."""
    if not rows or len(rows[0]) < 2:
        return None
    return float(np.sqrt(np.var(np.array(rows, dtype=np.float64), axis=1, ddof=1).mean()))
