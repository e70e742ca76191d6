"""The evaluation of a recogniser: prepare, infer, score, record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from flows.shards import compute_shards, workers
from flows.steps import step
from pipelines.evaluate import Evaluated, Gathered, gather
from pipelines.inference import ShardResult
from pipelines.lab import Lab
from pipelines.policy import Policy, read_policy
from pipelines.prepare import EvaluationRequest, Prepared, begun_early, prepare
from pipelines.progress import listener
from pipelines.record import preload, prepare_to_draw, record_evaluation
from pipelines.transcribe import transcribe_shard
from pipelines.types import Prediction
from pipelines.workers import WorkerPool


@step("prepare")
def prepare_evaluation(lab: Lab, request: EvaluationRequest) -> Prepared:
    """Resolve the request, fetch weights, hash audio, look into the store."""
    return begun_early(lab, request) or prepare(lab, request, listener.get().say)


@step("score and record")
def record(
    lab: Lab,
    prepared: Prepared,
    gathered: Gathered,
    results: list[ShardResult[Prediction]],
    policy: Policy,
    started: float,
    idle: WorkerPool | None,
) -> Evaluated:
    """Score, measure, write the report, log to MLflow."""
    return record_evaluation(lab, prepared, gathered, results, policy, started, idle.map if idle is not None else map)


def infer_missing(prepared: Prepared, pool: WorkerPool | None, beside: Callable[[], None]) -> list[ShardResult[Prediction]]:
    """Infer what the store lacks; to be called inside a flow.

    Args:
        prepared: Says what that is.
        pool: From `workers`.
        beside: Imports what comes after inference, in a thread, while this process would only wait.
    """
    if pool is not None:
        threading.Thread(target=beside, daemon=True).start()
    return compute_shards(pool, prepared, prepared.plan.shards, partial(transcribe_shard, prepared.store))


def transcribe_within(lab: Lab, request: EvaluationRequest) -> Evaluated:
    """Evaluate one recogniser inside whatever flow calls."""
    started = time.perf_counter()
    policy = read_policy(lab.params)
    prepared = prepare_evaluation(lab, request)
    with workers(lab, prepared, prepared.plan.shards) as pool:
        if pool is not None:
            started = min(started, pool.started)  # it may have begun before this flow
        results = infer_missing(prepared, pool, partial(preload, lab))
        if pool is not None:
            prepare_to_draw(lab, pool)
        return record(lab, prepared, gather(prepared, results), results, policy, started, pool)
