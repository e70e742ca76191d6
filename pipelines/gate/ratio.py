"""Rules about the ratio of costs, from timings taken side by side."""

from __future__ import annotations

import math

from pipelines.decision import RuleResult
from pipelines.gate.evidence import Evidence
from pipelines.gate.finding import Finding
from pipelines.metrics import MACHINE_METRICS
from pipelines.policy import Policy, RatioRule
from pipelines.speed import speed_ratio


def judge_ratio(rule: RatioRule, policy: Policy, evidence: Evidence) -> RuleResult:
    """Hold candidate over baseline against a limit; only timings taken in turn count."""
    finding = Finding(rule, rule.slice, n=0, margin=rule.max)
    if evidence.duel is None:
        return finding.inconclusive("the two models could not be timed side by side")
    level = policy.level_of(rule)
    found = speed_ratio(evidence.duel, rule.metric, level=level, resamples=policy.resamples, seed=policy.seed)
    low, high = (None, None) if math.isnan(found.low) else (found.low, found.high)
    ratio = None if math.isnan(found.ratio) else found.ratio
    finding = Finding(rule, rule.slice, found.n, found.candidate, found.baseline, ratio, low, high, rule.max)
    if ratio is None:
        return finding.inconclusive(f"the baseline's {rule.metric} is 0, which nothing can be held against")
    if rule.metric not in MACHINE_METRICS and found.n < rule.min_n:
        return finding.inconclusive(f"{found.n} recordings were timed; the rule asks for {rule.min_n}")
    if rule.metric not in MACHINE_METRICS and (low is None or high is None):
        return finding.inconclusive(
            f"{ratio:.2f} times the baseline has no interval: {found.n} timed recordings are too few for {rule.metric}"
        )
    if low is None or high is None:
        within = ratio <= rule.max
        told = f"{ratio:.2f} times the baseline, measured once; at most {rule.max:g} is allowed."
        return finding.of("pass" if within else "fail", told)
    told = f"{ratio:.2f} [{low:.2f}, {high:.2f}] times the baseline"
    if high <= rule.max:
        return finding.of("pass", f"{told}, within {rule.max:g}.")
    if low > rule.max:
        return finding.of("fail", f"{told}, beyond {rule.max:g}.")
    return finding.inconclusive(f"{told}: {rule.max:g} is neither kept nor broken")
