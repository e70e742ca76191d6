"""Rules about the candidate alone: limits of a metric, and of the gap between the slices it serves best and worst."""

from __future__ import annotations

import math

from pipelines.decision import RuleResult
from pipelines.gaps import slice_gap
from pipelines.gate.evidence import shortage, slice_mask
from pipelines.gate.finding import Finding, show, show_interval, show_points
from pipelines.metrics import METRICS
from pipelines.policy import AbsoluteRule, GapRule, Policy
from pipelines.scores import ScoreTable
from pipelines.summarize import measured


def judge_absolute(rule: AbsoluteRule, name: str, policy: Policy, table: ScoreTable) -> RuleResult:
    """Hold the candidate's value, or its whole interval, against a limit."""
    metric = METRICS[rule.metric]
    rows = table.select(slice_mask(table, name))
    found = measured(
        metric,
        metric.measure(rows),
        rows,
        level=policy.level_of(rule),
        resamples=policy.resamples,
        seed=policy.seed,
    )
    limit = rule.max if rule.max is not None else rule.min
    assert limit is not None
    finding = Finding(rule, name, n=found.n, candidate=found.value, low=found.ci_low, high=found.ci_high, margin=limit)
    if found.value is None:
        return finding.inconclusive(found.note or "nothing could be measured")
    if lacking := shortage(rule, found.n, found.blocks or 0):
        return finding.inconclusive(lacking)
    sign = 1.0 if rule.max is not None else -1.0
    word = "at most" if rule.max is not None else "at least"
    asked = f"{word} {show(metric, limit)}"
    if rule.judge == "value":
        within = sign * found.value <= sign * limit
        return finding.of("pass" if within else "fail", f"{show(metric, found.value)}; {asked} is asked for.")
    if found.ci_low is None or found.ci_high is None:
        return finding.inconclusive(f"{show(metric, found.value)} has no interval ({found.note})")
    near, far = sorted((sign * found.ci_low, sign * found.ci_high))
    told = show_interval(metric, found.value, found.ci_low, found.ci_high)
    if far <= sign * limit:
        return finding.of("pass", f"{told} lies within {asked}.")
    if near > sign * limit:
        return finding.of("fail", f"{told} lies beyond {asked}.")
    return finding.inconclusive(f"{told} holds values on both sides of the limit {show(metric, limit)}")


def judge_gap(rule: GapRule, policy: Policy, table: ScoreTable) -> RuleResult:
    """Hold the gap between the best and the worst value of a tag against a limit."""
    metric = METRICS[rule.metric]
    rows = table.select(slice_mask(table, rule.slice))
    found = slice_gap(metric, rows, rule.key, level=policy.level_of(rule), min_n=rule.min_n, min_speakers=rule.min_blocks)
    finding = Finding(rule, f"{rule.key}=*", n=found.n, candidate=found.gap.value, margin=rule.max)
    if not math.isfinite(found.gap.value):
        return finding.inconclusive(found.note)
    finding = Finding(
        rule, f"{rule.key}=*", found.n, found.gap.value, low=found.gap.low, high=found.gap.high, margin=rule.max
    )
    size = show_points(metric, found.gap.value)
    ends = f"[{show_points(metric, found.gap.low)}, {show_points(metric, found.gap.high)}]"
    told = f"{found.worst} is served worse than {found.best} by {size} {ends}"
    caution = f" ({found.note})" if found.note else ""
    allowed = show_points(metric, rule.max)
    if found.gap.high <= rule.max and found.unmeasured:
        # The group that nothing is known of may be the one that is served worst.
        return finding.inconclusive(f"{told}: within {allowed}, but not every group could be compared{caution}")
    if found.gap.high <= rule.max:
        return finding.of("pass", f"{told}: no gap beyond {allowed}{caution}.")
    if found.gap.low > rule.max:
        return finding.of("fail", f"{told}: a gap beyond {allowed} is shown{caution}.")
    return finding.inconclusive(f"{told}: a gap of {allowed} is neither shown nor ruled out{caution}")
