"""Takes: a voice that draws at random is asked again for some prompts, and how much it differs from itself is measured.

A seeded voice says a text the same way each time, and what was measured of one take holds for the next. Of the others it
must be known how far one take may lie from the next, or a difference between two voices cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from models.engine import is_repeatable
from pipelines.lab import Lab
from pipelines.scores import UtteranceScore
from pipelines.speech_store import SpeechStore
from pipelines.synthesize import PreparedSpeech, PromptItem, speech_shards
from pipelines.types import TakeSpread

TAKES = 3
"""How often each of the chosen prompts is said, the evaluation's own take included."""
TAKE_PROMPTS = 8
"""Prompts that are said again: 16 degrees of freedom for each deviation, and a bounded price where a server asks one."""


def prepare_takes(lab: Lab, prepared: PreparedSpeech) -> list[PreparedSpeech]:
    """Plan what a voice must say again; nothing, where it says a text the same way each time.

    Each take has a store of its own, so that a second evaluation asks for none anew.

    Args:
        lab: Where the stores are.
        prepared: The evaluation.

    Raises:
        CardError: A decoding setting is wrong.
    """
    items = chosen_prompts(prepared.items)
    if not items or is_repeatable(prepared.card):
        return []
    stores = [SpeechStore(lab.home.speech / f"take-{take}", prepared.fingerprint.digest) for take in range(2, TAKES + 1)]
    known = [store.load(item.key for item in items) for store in stores]
    return [
        replace(prepared, items=items, unsupported=(), store=store, known=found, shards=speech_shards(items, found, store))
        for store, found in zip(stores, known, strict=True)
    ]


def chosen_prompts(items: Sequence[PromptItem]) -> tuple[PromptItem, ...]:
    """Choose prompts with words, evenly over the selection."""
    spoken = [item for item in items if item.prompt.reference.strip()]
    at = np.linspace(0, len(spoken) - 1, min(TAKE_PROMPTS, len(spoken))).round().astype(int)
    return tuple(spoken[i] for i in at)


def take_spread(takes: Sequence[Sequence[UtteranceScore]]) -> TakeSpread:
    """Measure how much the takes of a prompt differ, over the prompts that all takes have.

    Args:
        takes: Scores of each take; the first may have more prompts than the others.
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
