"""Promotion, step by step: what must be so before, and what is written after.

Evaluations and comparisons are run by the flow that calls this (`flows/promote.py`).
"""

from __future__ import annotations

from typing import Literal

from models.card import find_card
from models.types import Record, Task
from pipelines.compare import condition
from pipelines.decision import Comparison, GateDecision, RuleResult, Verdict
from pipelines.evaluate import Evaluated
from pipelines.gate import Evidence as GateEvidence
from pipelines.gate import decide
from pipelines.lab import Lab
from pipelines.policy import AbsoluteRule, GapRule, Policy
from pipelines.scores import ScoreTable
from registry import lifecycle
from registry.evidence import data_identity, evidence_of_comparison, evidence_of_evaluation, read_evaluation
from registry.history import History
from registry.identity import Actor, RefusedError
from registry.projection import bring_up_to_date, tag_version
from registry.requests import Circumstances, open_request
from registry.stages import PRODUCTION, production_model, stage_of
from registry.state import Request, State, Version
from registry.versions import Described, Say, describe, model_name, register

Target = Literal["candidate", "production", "archived"]


class PromotionRequest(Record):
    """What is asked for, as typed on the command line or in a form."""

    model: str
    """Name of the card."""
    to: Target
    """The stage."""
    actor: Actor
    """Who asks."""
    task: Task
    """For which of its tasks."""
    reason: str = ""
    """Why."""


class Promotion(Record):
    """What came of it. `promote --json` prints it."""

    model: str
    """Name of the card."""
    task: Task
    """For which of its tasks."""
    to: Target
    """What was asked for."""
    outcome: Literal["promoted", "requested", "refused", "archived", "bootstrapped"]
    """``requested``: somebody else must approve."""
    verdict: Verdict | None = None
    """Of the rules that were asked for; None where none were."""
    rules: tuple[RuleResult, ...] = ()
    """Each rule with its reason."""
    version: str = ""
    """Fingerprint of the model."""
    registered: str = ""
    """Its address in MLflow, ``models:/NAME/NUMBER``."""
    request: Request | None = None
    """The request that was opened."""
    report: str = ""
    """Path of the report."""


def check_promotion(lab: Lab, request: PromotionRequest, state: State) -> None:
    """Refuse at once what cannot be promoted whatever the evidence.

    Raises:
        CardError: The model is unknown or does not do the task.
        RefusedError: It is not a candidate, or is where it should go.
    """
    card = find_card(request.model, lab.cards())
    stage = stage_of(card, state, request.task)
    by_card = state.of(request.task).production is None
    if stage == PRODUCTION and not (request.to == PRODUCTION and by_card):
        newer = "" if by_card else " A changed version of it must be another card, so that the two can be compared."
        raise RefusedError(
            f"{card.name} is in production for {request.task}.{newer}", "Promote another model to replace it."
        )
    if request.to == PRODUCTION and stage not in ("candidate", PRODUCTION):
        raise RefusedError(
            f"{card.name} is {stage}, and only a candidate may go into production.",
            f"Run: modellab promote {card.name} --to candidate",
        )


def judge_alone(evaluated: Evaluated, policy: Policy) -> GateDecision:
    """Apply the rules that are about a model alone: absolute ones, and gaps between the groups it serves."""
    left_out = len(evaluated.evaluation.quarantined)
    table = ScoreTable.build(list(evaluated.scores))
    nothing = ScoreTable.build([])
    preconditions = (
        condition(
            "nothing left out",
            not left_out,
            len(evaluated.scores),
            "Nothing was quarantined.",
            f"{left_out} item(s) were quarantined: mend or remove them, for they might have decided.",
        ),
    )
    rules = tuple(rule for rule in policy.rules if isinstance(rule, AbsoluteRule | GapRule))
    # model_copy, for a policy without rules is valid nowhere else.
    alone = policy.model_copy(update={"rules": rules})
    found = decide(alone, GateEvidence(table, nothing, nothing, preconditions, None))
    return found.model_copy(update={"policy_digest": policy.digest})


def conclude_candidate(
    lab: Lab, history: History, request: PromotionRequest, evaluated: Evaluated, policy: Policy, say: Say
) -> Promotion:
    """Make the evaluated version a candidate if the absolute rules pass.

    Raises:
        StateError: MLflow or the database cannot be used.
        RefusedError: It is in production.
    """
    evaluation = evaluated.evaluation
    decision = judge_alone(evaluated, policy)
    answer = Promotion(
        model=request.model,
        task=request.task,
        to=request.to,
        outcome="refused",
        verdict=decision.verdict,
        rules=decision.rules,
        version=evaluation.fingerprint.model,
        report=evaluation.report,
    )
    if decision.verdict != "pass":
        return answer
    described = _described_as(lab, request, evaluation.fingerprint.model, say)
    number = register(lab, described, evaluation, decision.rules, decision.verdict, say)
    details = {
        "evaluation": evaluation.run_id,
        "data_version": evaluation.data_version,
        "policy_digest": policy.digest,
        "rules": {rule.rule: rule.verdict for rule in decision.rules},
        "report": evaluation.report,
    }
    stage = described.card.stage if described.card.stage != PRODUCTION else "experimental"
    lifecycle.to_candidate(history, request.task, described.version, stage, request.actor, details)
    bring_up_to_date(lab, history)
    registered = f"models:/{model_name(request.task)}/{number}"
    return answer.model_copy(update={"outcome": "promoted", "registered": registered})


