"""Rules about what a candidate loses on degraded variants of the recordings it was evaluated on."""

from __future__ import annotations

import math
from dataclasses import replace

from pipelines.decision import RuleResult
from pipelines.degrade.steps import ORIGINAL, VARIANT
from pipelines.gate.evidence import shortage
from pipelines.gate.finding import Finding, show, show_delta, show_points
from pipelines.losses import Loss, measure_loss, pairs_of
from pipelines.metrics import METRICS
from pipelines.policy import ANY_VALUE, LossRule, Policy
from pipelines.scores import ScoreTable
from pipelines.stats.multiplicity import holm


def judge_losses(rule: LossRule, policy: Policy, table: ScoreTable) -> list[RuleResult]:
    """Hold the loss on a variant, or on each of them, against a limit."""
    pairs = pairs_of(table)
    _, _, wanted = rule.slice.partition("=")
    names = [name for name in pairs if name != ORIGINAL] if wanted == ANY_VALUE else [wanted]
    if not names:
        return [Finding(rule, rule.slice, n=0, margin=rule.max).inconclusive("no variant was evaluated")]
    found = {
        name: measure_loss(
            METRICS[rule.metric], table, pairs.get(name, []), policy, level=policy.level_of(rule), margin=rule.max
        )
        for name in names
    }
    # A claim of harm for each variant: Holm keeps the chance of any false one at alpha.
    p_values = [loss.pair.p_harm if loss and loss.pair else math.nan for loss in found.values()]
    harms = holm(p_values, policy.alpha_of(rule)).rejected
    return [_judge(rule, name, loss, bool(shown)) for (name, loss), shown in zip(found.items(), harms, strict=True)]


def _judge(rule: LossRule, name: str, loss: Loss | None, harm_is_shown: bool) -> RuleResult:
    metric = METRICS[rule.metric]
    finding = Finding(rule, f"{VARIANT}={name}", n=loss.n if loss else 0, margin=rule.max)
    if loss is None or loss.pair is None:
        return finding.inconclusive(
            f"no recording was evaluated both as {name} and as it was: evaluate the variant beside its corpus"
        )
    pair = loss.pair
    sign = -1.0 if metric.higher_is_better else 1.0
    low, high = sorted((sign * pair.low, sign * pair.high))
    finding = replace(finding, candidate=loss.degraded, delta=sign * pair.delta, low=low, high=high)
    if lacking := shortage(rule, loss.n, loss.blocks):
        return finding.inconclusive(lacking)
    caution = f" ({pair.note})" if pair.note else ""
    if not (math.isfinite(pair.high) and math.isfinite(pair.low)):
        return finding.inconclusive(pair.note or "no interval can be had")
    change = f"{show(metric, loss.original)} becomes {show(metric, loss.degraded)}"
    told = f"{change}, {show_delta(metric, sign * pair.delta, low, high)}"
    allowed = show_points(metric, rule.max)
    if pair.high < rule.max:
        return finding.of("pass", f"{told}: a loss of {allowed} is ruled out{caution}.")
    if harm_is_shown:
        return finding.of("fail", f"{told}: more is lost than the {allowed} allowed{caution}.")
    return finding.inconclusive(f"{told}: a loss of {allowed} is neither shown nor ruled out{caution}")
