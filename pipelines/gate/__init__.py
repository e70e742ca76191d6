"""The gate: applies a policy's rules to the evidence and gives three verdicts, each with its reason.

A rule passes only where the evidence shows it. It fails where the evidence shows harm. Everything between, and every
comparison that cannot be made, is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipelines.decision import GateDecision, RuleResult, Verdict
from pipelines.gate.absolute import judge_absolute, judge_gap
from pipelines.gate.difference import compare_slice, judge_difference
from pipelines.gate.evidence import Evidence, slice_mask, slice_names
from pipelines.gate.loss import judge_losses
from pipelines.gate.ratio import judge_ratio
from pipelines.policy import AbsoluteRule, GapRule, LossRule, Policy, RatioRule, Rule
from pipelines.stats.multiplicity import holm

__all__ = ["Evidence", "apply_rule", "decide", "overall", "slice_mask", "slice_names"]


def decide(policy: Policy, evidence: Evidence) -> GateDecision:
    """Apply every rule."""
    results = list(evidence.preconditions)
    for rule in policy.rules:
        results.extend(apply_rule(rule, policy, evidence))
    return GateDecision(verdict=overall(results), rules=tuple(results), policy_digest=policy.digest)


def overall(results: Sequence[RuleResult]) -> Verdict:
    """Fail if a rule fails, else inconclusive if one is, else pass; no rule at all is inconclusive."""
    verdicts = {result.verdict for result in results}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "inconclusive"


def apply_rule(rule: Rule, policy: Policy, evidence: Evidence) -> list[RuleResult]:
    """Apply one rule to each of its slices."""
    if isinstance(rule, RatioRule):
        return [judge_ratio(rule, policy, evidence)]
    if isinstance(rule, GapRule):
        return [judge_gap(rule, policy, evidence.candidate)]
    if isinstance(rule, LossRule):
        return judge_losses(rule, policy, evidence.candidate)
    if isinstance(rule, AbsoluteRule):
        return [judge_absolute(rule, name, policy, evidence.candidate) for name in slice_names(rule, evidence.candidate)]
    names = slice_names(rule, evidence.paired_candidate)
    compared = [compare_slice(rule, name, policy, evidence) for name in names]
    # One claim of harm is made for each slice; Holm keeps the chance of any false one at alpha.
    harms = holm([c.pair.p_harm if c.pair else math.nan for c in compared], policy.alpha_of(rule)).rejected
    return [
        judge_difference(rule, name, found, shown, policy) for name, found, shown in zip(names, compared, harms, strict=True)
    ]
