"""What a corpus can see: the smallest difference it detects, and how much more data a margin needs.

The unit of data is the block. More utterances of the same speakers sharpen what is known of those speakers and not of
the next one, so a plan counts blocks of the pilot's kind, with its utterances per block and its clustering (the design
effect is in the spread, not a factor to guess).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from pipelines.stats.resampling import FloatArray, IntArray, Statistic, aggregate, influence

DEFAULT_CORRELATION = 0.5
"""Between two systems' errors over blocks, where no paired pilot exists. Systems mostly stumble over the same speech, and
two that a team compares are usually closer; 0 is the worst case and doubles the data needed."""

DEFAULT_ASSURANCE = 0.8
"""Chance that the pilot's spread, as it is enlarged, is not smaller than the true one. With 0.5 the average over pilots of
40 speakers stays below the power asked for (76% for 80%): a pilot that missed the unusual speakers plans far too little."""

_MOST_BLOCKS = 10**9

_WIDENING = 1.05
"""How much wider than Student's t the intervals of `pipelines.stats.paired` are, in simulation 3% to 6%."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How much blocks vary in the difference of two systems, as a pilot shows it."""

    deviation: float
    """Standard deviation of one block's part in the difference; the standard error is this over sqrt(blocks). NaN where
    the pilot shows no variation or has fewer than two blocks, and nothing can be planned."""
    blocks: int
    utterances: int
    freedom: float
    """Degrees of freedom with which the deviation is known: blocks - 1, less where a few blocks make up most of it."""
    paired: bool
    """Whether it was measured on two systems, not assumed from one."""

    @property
    def utterances_per_block(self) -> float:
        """Mean utterances a block of the pilot."""
        return self.utterances / self.blocks if self.blocks else math.nan

    def enlarged(self, assurance: float) -> float:
        """Return an upper confidence limit of the deviation, at one-sided `assurance`.

        A plan on the plain estimate falls short half of the time (Browne 1995, "On the use of a pilot sample for sample
        size determination").
        """
        if not math.isfinite(self.deviation):
            return math.nan
        return self.deviation * math.sqrt(self.freedom / float(special.chdtri(self.freedom, assurance)))


def paired_spread(sums_a: FloatArray, sums_b: FloatArray, blocks: IntArray, statistic: Statistic) -> Spread:
    """Measure the spread on two systems that were run on the same utterances.

    Args:
        sums_a: (n, k) columns of one system.
        sums_b: (n, k) columns of the other.
        blocks: (n,) block codes.
        statistic: sums (..., k) to values (...).

    Raises:
        ValueError: when the shapes do not fit.
    """
    if sums_a.shape != sums_b.shape:
        raise ValueError(f"Expected the same utterances and columns twice, found {sums_a.shape} and {sums_b.shape}.")
    width = sums_a.shape[1]
    both = aggregate(np.concatenate([sums_a, sums_b], axis=1), blocks)
    return _measure(both, lambda sums: statistic(sums[..., :width]) - statistic(sums[..., width:]), len(sums_a))


def assumed_spread(
    sums: FloatArray, blocks: IntArray, statistic: Statistic, *, correlation: float = DEFAULT_CORRELATION
) -> Spread:
    """Guess the spread from one system, taking the other as equally variable and correlated with it over blocks.

    Args:
        sums: (n, k) columns of the system.
        blocks: (n,) block codes.
        statistic: sums (..., k) to values (...).
        correlation: assumed, in [0, 1); the difference varies by ``sqrt(2 * (1 - correlation))`` times the system.

    Raises:
        ValueError: when the shapes do not fit or the correlation is out of range.
    """
    if not 0.0 <= correlation < 1.0:
        raise ValueError(f"Expected a correlation of at least 0 and below 1, found {correlation}.")
    own = _measure(aggregate(sums, blocks), statistic, len(sums))
    return replace(own, deviation=own.deviation * math.sqrt(2.0 * (1.0 - correlation)), paired=False)


