"""Worker processes, for real: one engine each, deaths survived, bad audio set aside, costs told truly."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from threadpoolctl import threadpool_info

from models.engine import available_cores
from models.errors import CardError, EngineError
from models.memory import ALLOCATOR, peak_memory_mib
from pipelines.inference import Job
from pipelines.workers import WorkerDiedError, WorkerPool
from tests.pipelines.toy_engine import MEAL_MIB, notes
from tests.pipelines.toy_workers import Write, make_spec, processes_of


def bad_job(path: Path, content: bytes | None) -> Job:
    if content is not None:
        path.write_bytes(content)
    return Job(f"{path.name:0>64}", path, "en", 1.0)


def test_an_engine_is_loaded_once_a_worker_and_serves_all_shards(tmp_path: Path, job: Write) -> None:
    with WorkerPool(make_spec(tmp_path, threads=3), 2) as pool, ThreadPoolExecutor(4) as callers:
        shards = [[job(seconds=0.1 + n / 100), job(seconds=0.5 + n / 100)] for n in range(6)]
        results = list(callers.map(pool.run, shards))
        processes = processes_of(pool)
    psutil.wait_procs(processes, timeout=30)
    loads = notes(tmp_path, "load")
    assert len(loads) == 2 and len({load["pid"] for load in loads}) == 2
    assert all(load["threads"] == 3 and load["weights"] for load in loads)
    assert os.getpid() not in {load["pid"] for load in loads}, "the parent holds no model"
    assert len(notes(tmp_path, "call")) == 12
    assert len(notes(tmp_path, "warm up")) == 2, "each engine is warmed up before anything is timed"
    for shard, result in zip(shards, results, strict=True):
        assert [p.audio_sha256 for p in result.records] == [j.audio_sha256 for j in shard]
        assert [p.transcript.text for p in result.records] == [f"length {round(100 * j.duration_s)}" for j in shard]
        assert all(worker.pid in {load["pid"] for load in loads} and worker.load_s > 0 for worker in result.workers)
        assert not result.failures


def test_workers_share_a_shard_so_that_they_end_together(tmp_path: Path, job: Write) -> None:
    jobs = [job(seconds=0.1 + n / 100) for n in range(6)]
    with WorkerPool(make_spec(tmp_path, decoding={"pause_s": 0.2}), 2) as pool:
        pool.run([job(), job()])  # both have loaded
        result = pool.run(jobs)
    done = Counter(report.pid for report in result.workers)
    assert len(done) == 2 and min(done.values()) >= 2
    assert [p.audio_sha256 for p in result.records] == [j.audio_sha256 for j in jobs], "in the order of the shard"


def test_after_an_error_what_has_not_begun_is_dropped(tmp_path: Path, job: Write) -> None:
    with WorkerPool(make_spec(tmp_path, decoding={"pause_s": 0.1}), 1) as pool:
        with pytest.raises(EngineError, match="does not play this"):
            pool.run([job("refuse"), *(job(seconds=0.1 + n / 100) for n in range(8))])
        pool.run([job()])
    assert len(notes(tmp_path, "call")) < 9


def test_a_prediction_says_what_was_asked_and_what_it_cost(tmp_path: Path, job: Write) -> None:
    with WorkerPool(make_spec(tmp_path, decoding={"pause_s": 0.2}), 1) as pool:
        first, second = pool.run([job(seconds=0.3), job(language=None)]).records
    assert (first.task, first.language, first.model_fingerprint) == ("asr", "en", "m" * 64)
    assert second.language is None and notes(tmp_path, "call")[1]["language"] is None
    assert first.audio_s == pytest.approx(0.3)
    assert 0.2 <= first.timing.inference_s < 2, "the engine's call"
    assert 0 < first.timing.decode_s < 0.2, "and not in it: reading the file"


def test_reading_the_file_is_no_part_of_the_inference(tmp_path: Path) -> None:
    """A minute of stereo at 48 kHz takes the decoder a while, and the toy nothing: it answers at once."""
    path = tmp_path / "long.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.2, 0.2, (48_000 * 60, 2)), 48_000)
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        (found,) = pool.run([Job("0" * 64, path, "en", 60.0)]).records
    assert found.timing.inference_s < found.timing.decode_s / 2


def test_threads_are_set_before_the_engine_is_there(tmp_path: Path) -> None:
    """Libraries read these when they are imported; a worker of two threads must not take all cores."""
    with WorkerPool(make_spec(tmp_path, threads=2), 1) as pool:
        assert pool._executor.submit(os.getenv, "OMP_NUM_THREADS").result() == "2"
        assert pool._executor.submit(os.getenv, "MKL_NUM_THREADS").result() == "2"


@pytest.mark.parametrize("threads", [1, 2])
def test_numpy_takes_no_more_threads_than_a_worker_has(threads: int, tmp_path: Path) -> None:
    """It is imported before anything of ours runs in a worker, and its threads spin beside the engine's."""
    before = dict(os.environ)
    with WorkerPool(make_spec(tmp_path, threads=threads), 1) as pool:
        libraries = pool._executor.submit(threadpool_info).result()
    blas = [library["num_threads"] for library in libraries if library["user_api"] == "blas"]
    assert blas and set(blas) == {min(threads, available_cores())}
    assert os.environ == before, "what the user set is left alone"


