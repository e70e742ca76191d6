"""The engine under every interval: a studentised bootstrap over blocks, for any smooth function of sums.

Utterances of one speaker fail together, so speakers, not utterances, are drawn (Bisani & Ney 2004, "Bootstrap
estimates for confidence intervals in ASR performance evaluation"; Liu & Peng 2019, "Statistical testing on ASR
performance via blockwise bootstrap"). Each resample is divided by its own standard error (bootstrap-t, Efron &
Tibshirani 1993, chapter 12), which the gradient of the statistic gives for all resamples at once.

Why not a percentile interval: error rates of speakers are skewed, and with few speakers the percentile interval,
also the expanded one of Hesterberg (2015, "What Teachers Should Know About the Bootstrap"), misses on the high
side, the one that lets a harm through. ``tests/stats/test_coverage.py`` keeps the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Statistic = Callable[[FloatArray], FloatArray]
"""Column sums (..., k) to values (...), vectorised and unchanged when all sums are scaled, as a ratio is."""

DEFAULT_RESAMPLES = 1000
DEFAULT_SEED = 20040517
"""Any fixed number does: equal inputs must give equal verdicts."""

MIN_BLOCKS = 5
"""Below it resamples repeat each other too much to carry a shape; Student's t alone is used."""

MAX_WIDENING = 3.0
"""Bootstrap-t quantiles are kept within 1 and 3 times Student's. Below 1 an interval would claim more than the
plain t interval; without the upper end, resamples that hold no error at all send it to infinity."""

MOST_DRAWN = 2000
"""More blocks than this are joined into so many before they are drawn. Joined blocks are independent too and keep the
shape of the sums, so nothing but time is lost; value and standard error are always of the blocks as they are."""

_CHUNK_ELEMENTS = 4_000_000  # weights alive at once: 32 MB of float64
_GRADIENT_STEP = 1e-5  # relative; central differences then err by about 1e-10
_NO_SPREAD = 1e-7  # relative spread of blocks that is rounding, not variation


@dataclass(frozen=True, slots=True)
class Studentised:
    """A statistic, its standard error and the studentised deviations of its resamples."""

    value: float
    """NaN where the statistic is undefined on the data."""
    standard_error: float
    """Over blocks, the larger of linearised and jackknife, which differ where one block outweighs the others; 0 where
    the blocks do not vary and NaN with fewer than two blocks."""
    deviations: FloatArray
    """(resamples,) sorted ``(resample - value) / its standard error``; empty below `MIN_BLOCKS`."""
    blocks: int

    def bounds(self, level: float) -> tuple[float, float]:
        """Return the equal-tailed two-sided interval; its upper end alone is a one-sided bound at (1 + level) / 2."""
        tail = (1.0 - level) / 2.0
        student = float(special.stdtrit(self.blocks - 1, 1.0 - tail))
        below = above = student
        if self.deviations.size:
            low, high = np.quantile(self.deviations, [tail, 1.0 - tail])
            below = float(np.clip(high, student, MAX_WIDENING * student))
            above = float(np.clip(-low, student, MAX_WIDENING * student))
        return self.value - below * self.standard_error, self.value + above * self.standard_error

    def p_above(self, threshold: float) -> float:
        """Return the one-sided p value of "the true value is at most the threshold"; small means it lies above."""
        return self._tail((self.value - threshold) / self.standard_error, self.deviations)

    def p_below(self, threshold: float) -> float:
        """Return the one-sided p value of "the true value is at least the threshold"; small means it lies below."""
        return self._tail((threshold - self.value) / self.standard_error, -self.deviations[::-1])

    def _tail(self, distance: float, deviations: FloatArray) -> float:
        # The interval turned round, so that p < alpha exactly where the bound at alpha excludes the threshold.
        student = float(special.stdtr(self.blocks - 1, -distance))
        if not deviations.size:
            return student
        reached = deviations.size - int(np.searchsorted(deviations, distance, side="left"))
        resampled = (reached + 1.0) / (deviations.size + 1.0)
        return max(student, min(resampled, float(special.stdtr(self.blocks - 1, -distance / MAX_WIDENING))))


def aggregate(sums: FloatArray, blocks: IntArray) -> FloatArray:
    """Add up utterances by block: (n, k) and (n,) to (K, k), blocks in the order of their codes.

    Raises:
        ValueError: when the shapes do not fit.
    """
    sums = np.asarray(sums, dtype=np.float64)
    if sums.ndim != 2 or blocks.shape != (len(sums),):
        raise ValueError(f"Expected sums (n, k) and blocks (n,), found {sums.shape} and {blocks.shape}.")
    codes, block = np.unique(blocks, return_inverse=True)
    return np.stack([np.bincount(block, column, minlength=len(codes)) for column in sums.T], axis=1)


