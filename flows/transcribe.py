"""The evaluation of a recogniser: prepare, infer, score, record."""

from __future__ import annotations

import threading
import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.shards import run_shards
from pipelines.evaluate import Evaluated, Gathered, gather
from pipelines.inference import ShardResult
from pipelines.lab import Lab
from pipelines.policy import Policy, read_policy
from pipelines.prepare import EvaluationRequest, Prepared, prepare
from pipelines.progress import listener
from pipelines.record import preload, record_evaluation
from pipelines.transcribe import transcribe_shard
from pipelines.types import Prediction


@task(name="prepare", cache_policy=NO_CACHE, persist_result=False)
def prepare_evaluation(lab: Lab, request: EvaluationRequest) -> Prepared:
    """Resolve the request, fetch weights, hash audio, look into the store."""
    return prepare(lab, request, listener.get().say)


@task(name="score and record", cache_policy=NO_CACHE, persist_result=False)
def record(
    lab: Lab, prepared: Prepared, gathered: Gathered, results: list[ShardResult[Prediction]], policy: Policy, started: float
) -> Evaluated:
    """Score, measure, write the report, log to MLflow."""
    return record_evaluation(lab, prepared, gathered, results, policy, started)


def infer_missing(lab: Lab, prepared: Prepared) -> list[ShardResult[Prediction]]:
    """Infer what the store lacks; to be called inside a flow."""
    if prepared.plan.shards:
        # What comes after inference is imported beside it, while this process would only wait.
        threading.Thread(target=preload, args=(lab,), daemon=True).start()
    return run_shards(lab, prepared, prepared.plan.shards, lambda pool, shard: transcribe_shard(pool, prepared.store, shard))


def transcribe_within(lab: Lab, request: EvaluationRequest) -> Evaluated:
    """Evaluate one recogniser inside whatever flow calls."""
    started = time.perf_counter()
    policy = read_policy(lab.params)
    prepared = prepare_evaluation(lab, request)
    results = infer_missing(lab, prepared)
    gathered = gather(prepared, results)
    return record(lab, prepared, gathered, results, policy, started)
