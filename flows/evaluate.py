"""The evaluation of a model as a Prefect flow."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

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
    """Run the flow with as many shards in flight as keep the workers busy."""
    return evaluate_flow.with_options(task_runner=runner(lab))(lab, request)


def runner(lab: Lab) -> Any:
    """Make a task runner for `Flow.with_options`, whose annotation the thread pool's class does not meet.

    It gives tasks one thread more than there are workers, so that the next shard already waits when one ends.
    """
    return ThreadPoolTaskRunner(max_workers=lab.layout.workers + 1)
