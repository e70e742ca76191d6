"""The gap between the group a model serves worst and the one it serves best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipelines.stats.bootstrap import describe_blocks, group_sums, rule_of_three
from pipelines.stats.resampling import FloatArray, IntArray, Statistic, influence

_NO_VARIANCE = 1e-18  # of a group's value: rounding, not variation


@dataclass(frozen=True, slots=True)
class Gap:
    """How much worse the worst group does than the best."""

    value: float
    """Worst minus best as seen; biased upward, for chance alone sets groups apart."""
    low: float
    """Lower end of the true gap, corrected for having picked the pair."""
    high: float
    """Upper end of the true gap, whichever pair it belongs to."""
    level: float
    """Two-sided."""
    worst: int
    """Code of the group with the highest value, -1 where fewer than two groups can be compared."""
    best: int
    left_out: tuple[int, ...]
    """Groups with fewer than two blocks or no value, of which nothing is said."""
    note: str = ""


def gap(
    sums: FloatArray,
    blocks: IntArray,
    groups: IntArray,
    count: int,
    statistic: Statistic,
    *,
    level: float = 0.95,
    failure: float = 1.0,
    block_word: str = "speaker",
) -> Gap:
    """Compare the worst group with the best one; higher counts as worse.

    The largest difference in the data overstates the true one, and which pair is largest is picked by chance. The
    value is left as it is seen; the interval accounts for both:

    - The true gap is at least every pair's true difference, so its lower end is the largest lower bound of all pairs,
      each at a level corrected for their number (Bonferroni).
    - The true gap belongs to one pair, whichever, so its upper end is the largest upper bound of all pairs and needs
      no correction. A small group that may hide a harm keeps the gap open.

    Bounds are linearised t bounds with one degree of freedom less than the smaller group has blocks; a block that
    speaks in both groups counts with its covariance. Nothing is resampled: at corrected levels the tails of a
    thousand resamples decide nothing.

    Args:
        sums: (n, k) columns.
        blocks: (n,) block codes.
        groups: (n,) group codes below `count`; negative ones belong to no group.
        count: how many groups.
        statistic: sums (..., k) to values (...).
        level: two-sided.
        failure: how far one failing utterance can move a group that shows no variation, 1 for a word error rate.
        block_word: what a block is called in the note.
    """
    codes, block = np.unique(blocks, return_inverse=True)
    shares, values, sizes = np.zeros((len(codes), count)), np.full(count, np.nan), np.zeros(count, dtype=np.int64)
    for group, own in enumerate(group_sums(sums, blocks, groups, count)):
        sizes[group] = len(own)
        if len(own) >= 2:
            values[group], part, _ = influence(own, statistic)
            rows = np.unique(block[groups == group])
            shares[rows, group] = part * math.sqrt(len(own) / (len(own) - 1.0))
    kept = np.flatnonzero(np.isfinite(values))
    left_out = tuple(int(group) for group in np.setdiff1d(np.arange(count), kept))
    if len(kept) < 2:
        note = f"fewer than two groups have two {block_word}s"
        return Gap(math.nan, math.nan, math.nan, level, -1, -1, left_out, note)

    first, second = np.triu_indices(len(kept), 1)
    i, j = kept[first], kept[second]
    tail = (1.0 - level) / 2.0
    freedom = np.minimum(sizes[i], sizes[j]) - 1
    covariance = shares.T @ shares
    spread = np.sqrt(np.maximum(covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j], 0.0))
    n = np.bincount(groups[groups >= 0], minlength=count)
    unseen = np.zeros(count)
    for group in kept[np.diag(covariance)[kept] < _NO_VARIANCE]:
        unseen[group] = failure * rule_of_three(int(n[group]), 1.0 - tail)
    difference = np.abs(values[i] - values[j])
    above = np.hypot(special.stdtrit(freedom, 1.0 - tail) * spread, np.hypot(unseen[i], unseen[j]))
    below = np.hypot(special.stdtrit(freedom, 1.0 - tail / len(i)) * spread, np.hypot(unseen[i], unseen[j]))
    picked = int(np.argmax(difference))
    worst, best = (int(g) for g in sorted((i[picked], j[picked]), key=lambda g: -values[g]))
    small = sorted({int(g) for g in kept if describe_blocks(int(sizes[g]))})
    return Gap(
        value=float(difference[picked]),
        low=max(0.0, float(np.max(difference - below))),
        high=float(np.max(difference + above)),
        level=level,
        worst=worst,
        best=best,
        left_out=left_out,
        note=f"{len(small)} of {len(kept)} groups have few {block_word}s" if small else "",
    )
