"""Workers before and after their shards: what is begun early for who asks for it later, and what idle ones do else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from pipelines import workers
from pipelines.inference import Job, ShardResult
from pipelines.prepare import EvaluationRequest, begin_early, begun_early
from pipelines.types import Prediction
from pipelines.workers import WorkerDiedError, WorkerPool
from tests.pipelines.toy_engine import notes
from tests.pipelines.toy_lab import Desk
from tests.pipelines.toy_workers import Write, make_spec, processes_of


def pid_and(item: int) -> tuple[int, int]:
    return os.getpid(), item


def die_elsewhere(parent: int) -> int:
    """End the process, unless it is the one that asked."""
    if os.getpid() != parent:
        os._exit(19)
    return os.getpid()


def test_a_pool_that_was_begun_early_is_taken_once_and_loads_no_second_engine(tmp_path: Path, job: Write) -> None:
    spec = make_spec(tmp_path)
    WorkerPool.begin(spec, 1, [(job(),)], WorkerPool.run)
    with WorkerPool.take(spec, 2) as other:
        assert len(processes_of(other)) == 2, "another number of workers is another pool"
    with WorkerPool.take(spec, 1) as pool:
        (worker,) = processes_of(pool)
        assert [report.pid for report in pool.run([job()]).workers] == [worker.pid]
        assert len([note for note in notes(tmp_path, "load") if note["pid"] == worker.pid]) == 1
        with WorkerPool.take(spec, 1) as later:
            assert processes_of(later) != [worker], "what was taken is not given again"


def test_shards_are_transcribed_and_kept_before_anybody_asks_and_once(tmp_path: Path, job: Write) -> None:
    spec, shards = make_spec(tmp_path), [(job(seconds=0.2), job(seconds=0.3)), (job(seconds=0.4),)]
    kept: list[tuple[Job, ...]] = []

    def keep(pool: WorkerPool, shard: tuple[Job, ...]) -> ShardResult[Prediction]:
        result = pool.run(shard)
        kept.append(shard)
        return result

    before = time.perf_counter()
    WorkerPool.begin(spec, 1, shards, keep)
    begun = time.perf_counter()
    deadline = begun + 60
    while len(kept) < 2 and time.perf_counter() < deadline:
        time.sleep(0.02)
    assert set(kept) == set(shards)
    with WorkerPool.take(spec, 1) as pool:
        assert before < pool.started < begun, "the time of an evaluation counts from here"
        results = [pool.once(shard, keep) for shard in reversed(shards)]
        texts = [[prediction.transcript.text for prediction in result.records] for result in results]
        assert texts == [["length 40"], ["length 20", "length 30"]]
        assert len(kept) == 2 and len(notes(tmp_path, "call")) == 3
        pool.once(shards[1], keep)
        assert len(kept) == 3, "what was given is forgotten: who asks again has a reason"


def test_what_was_begun_in_a_worker_that_died_is_done_anew(tmp_path: Path, job: Write) -> None:
    spec, shard = make_spec(tmp_path), (job("die once"),)
    WorkerPool.begin(spec, 1, [shard], WorkerPool.run)
    with WorkerPool.take(spec, 1) as pool:
        with pytest.raises(WorkerDiedError, match="1 item"):
            pool.once(shard, WorkerPool.run)
        assert len(pool.once(shard, WorkerPool.run).records) == 1
    assert len(notes(tmp_path, "load")) == 2, "one engine before and one after the death"


def test_a_run_that_is_killed_before_its_flow_runs_keeps_what_was_finished(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.corpus([{"seconds": 0.5 + n / 10} for n in range(3)])
    request = EvaluationRequest(model="toy")
    begin_early(desk.lab, request)
    try:
        deadline = time.monotonic() + 60
        while desk.prepare().plan.shards and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(desk.prepare().plan.known) == 3, "another process finds all in the store"
        early = begun_early(desk.lab, request)
        assert early is not None and early.plan.recordings == 3, "and the flow goes on by the plan that was made"
        assert begun_early(desk.lab, request) is None
    finally:
        WorkerPool.discard()


def test_what_was_begun_and_never_taken_can_be_discarded(tmp_path: Path, job: Write) -> None:
    spec = make_spec(tmp_path, decoding={"pause_s": 60})
    WorkerPool.begin(spec, 1, [(job(),)], WorkerPool.run)
    (worker,) = processes_of(workers._begun[spec.fingerprint, 1])
    WorkerPool.discard()
    assert not psutil.wait_procs([worker], timeout=30)[1]
    assert not workers._begun


def test_idle_workers_do_something_else_in_order(tmp_path: Path, job: Write) -> None:
    with WorkerPool(make_spec(tmp_path), 2) as pool:
        pool.run([job()])
        done = list(pool.map(pid_and, range(5)))
        assert {pid for pid, _ in done} <= {process.pid for process in processes_of(pool)}
    assert [item for _, item in done] == [0, 1, 2, 3, 4]


def test_what_a_worker_dies_of_is_done_here(tmp_path: Path) -> None:
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        here = os.getpid()
        assert list(pool.map(die_elsewhere, [here, here])) == [here, here]
        assert list(pool.map(pid_and, [7])) == [(here, 7)], "and what can no longer be begun"


def test_an_error_of_what_idle_workers_do_is_the_callers(tmp_path: Path) -> None:
    with WorkerPool(make_spec(tmp_path), 1) as pool, pytest.raises(ValueError, match="invalid literal"):
        list(pool.map(int, ["no number"]))
