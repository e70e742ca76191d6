"""Promotion as a Prefect flow: evaluate or compare, and write down what follows from it."""

from __future__ import annotations

from prefect import flow

from flows.compare import compare
from flows.evaluate import evaluate_within
from flows.running import run
from flows.steps import step
from pipelines.compare import ComparisonRequest
from pipelines.decision import Comparison
from pipelines.evaluate import Evaluated
from pipelines.lab import Lab
from pipelines.policy import read_policy
from pipelines.prepare import EvaluationRequest
from pipelines.progress import listener
from registry.evidence import circumstances, find_comparison
from registry.history import open_history
from registry.promotion import (
    Promotion,
    PromotionRequest,
    archive_model,
    bootstrap_production,
    check_promotion,
    conclude_candidate,
    conclude_production,
)
from registry.stages import read_state
from registry.versions import describe


@step("write the promotion down")
def write_candidate(lab: Lab, request: PromotionRequest, evaluated: Evaluated) -> Promotion:
    """Apply the absolute rules; register the version and make it a candidate if they pass."""
    policy = read_policy(lab.params, request.task)
    return conclude_candidate(lab, open_history(lab), request, evaluated, policy, listener.get().say)


@flow(name="promote", flow_run_name="promote {request.model} to {request.to}", persist_result=False)
def promote_flow(lab: Lab, request: PromotionRequest) -> Promotion:
    """Promote one model, on evidence that is found or made."""
    state = read_state(lab)
    check_promotion(lab, request, state)
    history = open_history(lab)
    if request.to == "archived":
        return archive_model(lab, history, request, state)
    if request.to == "candidate":
        evaluated = evaluate_within(lab, EvaluationRequest(model=request.model, task=request.task))
        return write_candidate(lab, request, evaluated)
    return ask_for_production(lab, request)


def ask_for_production(lab: Lab, request: PromotionRequest) -> Promotion:
    """Find or make the comparison with production, and open a request if it passed."""
    say = listener.get().say
    history, state, now = open_history(lab), read_state(lab), circumstances(lab, request.task)
    policy = read_policy(lab.params, request.task)
    production = bootstrap_production(lab, history, request.task, state, request.actor, say)
    candidate = describe(lab, request.model, request.task, say)
    if production == candidate.version:
        return Promotion(
            model=request.model, task=request.task, to=request.to, outcome="bootstrapped", version=production.version
        )
    judged: Comparison | Evaluated
    if production is None:
        judged = evaluate_within(lab, EvaluationRequest(model=request.model, task=request.task))
    else:
        found = find_comparison(lab, request.task, candidate.version, production, now)
        if found is not None:
            say(f"Compared on {found.created_at} with the same data and policy: that decides")
        judged = found or compare(lab, ComparisonRequest(candidate=request.model, task=request.task))
    return conclude_production(lab, history, request, candidate, production, judged, policy, now, say)


def promote(lab: Lab, request: PromotionRequest) -> Promotion:
    """Run the flow here."""
    return run(promote_flow, lab, request)