def gradient(statistic: Statistic, totals: FloatArray, scale: FloatArray) -> FloatArray:
    """Differentiate the statistic at totals (..., k) by central differences; `scale` (k,) sizes steps at zero."""
    columns = []
    for column in range(totals.shape[-1]):
        step = _GRADIENT_STEP * np.maximum(np.abs(totals[..., column]), scale[column])
        step = np.where(step > 0, step, _GRADIENT_STEP)
        up, down = totals.copy(), totals.copy()
        up[..., column] += step
        down[..., column] -= step
        columns.append((statistic(up) - statistic(down)) / (2.0 * step))
    return np.stack(columns, axis=-1)


def influence(block_sums: FloatArray, statistic: Statistic) -> tuple[float, FloatArray, bool]:
    """Return the value, each block's linearised share of its deviation (K,), and whether blocks vary at all."""
    totals = block_sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(totals))
        slope = gradient(statistic, totals, np.abs(totals))
        shares = block_sums @ slope
        shares -= shares.mean()
        size = float(np.linalg.norm(np.abs(block_sums) @ np.abs(slope)))
    return value, shares, float(np.linalg.norm(shares)) > _NO_SPREAD * size


def studentise(
    block_sums: FloatArray,
    statistic: Statistic,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
) -> Studentised:
    """Resample blocks and studentise every resample.

    Args:
        block_sums: (K, k) sums of each block, as from `aggregate`.
        statistic: function of the sums.
        resamples: how many; memory stays bounded whatever K is.
        seed: of the generator. Equal K and seed give equal resamples, so what is stacked as columns of one
            `block_sums` (candidate and baseline) is resampled together.
    """
    count = len(block_sums)
    if count == 0:
        return Studentised(float("nan"), float("nan"), np.empty(0), 0)
    value, shares, varies = influence(block_sums, statistic)
    if count == 1 or not np.isfinite(value):
        return Studentised(value, float("nan"), np.empty(0), count)
    # The bootstrap divides by K where an unbiased variance divides by K - 1.
    correction = count / (count - 1.0)
    if not varies:
        return Studentised(value, 0.0, np.empty(0), count)
    error = max(float(np.sqrt(correction * (shares @ shares))), _jackknife_error(block_sums, statistic))
    if count < MIN_BLOCKS:
        return Studentised(value, error, np.empty(0), count)

    drawable = aggregate(block_sums, np.arange(count) % MOST_DRAWN) if count > MOST_DRAWN else block_sums
    deviations = _deviations(drawable, statistic, value, _NO_SPREAD * error, resamples, seed)
    return Studentised(value, error, np.sort(deviations[np.isfinite(deviations)]), count)


def _deviations(
    block_sums: FloatArray, statistic: Statistic, value: float, least_error: float, resamples: int, seed: int
) -> FloatArray:
    """Draw blocks, and return how far each resample is from the value in its own standard errors: (resamples,)."""
    count, width = block_sums.shape
    scale = np.abs(block_sums.sum(axis=0))
    products = (block_sums[:, :, None] * block_sums[:, None, :]).reshape(count, width * width)
    both = np.concatenate([block_sums, products], axis=1)
    parts = []
    for weights in _weights(count, resamples, seed):
        drawn = weights @ both
        totals, moments = drawn[:, :width], drawn[:, width:].reshape(-1, width, width)
        with np.errstate(divide="ignore", invalid="ignore"):
            deviation = statistic(totals) - value
            slope = gradient(statistic, totals, scale)
        squares = np.einsum("bi,bij,bj->b", slope, moments, slope)
        mean = np.einsum("bi,bi->b", slope, totals)
        own = np.sqrt(count / (count - 1.0) * np.maximum(squares - mean * mean / count, 0.0))
        parts.append(deviation / np.maximum(own, least_error))
    return np.concatenate(parts)


def _jackknife_error(block_sums: FloatArray, statistic: Statistic) -> float:
    """Return the delete-one-block standard error (Efron & Tibshirani 1993, chapter 11), 0 where it is undefined."""
    count = len(block_sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = statistic(block_sums.sum(axis=0) - block_sums)
    error = float(np.std(without)) * np.sqrt(count - 1.0)
    return float(error) if np.isfinite(error) else 0.0


def _weights(count: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each block is drawn, (chunk, K) at a time."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ELEMENTS // count)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        # Counting drawn indices is several times faster than Generator.multinomial for many blocks.
        drawn = rng.integers(0, count, size=(rows, count))
        drawn += (np.arange(rows) * count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
