"""What a metric is: columns of sums (or a quantile) over utterances, with unit, direction and the rows it is about.

A corpus value is a function of sums, never a mean of per-utterance values: the word error rate is all errors over
all words. So a metric does not return a number. It returns the columns (n, k) whose sums are taken, and the function
from sums to value. One pass over the utterances then serves the value, every slice (sums over a mask) and every
resample of the bootstrap (`pipelines.stats.bootstrap_interval` takes ``columns`` and ``value`` as they are).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.errors import LabError
from models.types import Task
from pipelines.scores import BoolArray, FloatArray, ScoreTable
from pipelines.types import MetricResult


class ScoringNothing(LabError):  # noqa: N818 - it says what happened
    """A metric was asked of rows that it is not about: there is no value, and certainly not 0."""


@dataclass(frozen=True)
class Sums:
    """A metric whose corpus value is a function of sums over utterances."""

    names: tuple[str, ...]
    """Of the k columns, as shown to people: ``errors``, ``reference_words`` …"""
    columns: FloatArray
    """(n, k), zero in the rows that the metric is not about."""
    value: Callable[[FloatArray], FloatArray]
    """From sums (..., k) to values (...): vectorised, unchanged when all sums are scaled, NaN where undefined."""
    rows: BoolArray
    """(n,) the rows that the metric is about. Leave the others out of a bootstrap: they would count as blocks."""

    def select(self, mask: BoolArray) -> Sums:
        """Keep the utterances where the mask (n,) is true."""
        return replace(self, columns=self.columns[mask], rows=self.rows[mask])

    def point(self) -> float:
        """The value over all rows; NaN where it is undefined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(self.value(self.columns.sum(axis=0)))

    def counts(self) -> dict[str, float]:
        """The sums by name: what the value was computed from."""
        return dict(zip(self.names, map(float, self.columns.sum(axis=0)), strict=True))


@dataclass(frozen=True)
class Quantile:
    """A metric that is a quantile over utterances, such as the 95th percentile of latency."""

    values: FloatArray
    """(n,), NaN in the rows that the metric is not about."""
    q: float
    """Between 0 and 1."""
    rows: BoolArray
    """(n,) the rows that the metric is about."""

    def select(self, mask: BoolArray) -> Quantile:
        """Keep the utterances where the mask (n,) is true."""
        return replace(self, values=self.values[mask], rows=self.rows[mask])

    def point(self) -> float:
        """The quantile, linearly interpolated (type 7 of Hyndman & Fan 1996); NaN without rows."""
        return float(np.quantile(self.values[self.rows], self.q)) if self.rows.any() else float("nan")

    def counts(self) -> dict[str, float]:
        """How many utterances it rests on."""
        return {"utterances": float(self.rows.sum())}


Measurement = Sums | Quantile


@dataclass(frozen=True)
class Draft:
    """What a metric's function returns: values for every row, before the rows it is about are applied."""

    columns: Mapping[str, FloatArray | BoolArray]
    value: Callable[[FloatArray], FloatArray] | None = None
    q: float | None = None

    def within(self, rows: BoolArray) -> Measurement:
        """Blank the rows that the metric is not about."""
        stacked = np.stack([np.asarray(column, dtype=np.float64) for column in self.columns.values()], axis=1)
        if self.q is not None:
            return Quantile(np.where(rows, stacked[:, 0], np.nan), self.q, rows)
        assert self.value is not None
        return Sums(tuple(self.columns), np.where(rows[:, None], stacked, 0.0), self.value, rows)


def _first_over_second(sums: FloatArray) -> FloatArray:
    top, bottom = sums[..., 0], sums[..., 1]
    return np.where(bottom > 0, top, np.nan) / np.where(bottom > 0, bottom, 1.0)


def ratio(**columns: FloatArray | BoolArray) -> Draft:
    """A ratio of sums: the first column over the second; further columns are only shown with it.

    Args:
        **columns: (n,) each, named as people should read them: ``ratio(errors=…, reference_words=…)``.
    """
    assert len(columns) >= 2
    return Draft(columns, _first_over_second)