def minimum_detectable_difference(
    spread: Spread,
    *,
    blocks: int | None = None,
    alpha: float = 0.025,
    power: float = 0.8,
    assurance: float = DEFAULT_ASSURANCE,
) -> float:
    """Return the smallest true difference found at one-sided `alpha` with chance `power`, in the metric's unit.

    It is also the smallest margin at which a candidate that is exactly as good passes non-inferiority with that chance.

    Args:
        spread: of the pilot.
        blocks: of the corpus to judge; the pilot's own where None.
        alpha: one-sided, 0.025 for the end of a 95% interval.
        power: wanted chance.
        assurance: see `DEFAULT_ASSURANCE`; 0.5 takes the pilot about as it is.

    Returns:
        NaN where nothing can be said, infinity with fewer than two blocks.
    """
    count = spread.blocks if blocks is None else blocks
    if count < 2:
        return math.inf
    return _distance(count, alpha, power) * spread.enlarged(assurance) / math.sqrt(count)


def blocks_needed(
    spread: Spread,
    margin: float,
    *,
    true_difference: float = 0.0,
    alpha: float = 0.025,
    power: float = 0.8,
    assurance: float = DEFAULT_ASSURANCE,
) -> int | None:
    """Return how many blocks let a candidate pass non-inferiority at the margin with chance `power`.

    Args:
        spread: of the pilot.
        margin: largest allowed difference.
        true_difference: of the candidate that should pass; 0 for one that is as good.
        alpha: one-sided.
        power: wanted chance.
        assurance: see `DEFAULT_ASSURANCE`.

    Returns:
        None where the pilot allows no plan or no corpus would do.

    Raises:
        ValueError: when the candidate is beyond the margin, where no data helps.
    """
    if true_difference >= margin:
        raise ValueError(f"Expected a true difference below the margin of {margin}, found {true_difference}.")
    deviation = spread.enlarged(assurance)
    if not math.isfinite(deviation):
        return None

    def enough(count: int) -> bool:
        return _distance(count, alpha, power) * deviation / math.sqrt(count) <= margin - true_difference

    high = 2
    while not enough(high):
        high *= 2
        if high > _MOST_BLOCKS:
            return None
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def utterances_needed(
    spread: Spread,
    margin: float,
    *,
    true_difference: float = 0.0,
    alpha: float = 0.025,
    power: float = 0.8,
    assurance: float = DEFAULT_ASSURANCE,
) -> int | None:
    """Return `blocks_needed` in utterances, at the pilot's utterances per block."""
    blocks = blocks_needed(spread, margin, true_difference=true_difference, alpha=alpha, power=power, assurance=assurance)
    return None if blocks is None else math.ceil(blocks * spread.utterances_per_block)


def _measure(block_sums: FloatArray, statistic: Statistic, utterances: int) -> Spread:
    from scipy.stats import kurtosis  # 0.6 s to import, and only plans need it

    count = len(block_sums)
    deviation = freedom = math.nan
    if count >= 2:
        value, shares, varies = influence(block_sums, statistic)
        if varies and math.isfinite(value):
            # Shares are parts of a total over K blocks: K times one of them is what that block alone would shift.
            deviation = count * float(np.std(shares, ddof=1))
            # The variance of a variance grows with the kurtosis; the chi-squared it is taken for has 0.
            excess = max(0.0, float(kurtosis(shares)))
            freedom = 2.0 / (2.0 / (count - 1.0) + excess / count)
    return Spread(deviation, count, utterances, freedom, paired=True)


def _distance(count: int, alpha: float, power: float) -> float:
    # In standard errors. The sum of two t quantiles stands for the noncentral t: within 1% of it from 6 blocks on.
    return float(_WIDENING * special.stdtrit(count - 1, 1.0 - alpha) + special.stdtrit(count - 1, power))
