"""Ratios of speed and memory, from timings taken side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipelines.duel import Duel
from pipelines.metrics import TIMED_QUANTILES
from pipelines.scores import FloatArray
from pipelines.stats.paired import paired_ratio
from pipelines.stats.quantiles import blocks_for_quantile


@dataclass(frozen=True)
class SpeedRatio:
    """Candidate over baseline of one metric of cost."""

    candidate: float
    baseline: float
    ratio: float
    """NaN where the baseline's cost is 0."""
    low: float
    """NaN where there is no interval: the metric was measured once, or too few recordings were timed."""
    high: float
    n: int
    """Recordings timed; 1 for what is measured once a process."""


def speed_ratio(duel: Duel, metric: str, *, level: float, resamples: int, seed: int) -> SpeedRatio:
    """Compare one metric of cost.

    Recordings are what is resampled: rounds of the same recording belong together.

    Args:
        duel: Timings taken in turn.
        metric: ``rtf``, ``latency_p50``, ``latency_p95``, ``first_audio_p50``, ``load_time`` or ``peak_memory``.
        level: Two-sided level of the interval.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Raises:
        KeyError: A duel does not measure this metric.
    """
    once = {"load_time": duel.load_s, "peak_memory": duel.peak_mib}
    if metric in once:
        ours, theirs = once[metric]
        return SpeedRatio(ours, theirs, ours / theirs if theirs else math.nan, math.nan, math.nan, 1)
    names = sorted({timing.audio_sha256 for timing in duel.timings})
    code = {name: index for index, name in enumerate(names)}
    blocks = np.array([code[timing.audio_sha256] for timing in duel.timings], dtype=np.int64)
    audio = np.array([timing.audio_s for timing in duel.timings])
    if metric == "first_audio_p50":
        ours_s = np.array([timing.candidate_first_s for timing in duel.timings], dtype=np.float64)
        theirs_s = np.array([timing.baseline_first_s for timing in duel.timings], dtype=np.float64)
    else:
        ours_s = np.array([timing.candidate_s for timing in duel.timings])
        theirs_s = np.array([timing.baseline_s for timing in duel.timings])
    if metric == "rtf":
        theirs_audio = np.array([t.audio_s if t.baseline_audio_s is None else t.baseline_audio_s for t in duel.timings])
        found = paired_ratio(
            np.stack([ours_s, audio], axis=1),
            np.stack([theirs_s, theirs_audio], axis=1),
            blocks,
            lambda sums: sums[..., 0] / sums[..., 1],
            level=level,
            resamples=resamples,
            seed=seed,
            block_word="recording",
        )
        ours, theirs = float(ours_s.sum() / audio.sum()), float(theirs_s.sum() / theirs_audio.sum())
        return SpeedRatio(ours, theirs, found.delta, found.low, found.high, len(names))
    q = TIMED_QUANTILES[metric]
    low, high = _quantile_ratio_interval(ours_s, theirs_s, blocks, q, level, resamples, seed)
    ours, theirs = float(np.quantile(ours_s, q)), float(np.quantile(theirs_s, q))
    return SpeedRatio(ours, theirs, ours / theirs, low, high, len(names))


def _quantile_ratio_interval(
    ours: FloatArray, theirs: FloatArray, blocks: np.ndarray, q: float, level: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap over recordings: a quantile is no function of sums.

    NaN below `blocks_for_quantile`: of 16 recordings the 95th percentile is all but the largest, the interval covers 83 to
    89% instead of 95, and a rule on it would pass what it must not.
    """
    count = int(blocks.max()) + 1
    if count < blocks_for_quantile(q, level):
        return math.nan, math.nan
    rounds = [np.flatnonzero(blocks == block) for block in range(count)]
    per_block = min(len(rows) for rows in rounds)
    index = np.stack([rows[:per_block] for rows in rounds])
    drawn = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    rows = index[drawn].reshape(resamples, -1)
    ratios = np.quantile(ours[rows], q, axis=1) / np.quantile(theirs[rows], q, axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)
