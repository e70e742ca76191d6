"""Metrics with intervals, over everything and per slice: one pass over the utterances a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.measure import Measurement, fresh
from pipelines.metrics import Metric, Quantile, ScoringNothing, Sums
from pipelines.scores import ScoreTable
from pipelines.stats.bootstrap import Interval, bootstrap_interval, grouped_intervals, quantile_interval
from pipelines.types import MetricResult

MAX_SLICE_VALUES = 200
"""A key with more values (the speakers of a large corpus) is no slice but noise; it is left out of the result."""

NOTHING_FRESH = "nothing was computed in this run, and times from the store are not measurements of it"


def slice_values(table: ScoreTable) -> dict[str, tuple[list[str], NDArray[np.int64]]]:
    """Find the keys and values to slice by.

    Returns:
        Key → (values in order, (n,) code of each utterance's value, -1 where it has none). Keys that all utterances
        share one value of, or that have more than `MAX_SLICE_VALUES`, are left out.
    """
    columns: dict[str, list[str | None]] = {}
    for row, score in enumerate(table.scores):
        for key, value in score.facets.items():
            if key not in columns:
                columns[key] = [None] * len(table)
            columns[key][row] = value
    out = {}
    for key in sorted(columns):
        if len(set(columns[key])) < 2:
            continue
        values = sorted({value for value in columns[key] if value is not None})
        if len(values) > MAX_SLICE_VALUES:
            continue
        index = {value: code for code, value in enumerate(values)}
        out[key] = (values, np.array([-1 if v is None else index[v] for v in columns[key]], dtype=np.int64))
    return out


def summarize(
    table: ScoreTable, metrics: Mapping[str, Metric], *, level: float, resamples: int, seed: int
) -> tuple[dict[str, MetricResult], dict[str, dict[str, MetricResult]]]:
    """Compute every metric over everything and over every slice.

    A metric that has nothing to measure has a result whose value is None and whose note says why; in a slice it is
    left out.

    Args:
        table: The utterances.
        metrics: By name, see `metrics_of`.
        level: Two-sided level of the intervals.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        Metrics, and ``key=value`` → metrics.
    """
    overall: dict[str, MetricResult] = {}
    slices: dict[str, dict[str, MetricResult]] = {}
    keys = slice_values(table)
    for name, metric in metrics.items():
        measurement = metric.measure(table)
        overall[name] = measured(metric, measurement, table, level=level, resamples=resamples, seed=seed)
        for key, (values, codes) in keys.items():
            per_value = _per_slice(metric, measurement, table, codes, len(values), level, resamples, seed)
            for value, result in zip(values, per_value, strict=True):
                if result is not None:
                    slices.setdefault(f"{key}={value}", {})[name] = result
    return overall, dict(sorted(slices.items()))


def measured(
    metric: Metric, measurement: Measurement, table: ScoreTable, *, level: float, resamples: int, seed: int
) -> MetricResult:
    """Give one measurement its value and interval; None and a note where there is nothing to measure."""
    try:
        plain = metric.result(measurement)
    except ScoringNothing as nothing:
        note = NOTHING_FRESH if metric.rows is fresh and len(table) else nothing.message
        return MetricResult(
            value=None, unit=metric.unit, higher_is_better=metric.higher_is_better, n=0, level=level, note=note
        )
    rows = measurement.rows
    if isinstance(measurement, Quantile):
        found = quantile_interval(
            measurement.values[rows], measurement.q, table.blocks[rows], level=level, block_word=table.block_word
        )
    else:
        found = bootstrap_interval(
            measurement.columns[rows],
            table.blocks[rows],
            measurement.value,
            level=level,
            resamples=resamples,
            seed=seed,
            limits=metric.limits,
            failure=metric.failure,
            block_word=table.block_word,
        )
    return with_interval(plain, found)


def with_interval(result: MetricResult, found: Interval) -> MetricResult:
    """Put an interval into a result; ends that cannot be had stay None."""
    return result.model_copy(
        update={
            "ci_low": found.low if math.isfinite(found.low) else None,
            "ci_high": found.high if math.isfinite(found.high) else None,
            "level": found.level,
            "blocks": found.blocks,
            "note": found.note or None,
        }
    )


def _per_slice(
    metric: Metric,
    measurement: Measurement,
    table: ScoreTable,
    codes: NDArray[np.int64],
    count: int,
    level: float,
    resamples: int,
    seed: int,
) -> list[MetricResult | None]:
    groups = np.where(measurement.rows, codes, -1)
    plain: list[MetricResult | None] = []
    for group in range(count):
        try:
            plain.append(metric.result(measurement.select(groups == group)))
        except ScoringNothing:
            plain.append(None)
    if isinstance(measurement, Sums):
        intervals = grouped_intervals(
            measurement.columns,
            table.blocks,
            groups,
            count,
            measurement.value,
            level=level,
            resamples=resamples,
            seed=seed,
            limits=metric.limits,
            failure=metric.failure,
            block_word=table.block_word,
        )
    else:
        intervals = [
            quantile_interval(
                measurement.values[groups == group],
                measurement.q,
                table.blocks[groups == group],
                level=level,
                block_word=table.block_word,
            )
            for group in range(count)
        ]
    return [None if result is None else with_interval(result, found) for result, found in zip(plain, intervals, strict=True)]
