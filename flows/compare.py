"""The comparison as a Prefect flow: evaluate both, time both in turn, decide."""

from __future__ import annotations

from prefect import flow

from flows.evaluate import evaluate_within
from flows.running import run
from flows.steps import step
from models.card import find_card
from pipelines.compare import (
    PRODUCTION,
    ComparisonRequest,
    check_comparison,
    conclude_comparison,
    measure_speed,
    without_baseline,
)
from pipelines.decision import Comparison
from pipelines.duel import Duel
from pipelines.evaluate import Evaluated
from pipelines.lab import Lab
from pipelines.policy import Policy, read_policy
from pipelines.prepare import task_of
from registry.stages import production_model, production_version, read_state


@step("time both in turn", retries=1)
def duel(lab: Lab, candidate: Evaluated, baseline: Evaluated, recordings: int) -> Duel | None:
    """Time both models side by side, or take the kept timings of this pair."""
    return measure_speed(lab, candidate, baseline, recordings)


@step("decide and record")
def conclude(lab: Lab, candidate: Evaluated, baseline: Evaluated, timed: Duel | None, policy: Policy) -> Comparison:
    """Apply the policy, write the report, log to MLflow."""
    return conclude_comparison(lab, candidate, baseline, timed, policy)


@flow(name="compare", flow_run_name="compare {request.candidate} against {request.baseline}", persist_result=False)
def compare_flow(lab: Lab, request: ComparisonRequest) -> Comparison:
    """Compare a candidate with a baseline and decide."""
    cards = lab.cards()
    candidate_card = find_card(request.candidate, cards)
    task_name = task_of(lab, request.evaluation_of(candidate_card.name))
    request = request.model_copy(update={"task": task_name})
    policy = read_policy(lab.params, task_name)
    if request.baseline == PRODUCTION:
        state = read_state(lab)
        card, released = production_model(task_name, cards, state), production_version(state, task_name)
        if card is None:
            return without_baseline(request, policy, f"No model is in production for {task_name}; name one by --against.")
    else:
        card, released = find_card(request.baseline, cards), None
    check_comparison(lab, request.model_copy(update={"baseline": card.name}))
    candidate = evaluate_within(lab, request.evaluation_of(candidate_card.name))
    baseline = evaluate_within(lab, request.evaluation_of(card.name))
    here = baseline.evaluation.fingerprint.model
    if released is not None and request.device is None and here != released.version:
        return without_baseline(
            request,
            policy,
            f"{released} is in production, and as {card.name} is here it would be {here[:12]}: its card, its weights or a "
            "library has changed since it was released. Compare where they are as they were.",
        )
    return conclude(lab, candidate, baseline, duel(lab, candidate, baseline, policy.timed_recordings), policy)


def compare(lab: Lab, request: ComparisonRequest) -> Comparison:
    """Run the flow here."""
    return run(compare_flow, lab, request)
