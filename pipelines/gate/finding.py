"""A rule's numbers on the way to its verdict, and how numbers are written in reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.decision import RuleResult, Verdict
from pipelines.metrics import Metric
from pipelines.numerals import significant
from pipelines.policy import Rule


@dataclass(frozen=True)
class Finding:
    """A rule's numbers, before its verdict; ends of intervals may be NaN."""

    rule: Rule
    slice: str
    n: int
    candidate: float | None = None
    baseline: float | None = None
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None

    def of(self, verdict: Verdict, reason: str) -> RuleResult:
        """Give the verdict and why."""
        return RuleResult(
            rule=self.rule.name,
            kind=self.rule.kind,
            metric=self.rule.metric,
            slice=self.slice,
            verdict=verdict,
            candidate=finite(self.candidate),
            baseline=finite(self.baseline),
            delta=finite(self.delta),
            ci_low=finite(self.low),
            ci_high=finite(self.high),
            margin=self.margin,
            n=self.n,
            reason=reason,
        )

    def inconclusive(self, why: str) -> RuleResult:
        """Say why nothing can be decided."""
        return self.of("inconclusive", f"{why[:1].upper()}{why[1:].rstrip('.')}.")


def finite(value: float | None) -> float | None:
    """Give None for what cannot be written in JSON."""
    return value if value is not None and math.isfinite(value) else None


def show(metric: Metric, value: float) -> str:
    """Write a value: ratios as percent, the rest with its unit."""
    return f"{100 * value:.1f}%" if metric.unit == "ratio" else f"{significant(value)} {metric.unit}"


def show_interval(metric: Metric, value: float, low: float, high: float) -> str:
    """Write a value with its interval."""
    return f"{show(metric, value)} [{show(metric, low)}, {show(metric, high)}]"


def show_points(metric: Metric, value: float) -> str:
    """Write a size of a difference: percentage points for ratios."""
    return f"{significant(100 * value)} points" if metric.unit == "ratio" else f"{significant(value)} {metric.unit}"


def show_delta(metric: Metric, value: float, low: float, high: float) -> str:
    """Write a difference with its interval."""
    if metric.unit == "ratio":
        return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points"
    told, down, up = (significant(number, signed=True) for number in (value, low, high))
    return f"{told} [{down}, {up}] {metric.unit}"
