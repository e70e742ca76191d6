"""Whether a model got worse: today's evaluation against its last known-good one, by the gate, on the same recordings.

Two evaluations of one model can differ although its card did not change: a library was upgraded, a service behind an
address was retrained, a machine computes otherwise. They are compared on the data of the known-good evaluation. Where the
data has moved on since, the model is evaluated on that earlier version again (which costs nothing where nothing changed,
for the predictions are stored), so that new recordings are never taken for a regression of the model. On the newest data
the policy's absolute rules apply.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from models.errors import PolicyError
from models.types import Record, Task
from pipelines.compare import pair_scores, preconditions
from pipelines.decision import RuleResult, Verdict
from pipelines.evaluate import Evaluated
from pipelines.gate import Evidence, decide, overall
from pipelines.home import Home, write_atomically
from pipelines.policy import AbsoluteRule, GapRule, LossRule, NonInferiorityRule, Policy
from pipelines.prepare import EvaluationRequest
from pipelines.scores import ScoreTable, UtteranceScore
from pipelines.types import Evaluation
from pipelines.witnesses import read_scores

ALONE = (AbsoluteRule, GapRule, LossRule)
"""Rules about one evaluation. Ratio rules are left out, for an earlier version of a library cannot be timed any more; rules
of superiority, for nothing is better than itself."""


class KnownGood(Record):
    """The newest evaluation of a model that was found to be no regression."""

    run_id: str
    """Its run."""
    fingerprint: str
    """Digest of the model's fingerprint then."""
    corpora: dict[str, str]
    """Corpus → digest of its utterances then."""
    data_version: str
    """DVC's hash of the data then."""
    data_commit: str | None
    """Commit whose ``data.dvc`` names that version; None where nobody can read it again."""
    at: str
    """When it was evaluated, ISO 8601."""


class Regression(Record):
    """What was found of one model in one run."""

    task: Task
    """What it does."""
    model: str
    """The card's name."""
    role: str
    """``production``, ``candidate``, or ``asked for``."""
    verdict: Verdict
    """fail: it got worse, or breaks an absolute rule; inconclusive: nobody can tell."""
    reason: str
    """One sentence for a person."""
    rules: tuple[RuleResult, ...] = ()
    """Every rule that was applied."""
    data_version: str = ""
    """Of the newest data."""
    run_id: str = ""
    """The evaluation of the newest data."""
    report: str = ""
    """Its page."""
    fingerprint: str = ""
    """Digest of the model's fingerprint."""
    known_good: KnownGood | None = None
    """What it was held against."""

    @property
    def failing(self) -> tuple[RuleResult, ...]:
        """The rules that failed."""
        return tuple(rule for rule in self.rules if rule.verdict == "fail")


def rules_alone(policy: Policy) -> Policy | None:
    """The rules about one evaluation; None where there is none."""
    return _only(policy, ALONE)


def rules_against_itself(policy: Policy) -> Policy:
    """The rules that a model can be held to against itself: non-inferiority.

    Raises:
        PolicyError: There is none, so that no regression could ever be found.
    """
    found = _only(policy, (NonInferiorityRule,))
    if found is None:
        raise PolicyError(
            "The policy has no rule of kind non_inferiority, so nothing says what a regression is.", "See docs/schedules.md."
        )
    return found


def _only(policy: Policy, kinds: tuple[type, ...]) -> Policy | None:
    rules = tuple(rule for rule in policy.rules if isinstance(rule, kinds))
    return policy.model_copy(update={"rules": rules}) if rules else None


def same_data(now: Evaluation, known: KnownGood) -> bool:
    """Say whether an evaluation rests on the very recordings and references of the known-good one."""
    return now.fingerprint.corpora == known.corpora


def judge_alone(now: Evaluated, policy: Policy) -> tuple[RuleResult, ...]:
    """Apply the rules about one evaluation to the newest data."""
    alone = rules_alone(policy)
    if alone is None:
        return ()
    table = ScoreTable.build(list(now.scores))
    return decide(alone, Evidence(table, table, table, (), None)).rules


def judge_against(
    now: Evaluated, known: Evaluation, known_scores: Sequence[UtteranceScore], policy: Policy
) -> tuple[RuleResult, ...]:
    """Hold an evaluation against the known-good one of the same data.

    Returns:
        The preconditions and the rules of non-inferiority; none where every answer is the same, for then nothing can have
        got worse however few recordings there are.
    """
    ours, theirs = pair_scores(now.scores, known_scores)
    conditions = preconditions(now.evaluation, known, len(ours))
    whole = len(ours) == len(now.scores) == len(known_scores)
    if whole and all(rule.verdict == "pass" for rule in conditions) and _says_the_same(ours, theirs):
        return ()
    evidence = Evidence(
        ScoreTable.build(list(now.scores)), ScoreTable.build(ours), ScoreTable.build(theirs), conditions, None
    )
    return decide(rules_against_itself(policy), evidence).rules


