"""What must be inferred is planned once, longest first, in shards that bound what a killed run loses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.audio import file_sha256
from models.engine import Placement
from models.types import Transcript
from pipelines.corpus import find_corpus
from pipelines.inference import EngineSpec, Job
from pipelines.store import PredictionStore, prediction_key
from pipelines.transcribe import (
    SHARD_AUDIO_S,
    SHARD_RECORDINGS,
    Item,
    Plan,
    Selection,
    key_of,
    plan,
    select_items,
    transcribe_shard,
)
from pipelines.types import Prediction, Timing, Utterance
from pipelines.workers import WorkerDiedError, WorkerPool
from tests.pipelines.toy_engine import toy_card, write_corpus

MODEL = "m" * 64


def make_item(name: str, duration: float = 1.0, sha: str | None = None, language: str = "en") -> Item:
    utterance = Utterance(id=name, audio_filepath=f"{name}.wav", duration=duration, text="", language=language)
    return Item("calls", utterance, Path(f"/{name}.wav"), f"{sha or name:0>64}", "basic")


def make_prediction(item: Item, task: Any = "asr") -> Prediction:
    return Prediction(
        audio_sha256=item.audio_sha256,
        model_fingerprint=MODEL,
        task=task,
        language=item.utterance.language,
        audio_s=item.utterance.duration,
        transcript=Transcript(text="x"),
        timing=Timing(inference_s=1, decode_s=1),
    )


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    return PredictionStore(tmp_path / "predictions", MODEL)


def names(shards: Sequence[Sequence[Job]]) -> list[str]:
    return [job.path.stem for shard in shards for job in shard]


# Selecting


def select(tmp_path: Path, rows: Sequence[dict[str, Any]], config: str | None = None, **options: Any) -> Selection:
    write_corpus(tmp_path / "data" / "calls", rows, config)
    corpus = find_corpus("calls", tmp_path / "data")
    return select_items([(corpus, corpus.utterances)], toy_card(tmp_path / "toy", languages=["en", "de"]), **options)


def test_items_carry_their_file_its_digest_and_their_normalizer(tmp_path: Path) -> None:
    config = "name: calls\nnormalizer: {default: basic, rules: [{when: {domain: digits}, use: digits}]}"
    chosen = select(tmp_path, [{"id": "a"}, {"id": "b", "tags": {"domain": "digits"}}], config)
    assert [(item.corpus, item.utterance.id, item.normalizer) for item in chosen.items] == [
        ("calls", "a", "basic"),
        ("calls", "b", "digits"),
    ]
    assert all(item.audio_sha256 == file_sha256(item.path) for item in chosen.items)
    assert chosen.items[0].path == tmp_path / "data" / "calls" / "a.wav"
    assert not chosen.missing and not chosen.unsupported


def test_one_normalizer_can_be_asked_for_all(tmp_path: Path) -> None:
    config = "name: calls\nnormalizer: {default: basic, rules: [{when: {domain: digits}, use: digits}]}"
    chosen = select(tmp_path, [{"id": "a"}, {"id": "b", "tags": {"domain": "digits"}}], config, normalizer="none")
    assert [item.normalizer for item in chosen.items] == ["none", "none"]


def test_a_missing_file_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    (bad,) = (chosen := select(tmp_path, [{"id": "a"}, {"id": "gone", "signal": None}])).missing
    assert (bad.id, bad.audio_filepath) == ("gone", "gone.wav")
    assert "gone.wav cannot be read (No such file or directory)" in bad.reason and "dvc pull" in bad.reason
    assert [item.utterance.id for item in chosen.items] == ["a"]


def test_languages_the_card_does_not_claim_are_parted_and_not_lost(tmp_path: Path) -> None:
    chosen = select(tmp_path, [{"id": "a"}, {"id": "b", "language": "es"}, {"id": "c", "language": "de"}])
    assert [item.utterance.id for item in chosen.items] == ["a", "c"]
    assert [item.utterance.id for item in chosen.unsupported] == ["b"]


# Planning


def test_what_the_store_has_is_not_planned(store: PredictionStore) -> None:
    items = [make_item(name) for name in "abc"]
    store.add([make_prediction(items[1])])
    found = plan(items, "asr", store)
    assert names(found.shards) == ["a", "c"] and found.recordings == 2
    assert found.known == {key_of(items[1], "asr"): make_prediction(items[1])}


def test_a_full_store_leaves_nothing_to_plan(store: PredictionStore) -> None:
    items = [make_item(name) for name in "abc"]
    store.add([make_prediction(item) for item in items])
    assert plan(items, "asr", store) == Plan({key_of(i, "asr"): make_prediction(i) for i in items}, ())
    assert plan([], "asr", store) == Plan({}, ())


def test_another_task_or_language_is_another_question(store: PredictionStore) -> None:
    item = make_item("a")
    store.add([make_prediction(item)])
    assert plan([item], "translation", store).recordings == 1
    assert plan([make_item("a", language="de")], "asr", store).recordings == 1
    assert key_of(item, "asr") == prediction_key(item.audio_sha256, "asr", "en")


def test_a_recording_listed_twice_is_inferred_once(store: PredictionStore) -> None:
    items = [
        make_item("a", sha="1"),
        make_item("b", sha="2"),
        make_item("c", sha="1"),
        make_item("d", sha="1", language="de"),
    ]
    found = plan(items, "asr", store)
    asked = [(job.audio_sha256[-1], job.language) for shard in found.shards for job in shard]
    assert sorted(asked) == [("1", "de"), ("1", "en"), ("2", "en")]


def test_long_recordings_go_first(store: PredictionStore) -> None:
    items = [make_item(name, duration) for name, duration in (("a", 3), ("b", 30), ("c", 0.5), ("d", 12))]
    jobs = [job for shard in plan(items, "asr", store).shards for job in shard]
    assert [(job.path.stem, job.duration_s) for job in jobs] == [("b", 30), ("d", 12), ("a", 3), ("c", 0.5)]
    assert all(job.language == "en" for job in jobs)


@pytest.mark.parametrize(
    "durations",
    [
        [1.0] * 100,
        [1.0],
        [SHARD_AUDIO_S / 2] * 9,
        [SHARD_AUDIO_S / 2 + 0.1] * 9,
        [SHARD_AUDIO_S * 10, 1.0, 1.0],
        [100.0, 60.0, 60.0, 15.0, 5.0],
        [float(1 + number % 40) for number in range(60)],
    ],
    ids=["many short", "one", "two fit", "no two fit", "one giant", "few", "mixed"],
)
def test_a_shard_is_bounded_in_recordings_and_in_audio(store: PredictionStore, durations: list[float]) -> None:
    items = [make_item(str(number), duration) for number, duration in enumerate(durations)]
    shards = plan(items, "asr", store).shards
    assert sorted(job.path.stem for shard in shards for job in shard) == sorted(item.utterance.id for item in items)
    for shard in shards:
        assert 1 <= len(shard) <= SHARD_RECORDINGS
        assert len(shard) == 1 or sum(job.duration_s for job in shard) <= SHARD_AUDIO_S


# Doing


def test_a_shard_is_inferred_and_kept(tmp_path: Path, store: PredictionStore) -> None:
    chosen = select(tmp_path, [{"id": "a"}, {"id": "die", "signal": "die once"}, {"id": "bad"}, {"id": "c"}])
    (tmp_path / "data" / "calls" / "bad.wav").write_text("no audio")
    spec = EngineSpec(toy_card(tmp_path / "toy"), tmp_path / "toy", Placement("cpu", "none", 1), MODEL, "asr")
    shard = tuple(job for part in plan(chosen.items, "asr", store).shards for job in part)
    with WorkerPool(spec, 1) as pool:
        with pytest.raises(WorkerDiedError):
            transcribe_shard(store, pool, shard)
        assert not plan(chosen.items, "asr", store).known, "nothing of a broken shard is kept"
        result = transcribe_shard(store, pool, shard)
    assert len(result.records) == 3 and len(result.failures) == 1
    again = plan(chosen.items, "asr", store)
    assert set(again.known.values()) == set(result.records)
    assert names(again.shards) == ["bad"], "what failed is tried again next time"