def test_a_worker_keeps_freed_memory_unless_the_user_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        found = {name: pool._executor.submit(os.getenv, name).result() for name in ALLOCATOR}
    assert found == {**ALLOCATOR, "MALLOC_ARENA_MAX": "3"}


def test_a_dead_worker_breaks_its_shard_and_the_same_call_then_succeeds(tmp_path: Path, job: Write) -> None:
    shard = [job(), job("die once"), job(seconds=0.2)]
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        with pytest.raises(WorkerDiedError, match=r"process of toy died while it had 3 item.*MODELLAB_WORKERS"):
            pool.run(shard)
        assert len(pool.run(shard).records) == 3
        assert len(pool.run([job()]).records) == 1
    assert len(notes(tmp_path, "load")) == 2, "one engine before and one after the death"


def test_every_caller_of_a_broken_pool_finds_the_same_new_one(tmp_path: Path, job: Write) -> None:
    """The pool is rebuilt once a death, not once a caller: else engines would be loaded for nothing."""
    shards = [[job("die once")], [job(seconds=0.2)], [job(seconds=0.3)]]

    def until_done(pool: WorkerPool, shard: list[Job]) -> int:
        for _ in range(3):
            try:
                return len(pool.run(shard).records)
            except WorkerDiedError:
                continue
        return 0

    with WorkerPool(make_spec(tmp_path, decoding={"pause_s": 0.1}), 2) as pool, ThreadPoolExecutor(3) as callers:
        assert list(callers.map(lambda shard: until_done(pool, shard), shards)) == [1, 1, 1]
    assert len(notes(tmp_path, "load")) <= 4


def test_a_worker_that_always_dies_breaks_every_call(tmp_path: Path, job: Write) -> None:
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        for _ in range(2):
            with pytest.raises(WorkerDiedError):
                pool.run([job("die")])


def test_an_engine_that_cannot_load_says_so_itself(tmp_path: Path, job: Write) -> None:
    with WorkerPool(make_spec(tmp_path, args={"scratch": str(tmp_path), "broken": True}), 1) as pool:
        for _ in range(2):
            with pytest.raises(EngineError, match=r"The toy is broken\. Buy another\."):
                pool.run([job()])
    assert len(notes(tmp_path, "load")) == 1


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"engine": "tests.pipelines.toy_engine:Nothing"}, EngineError, "cannot be imported"),
        ({"args": {"scratc": "x"}}, CardError, "Did you mean 'scratch'"),
        ({"decoding": {"beams": 1}}, CardError, "no decoding option named 'beams'"),
    ],
)
def test_a_card_that_names_no_engine_is_told_in_its_own_words(
    tmp_path: Path, job: Write, changes: dict[str, Any], kind: type[Exception], told: str
) -> None:
    with WorkerPool(make_spec(tmp_path, **changes), 1) as pool, pytest.raises(kind, match=told):
        pool.run([job()])


