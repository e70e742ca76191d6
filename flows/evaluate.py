"""The evaluation of a model as a Prefect flow."""

from __future__ import annotations

from prefect import flow

from flows.running import run
from flows.speak import speak_within
from flows.transcribe import transcribe_within
from pipelines.evaluate import Evaluated
from pipelines.lab import Lab
from pipelines.prepare import EvaluationRequest, task_of
from pipelines.types import Evaluation


@flow(name="evaluate", flow_run_name="evaluate {request.model}", persist_result=False)
def evaluate_flow(lab: Lab, request: EvaluationRequest) -> Evaluation:
    """Evaluate one model: prepare, compute what the store lacks, score, record."""
    return evaluate_within(lab, request).evaluation


def evaluate_within(lab: Lab, request: EvaluationRequest) -> Evaluated:
    """Evaluate one model inside whatever flow calls; gives what a comparison goes on with."""
    return (speak_within if task_of(lab, request) == "tts" else transcribe_within)(lab, request)


def evaluate(lab: Lab, request: EvaluationRequest) -> Evaluation:
    """Run the flow here."""
    return run(evaluate_flow, lab, request)
