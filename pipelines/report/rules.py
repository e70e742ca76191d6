"""The rules of a comparison in words, each in the unit of what it judges."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.decision import Comparison, RuleResult, Verdict
from pipelines.report.formatting import count_text, delta_text, factor_text, interval_text, metric_label, value_text
from pipelines.report.tables import ABSENT
from pipelines.report.wording import Words
from pipelines.types import Evaluation, MetricResult

SEVERITY: dict[Verdict, int] = {"fail": 0, "inconclusive": 1, "pass": 2}
"""What decides first."""

TWO_SIDED = ("non_inferiority", "superiority", "ratio")
"""Kinds of rule that look at both models."""

KINDS = ("absolute", "gap", "loss", *TWO_SIDED)
"""Kinds of rule that judge a metric; any other is a condition of the comparison itself."""


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule of the table, in words and in its own unit."""

    verdict: Verdict
    rule: str
    kind: str
    metric: str
    slice: str
    """Empty for all recordings."""
    candidate: str
    baseline: str
    judged: str
    """What the rule looks at."""
    interval: str
    """Of that."""
    limit: str
    n: int
    reason: str
    judges_numbers: bool = True
    """False for a condition of the comparison itself, which has only a reason."""


def why(comparison: Comparison, words: Words) -> str:
    """Give the verdict's reason in one sentence."""
    rules = comparison.rules
    if not rules:
        return "No rule was applied, so nothing is shown." if comparison.verdict != "pass" else "No rule was applied."
    deciding = [rule for rule in rules if rule.verdict == comparison.verdict]
    if comparison.verdict == "pass" or not deciding:
        most = max(rule.n for rule in rules)
        return f"{len(deciding)} of {count_text(len(rules), 'rule')} held, on up to {count_text(most, words.item)}."
    said = "failed" if comparison.verdict == "fail" else "could not be decided"
    first = deciding[0]
    place = "" if first.slice == "all" else f" on {first.slice}"
    which = f"first \N{LEFT DOUBLE QUOTATION MARK}{first.rule}\N{RIGHT DOUBLE QUOTATION MARK}{place}"
    return f"{len(deciding)} of {count_text(len(rules), 'rule')} {said}, {which}: {first.reason}"


def _metric_of(rule: RuleResult, evaluation: Evaluation) -> MetricResult | None:
    # The unit is the same in every slice; the whole stands in where a slice is missing.
    return evaluation.slices.get(rule.slice, {}).get(rule.metric) or evaluation.metrics.get(rule.metric)


def _condition_row(rule: RuleResult) -> RuleRow:
    # Whether the comparison can be made at all: there is no number to show, only the reason.
    place = "" if rule.slice == "all" else rule.slice
    return RuleRow(
        verdict=rule.verdict,
        rule=rule.rule,
        kind=rule.kind.replace("_", "-"),
        metric=rule.metric,
        slice=place,
        candidate=ABSENT,
        baseline=ABSENT,
        judged=ABSENT,
        interval="",
        limit=ABSENT,
        n=rule.n,
        reason=rule.reason,
        judges_numbers=False,
    )


def rule_row(rule: RuleResult, candidate: Evaluation, baseline: Evaluation) -> RuleRow:
    """Write a rule in the unit of what it judges: the value itself, a difference, or a ratio."""
    if rule.kind not in KINDS:
        return _condition_row(rule)
    known = _metric_of(rule, candidate) or _metric_of(rule, baseline)
    unit = known.unit if known else ""
    name = rule.metric
    if rule.kind == "absolute":
        judged = value_text(name, unit, rule.candidate)
        word = "at least" if known and known.higher_is_better else "at most"
        limit = "none" if rule.margin is None else f"{word} {value_text(name, unit, rule.margin)}"
    elif rule.kind == "ratio":
        judged = factor_text(rule.delta)
        limit = "none" if rule.margin is None else factor_text(rule.margin)
        # A ratio has no unit of its own: its interval is written as plain numbers.
        name, unit = "", ""
    else:
        judged = delta_text(name, unit, rule.delta)
        harm = delta_text(name, unit, None if rule.margin is None else abs(rule.margin)).removeprefix("+")
        limit = "better than 0" if not rule.margin else f"less than {harm} worse"
    interval = interval_text(name, unit, rule.ci_low, rule.ci_high)
    value_unit = known.unit if known else ""
    return RuleRow(
        verdict=rule.verdict,
        rule=rule.rule,
        kind=rule.kind.replace("_", "-"),
        metric=metric_label(rule.metric),
        slice="" if rule.slice == "all" else rule.slice,
        candidate=value_text(rule.metric, value_unit, rule.candidate),
        baseline=ABSENT if rule.kind not in TWO_SIDED else value_text(rule.metric, value_unit, rule.baseline),
        judged=judged,
        interval=interval,
        limit=limit,
        n=rule.n,
        reason=rule.reason,
    )
