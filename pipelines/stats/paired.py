"""Comparisons of two systems on the same utterances: their difference and their ratio.

Candidate and baseline are stacked as columns of one table, so every resample holds the same speakers for both, and
what a hard speaker costs both of them cancels (Bisani & Ney 2004).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.stats.bootstrap import describe_blocks, rule_of_three
from pipelines.stats.resampling import (
    DEFAULT_RESAMPLES,
    DEFAULT_SEED,
    FloatArray,
    IntArray,
    Statistic,
    Studentised,
    aggregate,
    studentise,
)


@dataclass(frozen=True, slots=True)
class PairedInterval:
    """Candidate against baseline on the same utterances, as a difference or as a ratio."""

    delta: float
    """Candidate minus baseline, or candidate / baseline from `paired_ratio`."""
    low: float
    """NaN where no interval can be had; `note` says why. A comparison with NaN is false: never a pass."""
    high: float
    """Alone, a one-sided bound at (1 + level) / 2: non-inferior at one-sided 0.025 when ``high < margin`` at 0.95."""
    level: float
    """Two-sided."""
    n: int
    """Utterances."""
    blocks: int
    """What was resampled: speakers or conversations."""
    margin: float
    """What both p values are about, in the unit of `delta`."""
    p_harm: float
    """One-sided, of "delta is at most the margin": small means the candidate is worse than allowed."""
    p_noninferior: float
    """One-sided, of "delta is at least the margin": small means the candidate is not worse than allowed."""
    note: str = ""


def paired_difference(
    sums_a: FloatArray,
    sums_b: FloatArray,
    blocks: IntArray,
    statistic: Statistic,
    *,
    level: float = 0.95,
    margin: float = 0.0,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
    failure: float = 1.0,
    block_word: str = "speaker",
) -> PairedInterval:
    """Compare a metric of candidate (a) and baseline (b); higher counts as worse.

    For a metric where higher is better, negate the statistic. The p values turn the interval round, so
    ``p_noninferior < 0.025`` where ``high < margin`` at level 0.95, up to the grain of the resamples. A small p value
    is at least 1 / (resamples + 1) until the difference is so large that the widest allowed interval excludes the
    margin too (`MAX_WIDENING`); so plain harms survive Holm over many slices with few resamples, and those at the
    edge want more than m / alpha resamples for m slices.

    Args:
        sums_a: (n, k) columns of the candidate.
        sums_b: (n, k) columns of the baseline, in the same order of utterances.
        blocks: (n,) block codes.
        statistic: sums (..., k) to values (...).
        level: two-sided.
        margin: difference that the p values are about.
        resamples: how many.
        seed: of the resampling.
        failure: how far one utterance can move the metric if it alone made up the corpus, 1 for a word error
            rate. Used where the systems differ by the same amount on every block, as when their output is
            identical: then at most about 3 / n of the utterances can hide a difference (rule of three).
        block_word: what a block is called in the note.

    Raises:
        ValueError: when the shapes do not fit.
    """
    result = _studentise_pair(sums_a, sums_b, blocks, lambda a, b: statistic(a) - statistic(b), resamples, seed)
    n = len(sums_a)
    note = _note(result, n, block_word)
    if result.standard_error == 0:
        reach = failure * rule_of_three(n, (1.0 + level) / 2.0)
        # The chance to meet no utterance that shows it, were the true difference at the margin.
        unseen = max(0.0, 1.0 - abs(margin - result.value) / failure) ** n
        return PairedInterval(
            delta=result.value,
            low=result.value - reach,
            high=result.value + reach,
            level=level,
            n=n,
            blocks=result.blocks,
            margin=margin,
            p_harm=unseen if result.value > margin else 1.0,
            p_noninferior=unseen if result.value < margin else 1.0,
            note=_join(note, f"no {block_word} differs from another: bounded by the rule of three on {n} utterances"),
        )
    low, high, p_harm, p_noninferior = _inference(result, level, margin)
    return PairedInterval(result.value, low, high, level, n, result.blocks, margin, p_harm, p_noninferior, note)


def paired_ratio(
    sums_a: FloatArray,
    sums_b: FloatArray,
    blocks: IntArray,
    statistic: Statistic,
    *,
    level: float = 0.95,
    margin: float = 1.0,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
    block_word: str = "speaker",
) -> PairedInterval:
    """Compare a positive metric (time, memory) of candidate (a) and baseline (b) as a ratio; higher counts as worse.

    The interval is made on the scale of logarithms, where a ratio and its inverse are treated alike. A ratio that
    is 0, infinite or the same on every block has no interval.

    Args:
        sums_a: (n, k) columns of the candidate.
        sums_b: (n, k) columns of the baseline, in the same order of utterances.
        blocks: (n,) block codes; for timings an utterance each, or a round of measurement.
        statistic: sums (..., k) to positive values (...).
        level: two-sided.
        margin: ratio that the p values are about; positive.
        resamples: how many.
        seed: of the resampling.
        block_word: what a block is called in the note.

    Raises:
        ValueError: when the shapes do not fit.
    """
    assert margin > 0

    def log_ratio(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.log(statistic(a)) - np.log(statistic(b))

    result = _studentise_pair(sums_a, sums_b, blocks, log_ratio, resamples, seed)
    n = len(sums_a)
    note = _note(result, n, block_word)
    if result.standard_error == 0:
        low = high = p_harm = p_noninferior = math.nan
        note = _join(note, f"the ratio is the same for every {block_word}: no interval can be had")
    else:
        low, high, p_harm, p_noninferior = _inference(result, level, math.log(margin))
    ratio, low, high = (float(np.exp(np.float64(end))) for end in (result.value, low, high))
    return PairedInterval(ratio, low, high, level, n, result.blocks, margin, p_harm, p_noninferior, note)


def _studentise_pair(
    sums_a: FloatArray,
    sums_b: FloatArray,
    blocks: IntArray,
    compare: Callable[[FloatArray, FloatArray], FloatArray],
    resamples: int,
    seed: int,
) -> Studentised:
    if sums_a.shape != sums_b.shape:
        raise ValueError(f"Expected the same utterances and columns twice, found {sums_a.shape} and {sums_b.shape}.")
    width = sums_a.shape[1]
    stacked = aggregate(np.concatenate([sums_a, sums_b], axis=1), blocks)
    return studentise(stacked, lambda sums: compare(sums[..., :width], sums[..., width:]), resamples=resamples, seed=seed)


def _inference(result: Studentised, level: float, margin: float) -> tuple[float, float, float, float]:
    if not (math.isfinite(result.value) and result.blocks >= 2):
        return math.nan, math.nan, math.nan, math.nan
    return *result.bounds(level), result.p_above(margin), result.p_below(margin)


def _note(result: Studentised, n: int, block_word: str) -> str:
    if n and not math.isfinite(result.value):
        return "undefined on these utterances"
    return describe_blocks(result.blocks, block_word)


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
