"""Shards as Prefect tasks over a pool of workers, so that each is retried, timed and seen on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from models.errors import LabError
from models.remote import EngineDiedError
from models.types import Record
from pipelines.inference import Job, ShardResult, SpeakJob
from pipelines.lab import Lab
from pipelines.prepare import Resolved, workers_for
from pipelines.progress import listener
from pipelines.workers import Step, WorkerDiedError, WorkerPool

SHARD_RETRIES = 2
"""A worker may die of memory pressure or a crash in native code; the pool is rebuilt and the shard tried again."""
RETRY_DELAY_S = 2

J = TypeVar("J", Job, SpeakJob)
R = TypeVar("R", bound=Record)


def is_worth_retrying(task_: Any, run: Any, state: Any) -> bool:
    """Say whether a failed shard may succeed next time: the lab's own errors would come again, but for a death."""
    try:
        state.result()
    except (WorkerDiedError, EngineDiedError):
        return True
    except LabError:
        return False
    except Exception:
        return True
    return False


@task(
    task_run_name="shard {number} of {total}",
    retries=SHARD_RETRIES,
    retry_delay_seconds=RETRY_DELAY_S,
    retry_condition_fn=is_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def compute_shard(
    step: Step[J, R],
    pool: WorkerPool,
    shard: tuple[J, ...],
    number: int,
    total: int,
) -> ShardResult[R]:
    """Compute and keep one shard."""
    result = pool.once(shard, step)
    listener.get().advance(len(shard))
    return result


@contextmanager
def workers(lab: Lab, resolved: Resolved, shards: Sequence[tuple[J, ...]]) -> Iterator[WorkerPool | None]:
    """Workers that load a model once, as long as the block lasts; None where there is no shard, and nothing to load."""
    if not shards:
        yield None
        return
    with WorkerPool.take(resolved.spec, workers_for(lab, sum(len(shard) for shard in shards))) as pool:
        yield pool


def compute_shards(
    pool: WorkerPool | None,
    resolved: Resolved,
    shards: Sequence[tuple[J, ...]],
    step: Step[J, R],
) -> list[ShardResult[R]]:
    """Run shards over workers; to be called inside a flow.

    Args:
        pool: From `workers`.
        resolved: The model.
        shards: May be none.
        step: Computes and keeps one shard.
    """
    if pool is None:
        return []
    progress = listener.get()
    progress.start(f"{resolved.card.name} on {resolved.spec.placement.device}", sum(len(shard) for shard in shards))
    try:
        futures = [
            compute_shard.submit(step, pool, shard, number, len(shards)) for number, shard in enumerate(shards, start=1)
        ]
        return [future.result() for future in futures]
    finally:
        progress.finish()


def run_shards(
    lab: Lab,
    resolved: Resolved,
    shards: Sequence[tuple[J, ...]],
    step: Step[J, R],
) -> list[ShardResult[R]]:
    """Run shards over workers of their own; see `compute_shards`."""
    with workers(lab, resolved, shards) as pool:
        return compute_shards(pool, resolved, shards, step)
