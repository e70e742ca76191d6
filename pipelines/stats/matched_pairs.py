"""Matched-pairs tests on error counts, as NIST's sc_stats runs them.

MAPSSWE (Gillick & Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms"; Pallett,
Fisher & Fiscus 1990, "Tools for the analysis of benchmark speech recognition tests") cuts utterances where both
systems got at least two words in a row right, takes the pieces with errors as independent, and tests whether the mean
difference of their errors is zero. It answers "are the two different?", never "is the new one no worse?", and it takes
pieces of one speaker as independent, which the block bootstrap does not. Both are reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipelines.stats.resampling import FloatArray, IntArray

MIN_GOOD_WORDS = 2
"""Words both systems must have right between two segments; sc_stats' default."""


@dataclass(frozen=True, slots=True)
class ErrorSlots:
    """Where one system erred in one utterance.

    One slot for every reference word and one for every place around the words, in the order of the text:
    ``[insertions before word 0, word 0, insertions before word 1, word 1, ..., insertions at the end]``.
    """

    counts: IntArray
    """(2 * words + 1,): errors in each slot; a word's is 0 or 1, an insertion slot's any number."""

    @classmethod
    def of(cls, wrong: Sequence[bool] | IntArray, insertions: Sequence[int] | IntArray) -> ErrorSlots:
        """Lay out substituted or deleted words (words,) and insertions before each word and at the end (words + 1,).

        Raises:
            ValueError: when the lengths do not fit.
        """
        if len(insertions) != len(wrong) + 1:
            raise ValueError(f"Expected {len(wrong) + 1} insertion slots for {len(wrong)} words, found {len(insertions)}.")
        counts = np.empty(2 * len(wrong) + 1, dtype=np.int64)
        counts[1::2] = wrong
        counts[::2] = insertions
        return cls(counts)


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """A matched-pairs test of two systems' errors."""

    segments: int
    errors_a: int
    errors_b: int
    mean: float
    """Errors of a less those of b, a segment; 0 without segments."""
    variance: float
    """Unbiased (divided by segments - 1), as in sc_stats."""
    z: float
    """Mean over its standard error; 0 where all differences are equal, as in sc_stats."""
    p_value: float
    """Two-tailed, from the normal distribution. sc_stats looks it up in a table and rounds, so its last digit differs."""

    @property
    def std_dev(self) -> float:
        """Standard deviation of the differences."""
        return math.sqrt(self.variance)


def mapsswe(
    system_a: Sequence[ErrorSlots], system_b: Sequence[ErrorSlots], *, min_good: int = MIN_GOOD_WORDS
) -> MatchedPairs:
    """Run the matched-pairs sentence-segment word error test.

    A segment is a run of errors of either system; it ends where `min_good` or more reference words in a row are right
    in both with nothing inserted between, or where the utterance does. Segments without errors do not count.

    Args:
        system_a: errors of one system, an item an utterance.
        system_b: errors of the other on the same utterances and reference words.
        min_good: words right in both that part two segments.

    Raises:
        ValueError: when utterances or their reference words differ in number.
    """
    _check(system_a, system_b)
    differences, totals = [np.empty(0, dtype=np.int64)], np.zeros(2, dtype=np.int64)
    for a, b in zip(system_a, system_b, strict=True):
        slots = np.flatnonzero(a.counts + b.counts)
        if not len(slots):
            continue
        # Words (odd slots) strictly between one slot with errors and the next.
        good = slots[1:] // 2 - (slots[:-1] + 1) // 2
        starts = np.concatenate([[0], np.flatnonzero(good >= min_good) + 1])
        differences.append(np.add.reduceat(a.counts[slots] - b.counts[slots], starts))
        totals += a.counts.sum(), b.counts.sum()
    return _test(np.concatenate(differences).astype(np.float64), totals)


def utterance_pairs(system_a: Sequence[ErrorSlots], system_b: Sequence[ErrorSlots]) -> MatchedPairs:
    """Run the same test with each utterance as one segment, utterances without errors included.

    Raises:
        ValueError: when utterances or their reference words differ in number.
    """
    _check(system_a, system_b)
    errors = np.array([[s.counts.sum() for s in system] for system in (system_a, system_b)], dtype=np.int64)
    return _test((errors[0] - errors[1]).astype(np.float64), errors.sum(axis=1))


def _check(system_a: Sequence[ErrorSlots], system_b: Sequence[ErrorSlots]) -> None:
    if len(system_a) != len(system_b):
        raise ValueError(f"Expected the same utterances twice, found {len(system_a)} and {len(system_b)}.")
    for position, (a, b) in enumerate(zip(system_a, system_b, strict=True)):
        if len(a.counts) != len(b.counts):
            words = len(a.counts) // 2, len(b.counts) // 2
            raise ValueError(f"Utterance {position}: expected the same reference, found {words[0]} and {words[1]} words.")


def _test(differences: FloatArray, totals: IntArray) -> MatchedPairs:
    count = len(differences)
    mean = float(differences.mean()) if count else 0.0
    variance = float(differences.var(ddof=1)) if count > 1 else 0.0
    z = mean / math.sqrt(variance / count) if variance > 0 else 0.0
    return MatchedPairs(
        segments=count,
        errors_a=int(totals[0]),
        errors_b=int(totals[1]),
        mean=mean,
        variance=variance,
        z=z,
        p_value=float(2.0 * special.ndtr(-abs(z))),
    )
