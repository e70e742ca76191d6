"""What a corpus can detect, and how much more data a margin needs: `modellab corpus power`, and inconclusive verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.metrics import Metric
from pipelines.numerals import significant
from pipelines.scores import FloatArray
from pipelines.stats.power import (
    Spread,
    assumed_spread,
    blocks_needed,
    minimum_detectable_difference,
    paired_spread,
    utterances_needed,
)
from pipelines.stats.resampling import IntArray, Statistic

POWER = 0.8
"""Chance with which a real difference should be found."""
MOST_SPEAKERS = 10_000
"""Beyond it a plan is told as out of reach: these recordings do not lend themselves to such a margin."""
ASSUMED_WER = 0.10
"""Word error rate taken for a corpus that no model has been evaluated on."""
ASSUMED_SPEAKER_CV = 0.5
"""Coefficient of variation of speakers' error rates, taken for such a corpus."""
ASSUMED_OVERDISPERSION = 2.0
"""Variance of an utterance's errors over that of independent words, taken for such a corpus: errors come in runs."""


@dataclass(frozen=True)
class Plan:
    """What one set of utterances can detect."""

    detectable: float
    """Smallest true difference found at the level with `POWER`, in the metric's unit; NaN or infinite if none."""
    margin: float | None
    """Margin that `blocks_needed` is for."""
    blocks: int
    """Speakers there are."""
    utterances: int
    """Utterances there are."""
    blocks_needed: int | None
    """Speakers, of as many utterances each, with which a harmless candidate passes the margin with `POWER`."""
    utterances_needed: int | None
    """The same in utterances."""

    def sentence(self, metric: Metric) -> str:
        """Say it to a person; empty where nothing can be planned."""
        if not math.isfinite(self.detectable):
            return ""
        scale, unit = (100.0, "points") if metric.unit == "ratio" else (1.0, metric.unit)
        voices = metric.tasks == ("tts",)
        people = "groups of prompts" if voices else "speakers"
        there = f"{self.utterances} prompts" if voices and self.blocks == self.utterances else f"{self.blocks} {people}"
        told = f"With {there} this data can tell {significant(scale * self.detectable, 2)} {unit}"
        if self.margin is None or self.blocks_needed is None:
            return told
        if self.blocks_needed > MOST_SPEAKERS:
            return f"{told}; {significant(scale * self.margin)} {unit} would need over {MOST_SPEAKERS} {people} like these"
        if self.blocks_needed <= self.blocks:
            return f"{told}, enough for {significant(scale * self.margin)} {unit} if the candidate were exactly as good"
        needed = f"{self.blocks_needed} {people} ({self.utterances_needed} {'prompts' if voices else 'recordings'})"
        if voices and self.blocks == self.utterances:
            needed = f"{self.utterances_needed} prompts"
        return f"{told}; {significant(scale * self.margin)} {unit} would need about {needed} like these"


def plan_of(spread: Spread, margin: float | None, *, alpha: float, power: float = POWER) -> Plan:
    """Plan from a known spread.

    Args:
        spread: How much speakers vary in the difference.
        margin: Largest allowed difference; None to ask only what can be detected.
        alpha: One-sided level of the rule.
        power: Wanted chance.
    """
    return Plan(
        detectable=minimum_detectable_difference(spread, alpha=alpha, power=power),
        margin=margin,
        blocks=spread.blocks,
        utterances=spread.utterances,
        blocks_needed=None if margin is None else blocks_needed(spread, margin, alpha=alpha, power=power),
        utterances_needed=None if margin is None else utterances_needed(spread, margin, alpha=alpha, power=power),
    )


def plan_of_pair(
    ours: FloatArray, theirs: FloatArray, blocks: IntArray, statistic: Statistic, margin: float | None, *, alpha: float
) -> Plan:
    """Plan from two models on the same utterances: columns (n, k) of each, block codes (n,)."""
    return plan_of(paired_spread(ours, theirs, blocks, statistic), margin, alpha=alpha)


def plan_of_one(columns: FloatArray, blocks: IntArray, statistic: Statistic, margin: float | None, *, alpha: float) -> Plan:
    """Plan from one model, taking the other as equally variable and half correlated with it."""
    return plan_of(assumed_spread(columns, blocks, statistic), margin, alpha=alpha)


def plan_without_models(words: Sequence[int] | IntArray, blocks: IntArray, margin: float | None, *, alpha: float) -> Plan:
    """Plan for a corpus that no model has been evaluated on, from stated assumptions (`ASSUMED_WER` and below).

    Errors are laid out at their expected spread, not drawn: each speaker's error rate deviates from `ASSUMED_WER` by
    speaker variation and by the noise of a finite number of overdispersed words, in normal quantiles, so that the same
    corpus always gets the same plan.

    Args:
        words: Reference words of each utterance, (n,).
        blocks: Speaker codes, (n,).
        margin: See `plan_of`.
        alpha: One-sided level of the rule.
    """
    from scipy import special

    codes, block = np.unique(blocks, return_inverse=True)
    per_block = np.bincount(block, weights=np.asarray(words, dtype=np.float64), minlength=len(codes))
    utterances = np.bincount(block, minlength=len(codes))
    variance = (ASSUMED_WER * ASSUMED_SPEAKER_CV) ** 2 + ASSUMED_OVERDISPERSION * ASSUMED_WER * (
        1 - ASSUMED_WER
    ) / np.maximum(per_block, 1)
    count = len(codes)
    # A fixed order that has nothing to do with size: sorted quantiles would give all the errors to the last speakers.
    order = np.random.default_rng(0).permutation(count)
    quantiles = special.ndtri((order + 0.5) / count)
    rates = ASSUMED_WER + np.sqrt(variance) * quantiles
    sums = np.stack([rates * per_block, per_block], axis=1)
    spread = assumed_spread(sums, np.arange(count), lambda s: s[..., 0] / s[..., 1])
    whole = Spread(spread.deviation, spread.blocks, int(utterances.sum()), spread.freedom, spread.paired)
    return plan_of(whole, margin, alpha=alpha)
