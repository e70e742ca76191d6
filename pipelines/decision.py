"""The records of a comparison: what each rule says, the verdict, and what it rests on."""

from __future__ import annotations

from typing import Literal

from models.types import Record

Verdict = Literal["pass", "fail", "inconclusive"]


class RuleResult(Record):
    """One rule of the policy, applied."""

    rule: str
    """The rule's name in ``params.yaml``."""
    kind: str
    """absolute, non_inferiority, superiority, ratio."""
    metric: str
    """Name of the metric."""
    slice: str
    """``all`` or ``key=value``."""
    verdict: Verdict
    """What the rule says."""
    candidate: float | None
    """The candidate's value."""
    baseline: float | None
    """The baseline's value."""
    delta: float | None
    """Candidate minus baseline, or candidate over baseline for a ratio rule."""
    ci_low: float | None
    """Lower end of the interval of what the rule judges."""
    ci_high: float | None
    """Upper end of it."""
    margin: float | None
    """The limit that the interval is held against."""
    n: int
    """Paired utterances behind it."""
    reason: str
    """One sentence for a person."""


class GateDecision(Record):
    """What the policy says of a candidate."""

    verdict: Verdict
    """fail if a rule fails, else inconclusive if one is, else pass."""
    rules: tuple[RuleResult, ...]
    """Every rule with its reason."""
    policy_digest: str
    """Digest of the policy applied."""


class SignificanceTest(Record):
    """A matched-pairs test on word errors: whether the two models differ; reported, not deciding."""

    test: str
    """``MAPSSWE`` (Gillick & Cox 1989, as NIST's sc_stats) or ``matched utterances``."""
    over: str
    """What is paired."""
    n: int
    """Pairs."""
    candidate_errors: int
    """Word errors of the candidate in them."""
    baseline_errors: int
    """Word errors of the baseline in them."""
    mean: float
    """Candidate's errors less the baseline's, a pair."""
    std_dev: float
    """Standard deviation of that difference."""
    z: float
    """Mean over its standard error."""
    p_value: float
    """Two-tailed."""


class Comparison(Record):
    """A candidate against a baseline. `compare --json` prints it."""

    run_id: str
    """MLflow's run."""
    candidate: str
    """The candidate's card."""
    baseline: str
    """The baseline's card."""
    verdict: Verdict
    """The decision."""
    rules: tuple[RuleResult, ...]
    """Every rule with its reason."""
    policy_digest: str
    """Digest of the policy applied."""
    evaluations: dict[str, str]
    """``candidate`` and ``baseline`` → run ids."""
    data_version: str
    """The data both were judged on."""
    significance: tuple[SignificanceTest, ...] = ()
    """Matched-pairs tests on all paired speech."""
    notes: tuple[str, ...]
    """What a reader must know: recordings left out, languages not covered …"""
    report: str
    """Path of the HTML report."""
    created_at: str
    """ISO 8601, UTC."""