def function_of_sums(value: Callable[[FloatArray], FloatArray], **columns: FloatArray) -> Draft:
    """Any function of sums that scaling them all leaves unchanged.

    Args:
        value: From sums (..., k), in the columns' order, to values (...).
        **columns: (n,) each.
    """
    return Draft(columns, value)


def quantile(values: FloatArray, q: float) -> Draft:
    """A quantile over utterances.

    Args:
        values: (n,) one for each utterance.
        q: Between 0 and 1.
    """
    assert 0.0 < q < 1.0
    return Draft({"values": values}, q=q)


@dataclass(frozen=True)
class Metric:
    """A named metric with all that a rule or a report must know of it."""

    name: str
    unit: str
    """``ratio``, ``s``, ``1/min`` …"""
    higher_is_better: bool
    description: str
    """The function's docstring: what it measures, and the paper or standard it follows."""
    compute: Callable[[ScoreTable], Draft]
    rows: Callable[[ScoreTable], BoolArray]
    """Which rows of a table it is about, (n,)."""
    limits: tuple[float, float]
    """Its range, to which ends of an interval are clipped."""
    tasks: tuple[Task, ...]
    """The tasks whose evaluations it belongs to."""
    failure: float | None
    """How far one failing utterance is from the others, in the unit, for an interval where nothing ever failed.

    None where nobody can say: such a metric has no interval without variation.
    """

    def measure(self, table: ScoreTable) -> Measurement:
        """Pass over the utterances once; slices and resamples are taken from what comes back."""
        return self.compute(table).within(self.rows(table))

    def result(self, measurement: Measurement) -> MetricResult:
        """Turn a measurement, or a slice of one, into a result without an interval.

        Raises:
            ScoringNothing: When it has no rows, or nothing to divide by.
        """
        n = int(measurement.rows.sum())
        value = measurement.point()
        if n == 0 or not np.isfinite(value):
            about = f"{n} of {len(measurement.rows)} utterances are of the kind it is about"
            found = f", with {measurement.counts()}" if n else ""
            raise ScoringNothing(
                f"{self.name} cannot be measured: {about}{found}.",
                "Add such recordings to the corpus, or leave the metric out for this selection.",
            )
        return MetricResult(
            value=value, unit=self.unit, higher_is_better=self.higher_is_better, n=n, counts=measurement.counts()
        )


REGISTRY: dict[str, Metric] = {}
"""Metrics by name. Look them up through `pipelines.metrics`, which registers all of ours."""


def speech(table: ScoreTable) -> BoolArray:
    """Rows whose reference has words: the only ones that error rates are about."""
    return table.is_speech


def nonspeech(table: ScoreTable) -> BoolArray:
    """Rows whose reference is empty: every word on them is invented."""
    return ~table.is_speech


def fresh(table: ScoreTable) -> BoolArray:
    """Rows that were inferred in this run; a stored prediction's time says nothing about this machine now."""
    return np.isfinite(table.inference_s)


def metric(
    *,
    unit: str,
    higher_is_better: bool,
    rows: Callable[[ScoreTable], BoolArray] = speech,
    limits: tuple[float, float] = (0.0, float("inf")),
    failure: float | None = 1.0,
    tasks: tuple[Task, ...] = ("asr",),
) -> Callable[[Callable[[ScoreTable], Draft]], Metric]:
    """Make a function from a table to `ratio`, `function_of_sums` or `quantile` a metric under its own name.

    Args:
        unit: Of the value.
        higher_is_better: Direction in which a model improves.
        rows: Which rows it is about.
        limits: Its range.
        failure: See `Metric.failure`.
        tasks: The tasks whose evaluations it belongs to.
    """

    def register(compute: Callable[[ScoreTable], Draft]) -> Metric:
        name = compute.__name__
        assert name not in REGISTRY, f"two metrics are named {name}"
        description = (compute.__doc__ or "").strip()
        assert description, f"the metric {name} needs a docstring: what it measures, and its source"
        made = Metric(name, unit, higher_is_better, description, compute, rows, limits, tasks, failure)
        REGISTRY[name] = made
        return made

    return register


def evaluate_metric(metric: Metric, table: ScoreTable) -> MetricResult:
    """Measure one metric over a whole table, without an interval.

    Raises:
        ScoringNothing: When the table has nothing that the metric is about.
    """
    return metric.result(metric.measure(table))
