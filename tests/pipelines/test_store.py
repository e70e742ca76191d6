"""A prediction is computed once, ever: what was written is found again, and nothing half-written is ever read."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.errors import StateError
from models.types import Segment, Transcript, Word
from pipelines.shards import ABANDONED_S
from pipelines.store import PredictionStore, prediction_key
from pipelines.types import Prediction, Timing

MODEL = "f" * 64
KILLS = 10
SHARD = 8


def make_prediction(number: int = 0, text: str = "hello", **changes: Any) -> Prediction:
    words = (Word(text=text, start_s=0.0, end_s=0.1 + 0.2, probability=1 / 3),)
    fields: dict[str, Any] = {
        "audio_sha256": f"{number:064x}",
        "model_fingerprint": MODEL,
        "task": "asr",
        "language": "en",
        "audio_s": 1.1,
        "transcript": Transcript(
            text=text, segments=(Segment(text=text, start_s=0, end_s=0.3, words=words),), confidence=1 / 3
        ),
        "timing": Timing(inference_s=0.1, decode_s=1e-9),
    }
    return Prediction.model_validate({**fields, **changes})


def key_of(prediction: Prediction) -> tuple[str, Any, str]:
    return prediction_key(prediction.audio_sha256, prediction.task, prediction.language)


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    return PredictionStore(tmp_path, MODEL)


def test_what_was_added_is_found_to_the_last_bit(store: PredictionStore, tmp_path: Path) -> None:
    added = [
        make_prediction(1),
        make_prediction(2, "größer 日本 \x00 \n"),
        make_prediction(3, "", transcript=Transcript(text="")),
    ]
    store.add(added[:2])
    store.add(added[2:])
    wanted = {key_of(p): p for p in added}
    assert PredictionStore(tmp_path, MODEL).load(wanted) == wanted


def test_only_what_was_asked_for_is_given(store: PredictionStore) -> None:
    store.add([make_prediction(number) for number in range(5)])
    found = store.load([key_of(make_prediction(3)), key_of(make_prediction(9))])
    assert list(found) == [key_of(make_prediction(3))]
    assert store.load([]) == {}


def test_a_new_store_has_nothing(store: PredictionStore) -> None:
    assert store.load([key_of(make_prediction())]) == {}


def test_language_and_task_are_part_of_the_key(store: PredictionStore) -> None:
    variants = [
        make_prediction(1, "english"),
        make_prediction(1, "german", language="de"),
        make_prediction(1, "detected", language=None),
        make_prediction(1, "translated", task="translation"),
    ]
    store.add(variants)
    assert store.load(map(key_of, variants)) == {key_of(p): p for p in variants}
    assert [p.transcript.text for p in store.load([prediction_key(f"{1:064x}", "asr", None)]).values()] == ["detected"]


def test_models_do_not_see_one_anothers_predictions(store: PredictionStore, tmp_path: Path) -> None:
    store.add([make_prediction(1)])
    assert PredictionStore(tmp_path, "0" * 64).load([key_of(make_prediction(1))]) == {}
    with pytest.raises(AssertionError):
        store.add([make_prediction(2, model_fingerprint="0" * 64)])


def test_a_shard_is_one_file_and_no_predictions_are_none(store: PredictionStore, tmp_path: Path) -> None:
    store.add([])
    assert not list(tmp_path.rglob("*"))
    store.add([make_prediction(number) for number in range(SHARD)])
    assert len(list((tmp_path / MODEL).iterdir())) == 1


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:20] + b[:20] + b[40:], lambda b: b"PAR1" * 9]
)
def test_a_damaged_shard_is_named(store: PredictionStore, tmp_path: Path, damage: Any) -> None:
    store.add([make_prediction(1)])
    (path,) = (tmp_path / MODEL).iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StateError, match=rf"The shard {path} cannot be read .*Delete the file") as error:
        store.load([key_of(make_prediction(1))])
    assert "computed again" in error.value.remedy


def test_a_prediction_in_another_versions_form_is_a_state_error(store: PredictionStore, tmp_path: Path) -> None:
    """Its shard is named, so that it can be deleted; nothing is guessed from what it says."""
    prediction = make_prediction(1)
    store.add([prediction])
    (path,) = (tmp_path / MODEL).iterdir()
    table = pq.read_table(path)
    other = prediction.model_dump_json().replace('"audio_s"', '"audio_length_s"')
    pq.write_table(table.set_column(table.column_names.index("prediction"), "prediction", [[other]]), path)
    with pytest.raises(StateError, match=rf"The shard {path} cannot be read \(audio_s: Field required"):
        store.load([key_of(prediction)])


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(store: PredictionStore, tmp_path: Path) -> None:
    store.add([make_prediction(1)])
    (kept,) = (tmp_path / MODEL).iterdir()
    fresh, old = kept.with_name(".a.parquet.x"), kept.with_name(".b.parquet.y")
    for path in (fresh, old):
        path.write_bytes(b"PAR1")
    os.utime(old, (time.time() - 2 * ABANDONED_S,) * 2)
    store.load([key_of(make_prediction(1))])
    assert sorted((tmp_path / MODEL).iterdir()) == sorted([kept, fresh])


def test_a_folder_that_is_a_file_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_text("in the way")
    with pytest.raises(StateError, match=rf"Results cannot be written to {tmp_path / MODEL} \(.+\)\. Free some space"):
        PredictionStore(tmp_path, MODEL).add([make_prediction()])


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond ``room`` bytes: the kernel then refuses a write as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_what_was_finished_and_leaves_nothing_half(store: PredictionStore, tmp_path: Path) -> None:
    store.add([make_prediction(1)])
    with full_disk(100), pytest.raises(StateError, match="cannot be written"):
        store.add([make_prediction(2)])
    assert len(list((tmp_path / MODEL).iterdir())) == 1
    assert list(store.load([key_of(make_prediction(n)) for n in (1, 2)])) == [key_of(make_prediction(1))]
    store.add([make_prediction(2)])
    assert len(store.load([key_of(make_prediction(n)) for n in (1, 2)])) == 2


FAR = 10**8
"""Recordings that a writer would write if it were not killed: it never comes to its end by itself."""


def write_shards(folder: Path, first: int, shards: int) -> None:
    """Write shards as a worker's parent does; the texts do not compress, so that writing takes its time."""
    store = PredictionStore(folder, MODEL)
    rng = random.Random(first)
    text = rng.randbytes(1 << 16).hex()
    for number in range(first, first + shards * SHARD, SHARD):
        store.add([make_prediction(number + i, text) for i in range(SHARD)])


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """Threads of one process and other processes, all on the same recordings and on their own."""
    context = multiprocessing.get_context("forkserver")
    others = [context.Process(target=write_shards, args=(tmp_path, first, 4)) for first in (0, 1000)]
    for other in others:
        other.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_shards, [tmp_path] * 4, [0, 1000, 2000, 3000], [4] * 4))
    for other in others:
        other.join()
        assert other.exitcode == 0
    keys = [key_of(make_prediction(first + n)) for first in (0, 1000, 2000, 3000) for n in range(4 * SHARD)]
    assert set(PredictionStore(tmp_path, MODEL).load(keys)) == set(keys)
    assert len(list((tmp_path / MODEL).iterdir())) == 6 * 4


def test_a_killed_run_leaves_whole_shards_only(tmp_path: Path) -> None:
    """SIGKILL at random moments, always into the same store: what is there can be read, and the next run goes on."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyarrow.parquet", "pipelines.store"])
    rng = random.Random(3)
    folder = tmp_path / MODEL
    for kill in range(KILLS):
        before = len(list(folder.glob("*.parquet")))
        writer = context.Process(target=write_shards, args=(tmp_path, kill * FAR, FAR // SHARD), daemon=True)
        writer.start()
        while len(list(folder.glob("*.parquet"))) == before:
            assert writer.is_alive()
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        writer.kill()
        writer.join()
    shards = list(folder.glob("*.parquet"))
    assert len(shards) >= KILLS
    assert all(len(pq.read_table(path)) == SHARD for path in shards)
    keys = [key_of(make_prediction(kill * FAR + i)) for kill in range(KILLS) for i in range(SHARD)]
    found = PredictionStore(tmp_path, MODEL).load(keys)
    assert set(found) == set(keys)
