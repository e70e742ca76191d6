"""What a model loses on degraded recordings: each variant against the very recordings it was made of.

Both are transcribed by one model, so they are compared as two models on the same recordings are: paired, resampled by
speaker (`pipelines.stats.paired`). What makes a recording hard in the first place cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.degrade.steps import ORIGINAL, VARIANT
from pipelines.measure import Sums
from pipelines.metrics import METRICS, Metric
from pipelines.policy import Policy
from pipelines.scores import BoolArray, FloatArray, ScoreTable
from pipelines.stats.paired import PairedInterval, paired_difference
from pipelines.types import VariantLoss

LOSSES = ("wer", "cer", "invented_words_per_minute")
"""What is told of every variant; a rule may ask about any metric that is a function of sums."""


@dataclass(frozen=True)
class Loss:
    """One metric on a variant and on its originals."""

    original: float
    degraded: float
    pair: PairedInterval | None
    """Degraded minus original, in the metric's own direction turned so that higher is worse; None without pairs."""
    n: int
    blocks: int


def pairs_of(table: ScoreTable) -> dict[str, list[tuple[int, int]]]:
    """Find the rows that belong together.

    Returns:
        Variant → (row of the original, row of the variant), in the order of the variants' rows. A variant whose original
        was not evaluated has no pair.
    """
    rows = {score.id: row for row, score in enumerate(table.scores)}
    found: dict[str, list[tuple[int, int]]] = {}
    for row, score in enumerate(table.scores):
        if score.variant_of:
            pairs = found.setdefault(score.tags.get(VARIANT, "unnamed"), [])
            if (original := rows.get(score.variant_of)) is not None:
                pairs.append((original, row))
    return dict(sorted(found.items()))


def variants_in(table: ScoreTable) -> list[str]:
    """Names of the degraded variants among the scores."""
    return [name for name in pairs_of(table) if name != ORIGINAL]


def measure_loss(
    metric: Metric,
    table: ScoreTable,
    pairs: list[tuple[int, int]],
    policy: Policy,
    *,
    level: float,
    margin: float = 0.0,
) -> Loss | None:
    """Compare a metric on variants with the same on their originals.

    Args:
        metric: A function of sums.
        table: Has both.
        pairs: Rows, see `pairs_of`.
        policy: Resamples and seed.
        level: Two-sided, of the interval.
        margin: The harm that the p values are about.

    Returns:
        None where the metric is a quantile, or nothing that it is about is in the pairs.
    """
    measured = metric.measure(table)
    if not isinstance(measured, Sums):
        return None
    kept = [(a, b) for a, b in pairs if measured.rows[a] and measured.rows[b]]
    if not kept:
        return None
    before, after = (np.array(column, dtype=np.intp) for column in zip(*kept, strict=True))
    originals, variants = measured.columns[before], measured.columns[after]
    blocks = table.blocks[before]
    sign = -1.0 if metric.higher_is_better else 1.0

    def harm(sums: FloatArray) -> FloatArray:
        return sign * measured.value(sums)

    pair = paired_difference(
        variants,
        originals,
        blocks,
        harm,
        level=level,
        margin=margin,
        resamples=policy.resamples,
        seed=policy.seed,
        failure=metric.failure or 1.0,
        block_word=table.block_word,
    )
    point_before, point_after = (measured.select(_mask(len(table), rows)).point() for rows in (before, after))
    return Loss(point_before, point_after, pair, len(kept), len(np.unique(blocks)))


def variant_losses(table: ScoreTable, policy: Policy, metrics: Mapping[str, Metric] = METRICS) -> tuple[VariantLoss, ...]:
    """Tell of every variant what the model loses on it, by `LOSSES`; nothing where no variant was evaluated."""
    told = []
    for variant, pairs in pairs_of(table).items():
        for name in LOSSES:
            metric = metrics[name]
            found = measure_loss(metric, table, pairs, policy, level=policy.level)
            if found is None or found.pair is None:
                continue
            sign = -1.0 if metric.higher_is_better else 1.0
            low, high = sorted((sign * found.pair.low, sign * found.pair.high))
            told.append(
                VariantLoss(
                    variant=variant,
                    metric=name,
                    unit=metric.unit,
                    higher_is_better=metric.higher_is_better,
                    n=found.n,
                    blocks=found.blocks,
                    original=_finite(found.original),
                    degraded=_finite(found.degraded),
                    delta=_finite(sign * found.pair.delta),
                    ci_low=_finite(low),
                    ci_high=_finite(high),
                    level=policy.level,
                    note=found.pair.note or None,
                )
            )
    return tuple(told)


def _mask(count: int, rows: np.typing.NDArray[np.intp]) -> BoolArray:
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
