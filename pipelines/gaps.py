"""The gap between the group a model serves best and the one it serves worst, for a tag such as accent or gender."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipelines.measure import Sums
from pipelines.metrics import METRICS, Metric
from pipelines.scores import FloatArray, ScoreTable
from pipelines.stats.gaps import Gap, gap
from pipelines.types import MetricResult

GAP_KEYS = ("accent", "gender", "bandwidth")
"""Tags whose gaps every evaluation reports: groups of people, and of the lines they speak through."""
GAP_MIN_N = 5
"""Utterances below which a group is not compared."""
NO_GROUP = frozenset({"", "unknown", "none"})
"""Values that name no group."""


@dataclass(frozen=True)
class SliceGap:
    """The gap over one tag, with the groups by name."""

    gap: Gap
    """The numbers; its value is NaN where fewer than two groups can be compared."""
    worst: str
    best: str
    n: int
    """Utterances in the groups compared."""
    unmeasured: tuple[str, ...]
    """Groups of which nothing can be said: fewer than `min_n` utterances, or than `min_speakers` speakers."""
    note: str
    """What a reader must know: groups left out, few speakers."""


def slice_gap(
    metric: Metric, table: ScoreTable, key: str, *, level: float, min_n: int = GAP_MIN_N, min_speakers: int = 2
) -> SliceGap:
    """Measure the gap of a metric over the values of a tag.

    Args:
        metric: A metric of sums.
        table: The utterances; those without the tag, or where it is ``unknown`` or ``none``, belong to no group.
        key: The tag.
        level: Two-sided level of the interval.
        min_n: Utterances, of the kind the metric is about, that a group needs; smaller ones are left out and named.
        min_speakers: Speakers that a group needs, at least two: how one differs from others cannot be seen.
    """
    measurement = metric.measure(table)
    assert isinstance(measurement, Sums), f"{metric.name} is a quantile: it has no gap of sums"
    named = np.array([score.facets.get(key, "") for score in table.scores], dtype=object)
    names = sorted({str(name) for name in named[measurement.rows]} - NO_GROUP)
    counts = {name: int(((named == name) & measurement.rows).sum()) for name in names}
    speakers = {name: len(np.unique(table.blocks[(named == name) & measurement.rows])) for name in names}
    large = [name for name in names if counts[name] >= min_n]
    kept = [name for name in large if speakers[name] >= max(2, min_speakers)]
    unmeasured = tuple(name for name in names if name not in kept)
    index = {name: code for code, name in enumerate(kept)}
    groups = np.array(
        [index.get(str(name), -1) if row else -1 for name, row in zip(named, measurement.rows, strict=True)],
        dtype=np.int64,
    )
    small = [f"{name} ({counts[name]})" for name in names if counts[name] < min_n]
    notes = [f"fewer than {min_n} utterances: {', '.join(small)}"] if small else []
    if lone := [f"{name} ({speakers[name]})" for name in large if name not in kept]:
        notes.append(f"too few speakers to compare: {', '.join(lone)}")
    if len(kept) < 2:
        nothing = Gap(math.nan, math.nan, math.nan, level, -1, -1, ())
        what = f"{len(kept)} groups of {key} can be compared"
        return SliceGap(nothing, "", "", 0, unmeasured, "; ".join([what, *notes]))
    sign = -1.0 if metric.higher_is_better else 1.0

    def harm(sums: FloatArray) -> FloatArray:
        return sign * measurement.value(sums)

    found = gap(measurement.columns, table.blocks, groups, len(kept), harm, level=level, failure=metric.failure or 1.0)
    worst = f"{key}={kept[found.worst]}" if found.worst >= 0 else ""
    best = f"{key}={kept[found.best]}" if found.best >= 0 else ""
    note = "; ".join([*filter(None, [found.note]), *notes])
    return SliceGap(found, worst, best, int((groups >= 0).sum()), unmeasured, note)


def gap_metrics(table: ScoreTable, *, level: float, keys: Iterable[str] = GAP_KEYS) -> dict[str, MetricResult]:
    """Report the gap in word error rate over each tag as ``wer_gap_KEY``; left out where there are no two groups."""
    out = {}
    for key in keys:
        found = slice_gap(METRICS["wer"], table, key, level=level)
        if not math.isfinite(found.gap.value):
            continue
        told = f"{found.worst} against {found.best}"
        out[f"wer_gap_{key}"] = MetricResult(
            value=found.gap.value,
            unit="ratio",
            higher_is_better=False,
            n=found.n,
            ci_low=found.gap.low if math.isfinite(found.gap.low) else None,
            ci_high=found.gap.high if math.isfinite(found.gap.high) else None,
            level=level,
            note=f"{told}; {found.note}" if found.note else told,
        )
    return out
