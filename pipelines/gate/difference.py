"""Rules about the difference between candidate and baseline on the same utterances."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipelines.decision import RuleResult
from pipelines.gate.evidence import Evidence, shortage, slice_mask
from pipelines.gate.finding import Finding, show_delta, show_points
from pipelines.measure import Sums
from pipelines.metrics import METRICS, Metric
from pipelines.planning import Plan, plan_of_pair
from pipelines.policy import NonInferiorityRule, Policy, SuperiorityRule
from pipelines.scores import FloatArray
from pipelines.stats.paired import PairedInterval, paired_difference

DifferenceRule = NonInferiorityRule | SuperiorityRule


@dataclass(frozen=True)
class Compared:
    """A metric of both models on the utterances of one slice."""

    candidate: float | None
    baseline: float | None
    n: int
    pair: PairedInterval | None
    """None where nothing can be compared; `problem` says why."""
    problem: str = ""
    plan: Plan | None = None
    """What these utterances can detect, and how many a margin needs."""


def compare_slice(rule: DifferenceRule, name: str, policy: Policy, evidence: Evidence) -> Compared:
    """Compare both models on the utterances of one slice."""
    metric = METRICS[rule.metric]
    table = evidence.paired_candidate
    ours = metric.measure(table)
    theirs = metric.measure(evidence.paired_baseline)
    if not (isinstance(ours, Sums) and isinstance(theirs, Sums)):
        return Compared(None, None, 0, None, "a quantile of timings is compared by a ratio rule")
    rows = slice_mask(table, name) & ours.rows & theirs.rows
    n = int(rows.sum())
    if n == 0:
        return Compared(None, None, 0, None, f"no utterance of {name} has what {rule.metric} measures")
    mine, other = ours.select(rows), theirs.select(rows)
    values = mine.point(), other.point()
    blocks = table.blocks[rows]
    if lacking := shortage(rule, n, len(np.unique(blocks))):
        return Compared(*values, n, None, lacking)
    harm = harmful(metric, ours.value)
    margin = margin_of(rule)
    pair = paired_difference(
        mine.columns,
        other.columns,
        blocks,
        harm,
        level=policy.level_of(rule),
        margin=margin,
        resamples=policy.resamples,
        seed=policy.seed,
        failure=metric.failure or 1.0,
        block_word=table.block_word,
    )
    plan = plan_of_pair(mine.columns, other.columns, blocks, harm, margin or None, alpha=policy.alpha_of(rule))
    return Compared(*values, n, pair, plan=plan)


def margin_of(rule: DifferenceRule) -> float:
    """The harm that is still allowed: none for superiority."""
    return rule.margin if isinstance(rule, NonInferiorityRule) else 0.0


def harmful(metric: Metric, value: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray], FloatArray]:
    """Turn a metric so that higher is worse, as the comparison takes it."""
    return (lambda sums: -value(sums)) if metric.higher_is_better else value


def judge_difference(rule: DifferenceRule, name: str, compared: Compared, harm_is_shown: bool, policy: Policy) -> RuleResult:
    """Give the verdict on one slice.

    Args:
        rule: The rule.
        name: The slice.
        compared: Both models on it.
        harm_is_shown: Whether the claim that the candidate is worse than allowed survives the policy for many slices.
        policy: Says with which power a plan is made.
    """
    metric = METRICS[rule.metric]
    margin = margin_of(rule)
    finding = Finding(rule, name, n=compared.n, candidate=compared.candidate, baseline=compared.baseline, margin=margin)
    pair = compared.pair
    if pair is None:
        return finding.inconclusive(compared.problem)
    # The comparison counts harm upwards; people read candidate minus baseline.
    sign = -1.0 if metric.higher_is_better else 1.0
    low, high = sorted((sign * pair.low, sign * pair.high))
    finding = replace(finding, delta=sign * pair.delta, low=low, high=high)
    caution = f" ({pair.note})" if pair.note else ""
    if not (math.isfinite(pair.high) and math.isfinite(pair.low)):
        return finding.inconclusive(pair.note or "no interval can be had")
    told = show_delta(metric, sign * pair.delta, low, high)
    more = compared.plan.sentence(metric) if compared.plan else ""
    if isinstance(rule, SuperiorityRule):
        if pair.high < 0:
            return finding.of("pass", f"{told}: better than the baseline{caution}.")
        if harm_is_shown:
            return finding.of("fail", f"{told}: worse than the baseline{caution}.")
        return finding.inconclusive(f"{told} does not tell the two apart{caution}. {more}")
    allowed = show_points(metric, margin)
    if pair.high < margin:
        return finding.of("pass", f"{told}: a harm of {allowed} is ruled out{caution}.")
    if harm_is_shown:
        return finding.of("fail", f"{told}: worse by more than the {allowed} allowed{caution}.")
    return finding.inconclusive(f"{told}: a harm of {allowed} is neither shown nor ruled out{caution}. {more}")