def bootstrap_production(lab: Lab, history: History, task: Task, state: State, actor: Actor, say: Say) -> Version | None:
    """Give the version in production; writes down the one that a card claims if the history has none yet.

    Raises:
        CardError: Several cards claim it.
        StateError: MLflow or the database cannot be used.
    """
    if (known := state.of(task).production) is not None:
        return known
    card = production_model(task, lab.cards(), state)
    if card is None:
        return None
    described = describe(lab, card.name, task, say)
    register(lab, described, None, (), "none", say)
    details = {"card": card.name, "asked_by": actor.name, "asked_by_origin": actor.origin}
    lifecycle.bootstrap(history, task, described.version, details)
    bring_up_to_date(lab, history)
    return described.version


def conclude_production(
    lab: Lab,
    history: History,
    request: PromotionRequest,
    candidate: Described,
    production: Version | None,
    judged: Comparison | Evaluated,
    policy: Policy,
    now: Circumstances,
    say: Say,
) -> Promotion:
    """Open a request for production if the gate passed.

    Args:
        lab: The project.
        history: Its history.
        request: What was asked for.
        candidate: The model as it is here.
        production: What it was held against.
        judged: The comparison; the evaluation where nothing is in production.
        policy: The task's.
        now: Data and policy when the comparison began.
        say: Told what is going on.

    Raises:
        RefusedError: Production or the data changed meanwhile, or the comparison is of another version.
        StateError: MLflow or the database cannot be used.
    """
    if isinstance(judged, Comparison):
        verdict, rules, report = judged.verdict, judged.rules, judged.report
        evaluation_run = judged.evaluations.get("candidate", "")
    else:
        decision = judge_alone(judged, policy)
        verdict, rules, report = decision.verdict, decision.rules, judged.evaluation.report
        evaluation_run = judged.evaluation.run_id
    answer = Promotion(
        model=request.model,
        task=request.task,
        to=request.to,
        outcome="refused",
        verdict=verdict,
        rules=rules,
        version=candidate.version.version,
        report=report,
    )
    if verdict != "pass":
        return answer
    evaluation = read_evaluation(lab, evaluation_run)
    if evaluation is None or evaluation.fingerprint.model != candidate.version.version:
        raise RefusedError(f"{candidate.version} is not what was evaluated: it has changed meanwhile.", "Promote it again.")
    if data_identity(lab) != now.data_version:
        raise RefusedError("The data has changed while it was compared.", "Promote it again.")
    if isinstance(judged, Comparison):
        assert production is not None, "a comparison has a baseline"
        evidence = evidence_of_comparison(lab, judged, candidate.version, production, now)
    else:
        evidence = evidence_of_evaluation(lab, judged.evaluation, candidate.version, now)
    number = register(lab, candidate, evaluation, rules, verdict, say)
    opened = open_request(history, request.task, request.actor, request.reason, evidence)
    tags = {"verdict": verdict, "comparison": evidence.comparison, "evaluations": ",".join(evidence.evaluations.values())}
    tag_version(lab, request.task, candidate.version.version, {**tags, "data_version": evaluation.data_version})
    registered = f"models:/{model_name(request.task)}/{number}"
    return answer.model_copy(update={"outcome": "requested", "request": opened, "registered": registered})


def archive_model(lab: Lab, history: History, request: PromotionRequest, state: State) -> Promotion:
    """Archive the newest version of a model.

    Raises:
        RefusedError: It is in production or archived, or no version of it was ever registered.
    """
    task_state = state.of(request.task)
    known = [version for version, name in task_state.models.items() if name == request.model]
    if not known:
        raise RefusedError(
            f"No version of {request.model} is registered for {request.task}, so there is nothing to archive.",
            "Set `stage: archived` in its card.",
        )
    what = Version(model=request.model, version=known[-1])
    lifecycle.archive(history, request.task, what, task_state.stages[what.version], request.actor, request.reason)
    bring_up_to_date(lab, history)
    return Promotion(model=request.model, task=request.task, to=request.to, outcome="archived", version=what.version)


def _described_as(lab: Lab, request: PromotionRequest, fingerprint: str, say: Say) -> Described:
    described = describe(lab, request.model, request.task, say)
    if described.version.version != fingerprint:
        raise RefusedError(f"{described.version} is not what was evaluated: it has changed meanwhile.", "Promote it again.")
    return described