def _says_the_same(ours: Sequence[UtteranceScore], theirs: Sequence[UtteranceScore]) -> bool:
    return all(
        (a.normalized_hypothesis, a.normalized_reference, dict(a.measures))
        == (b.normalized_hypothesis, b.normalized_reference, dict(b.measures))
        for a, b in zip(ours, theirs, strict=True)
    )


def conclude(
    role: str,
    newest: Evaluated,
    known: KnownGood | None,
    against: tuple[RuleResult, ...] | None,
    policy: Policy,
) -> Regression:
    """Put together what was found.

    Args:
        role: What the model is.
        newest: Its evaluation on the newest data.
        known: The known-good evaluation; None where there is none yet.
        against: From `judge_against`, empty for no change; None where the known-good data cannot be read again.
        policy: Its absolute rules apply to the newest data.
    """
    evaluation = newest.evaluation
    alone = judge_alone(newest, policy)
    broken = [rule.rule for rule in alone if rule.verdict == "fail"]
    rules = (*(against or ()), *alone)
    verdict: Verdict
    if broken:
        verdict, reason = "fail", f"On the newest data it breaks {', '.join(dict.fromkeys(broken))}."
    elif known is None:
        verdict, reason = "pass", "It has no known-good evaluation yet: this one is the first."
    elif against is None:
        verdict = "inconclusive"
        reason = f"The data of its known-good evaluation ({known.data_version}) cannot be read again: it starts anew."
    elif not against:
        verdict, reason = "pass", f"It says what it said in its known-good evaluation of {known.at}."
    else:
        verdict = overall(against)
        worse = [f"{rule.rule} ({rule.slice})" for rule in against if rule.verdict == "fail"]
        reason = {
            "fail": f"It got worse since {known.at}: {', '.join(worse)}.",
            "pass": f"No worse than in its known-good evaluation of {known.at}.",
            "inconclusive": f"Against its known-good evaluation of {known.at} harm is neither shown nor ruled out.",
        }[verdict]
    return Regression(
        task=evaluation.task,
        model=evaluation.model,
        role=role,
        verdict=verdict,
        reason=reason,
        rules=rules,
        data_version=evaluation.data_version,
        run_id=evaluation.run_id,
        report=evaluation.report,
        fingerprint=evaluation.fingerprint.model,
        known_good=known,
    )


def becomes_known_good(found: Regression, against: tuple[RuleResult, ...] | None) -> bool:
    """Say whether the newest evaluation is what the next one is held against.

    An inconclusive one is not, or a slow decline would never be found: the next is held against the same again. It is where
    the earlier data is lost, for else nothing ever could be compared.
    """
    return found.verdict == "pass" or (found.verdict == "inconclusive" and against is None)


def known_good_of(newest: Evaluation) -> KnownGood:
    """Describe an evaluation as known good."""
    clean = not newest.data_version.endswith("+modified") and newest.data_version != "untracked"
    commit = newest.environment.get("data_revision") or newest.environment.get("git_commit")
    return KnownGood(
        run_id=newest.run_id,
        fingerprint=newest.fingerprint.model,
        corpora=newest.fingerprint.corpora,
        data_version=newest.data_version,
        data_commit=commit if clean else None,
        at=newest.created_at,
    )


def known_good_path(home: Home, request: EvaluationRequest, task: Task) -> Path:
    """Where the known-good evaluation of a model is noted: one for each selection of data."""
    selection = request.model_dump_json(include={"corpora", "slices", "limit"})
    digest = hashlib.sha256(selection.encode("utf-8")).hexdigest()[:12]
    return home.schedules / "known-good" / f"{task}-{request.model}-{digest}.json"


def read_known_good(home: Home, request: EvaluationRequest, task: Task) -> tuple[KnownGood, Evaluation] | None:
    """Read the known-good evaluation of a model; None where there is none, or its files are gone."""
    try:
        known = KnownGood.model_validate_json(known_good_path(home, request, task).read_text(encoding="utf-8"))
        page = home.evaluations / known.run_id / "evaluation.json"
        evaluation = Evaluation.model_validate_json(page.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    return (known, evaluation) if Path(evaluation.predictions).is_file() else None


def known_scores(evaluation: Evaluation) -> list[UtteranceScore]:
    """Read what was heard in a known-good evaluation."""
    return read_scores(Path(evaluation.predictions))


def keep_known_good(home: Home, request: EvaluationRequest, task: Task, known: KnownGood) -> None:
    """Note the known-good evaluation of a model."""
    write_atomically(known_good_path(home, request, task), known.model_dump_json(indent=1))


def not_evaluated(task: Task, model: str, role: str, why: str) -> Regression:
    """Say that a model could not be evaluated, which is never a pass."""
    return Regression(task=task, model=model, role=role, verdict="inconclusive", reason=f"It could not be evaluated: {why}")


def now_text() -> str:
    """The moment in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