def test_bad_audio_is_set_aside_and_the_rest_of_the_shard_inferred(tmp_path: Path, job: Write) -> None:
    good, choking = [job(seconds=0.2), job(seconds=0.3)], job("choke")
    shard = [
        good[0],
        bad_job(tmp_path / "text.wav", b"no audio at all"),
        bad_job(tmp_path / "gone.wav", None),
        choking,
        good[1],
    ]
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        result = pool.run(shard)
    assert [p.audio_sha256 for p in result.records] == [j.audio_sha256 for j in good]
    reasons = dict(result.failures)
    assert list(reasons) == [shard[i].audio_sha256 for i in (1, 2, 3)]
    assert "text.wav is not audio" in reasons[shard[1].audio_sha256]
    assert "gone.wav is missing" in reasons[shard[2].audio_sha256]
    assert reasons[choking.audio_sha256] == "The toy chokes on this. Chew it."


def test_what_the_engine_refuses_is_an_error_and_no_bad_audio(tmp_path: Path, job: Write) -> None:
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        with pytest.raises(EngineError, match="does not play this"):
            pool.run([job(), job("refuse")])
        assert len(pool.run([job()]).records) == 1, "the worker lives on"


def test_peak_memory_is_the_workers_own(tmp_path: Path, job: Write) -> None:
    """Measured while this process is larger than the worker will ever be: its size must not be inherited."""
    ballast = np.ones(500 << 17)
    assert peak_memory_mib() > 500
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        lean, fed, after = (report.peak_mib for report in pool.run([job(), job("eat memory"), job()]).workers)
    del ballast
    assert 20 < lean < 400
    assert fed == pytest.approx(lean + MEAL_MIB, abs=MEAL_MIB / 4)
    assert after >= fed, "a high-water mark does not fall"


def test_leaving_the_pool_leaves_no_process(tmp_path: Path, job: Write) -> None:
    with WorkerPool(make_spec(tmp_path), 2) as pool:
        pool.run([job()])
        processes = processes_of(pool)
        assert len(processes) == 2, "both were started, though one had nothing to do"
    assert not psutil.wait_procs(processes, timeout=30)[1], "idle workers end by themselves"


def test_an_interrupt_drops_what_is_in_flight_at_once(tmp_path: Path, job: Write) -> None:
    caller = ThreadPoolExecutor(1)
    with pytest.raises(KeyboardInterrupt), WorkerPool(make_spec(tmp_path, decoding={"pause_s": 60}), 1) as pool:
        call = caller.submit(pool.run, [job()])
        while not (calls := notes(tmp_path, "call")):
            time.sleep(0.02)
        interrupted = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - interrupted < 30, "the recording would have taken a minute"
    assert not psutil.pid_exists(calls[0]["pid"])
    with pytest.raises(EngineError, match="were stopped"):  # who waited for it is told
        call.result()
    assert not isinstance(call.exception(), WorkerDiedError), "which would be tried again"


def test_a_pool_that_was_left_starts_nothing_again(tmp_path: Path, job: Write) -> None:
    """A flow that ends by an error may still have shards that wait for their turn, or for a retry."""
    with WorkerPool(make_spec(tmp_path), 1) as pool:
        pool.run([job()])
        (worker,) = processes_of(pool)
    with pytest.raises(EngineError, match="were stopped"):
        pool.run([job()])
    assert not psutil.wait_procs([worker], timeout=30)[1]
    assert len(notes(tmp_path, "load")) == 1
