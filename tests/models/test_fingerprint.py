"""The fingerprint follows what runs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from models.card import ModelCard
from models.engine import Placement, placement_of
from models.errors import CardError, EngineError
from models.fingerprint import ModelFingerprint, model_fingerprint

WEIGHTS = {"model.bin": "1" * 64, "config.json": "2" * 64}
CPU = Placement("cpu", "int8", 2)


def digest(card: ModelCard, placement: Placement = CPU, weights: dict[str, str] = WEIGHTS) -> str:
    return model_fingerprint(card, placement, weights).digest


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"summary": "other"},
        {"stage": "candidate"},
        {"languages": ["*"]},
        {"decoding": {"beam_size": 1}},  # the default, said aloud
        {"decoding": {"temperature": 0}},  # 0 and 0.0 are one temperature
    ],
)
def test_what_changes_no_answer_changes_no_digest(change: dict[str, Any], make_card: Callable[..., ModelCard]) -> None:
    assert digest(make_card(**change)) == digest(make_card())


def test_threads_and_the_order_of_files_change_no_digest(make_card: Callable[..., ModelCard]) -> None:
    reordered = dict(reversed(WEIGHTS.items()))
    assert digest(make_card(), Placement("cpu", "int8", 1), reordered) == digest(make_card())


@pytest.mark.parametrize(
    "change",
    [
        {"decoding": {"beam_size": 5}},
        {"decoding": {"word_timestamps": False}},
        {"args": {"extra": 1}},
        {"engine": "models.engines.openai_whisper:OpenAIWhisper"},
        {"tasks": ["translation"]},
    ],
)
def test_what_changes_answers_changes_the_digest(change: dict[str, Any], make_card: Callable[..., ModelCard]) -> None:
    assert digest(make_card(**change)) != digest(make_card())


def test_device_number_format_and_weights_change_the_digest(make_card: Callable[..., ModelCard]) -> None:
    card = make_card()
    digests = {
        digest(card),
        digest(card, Placement("cuda", "int8", 2)),
        digest(card, Placement("cpu", "float32", 2)),
        digest(card, CPU, {**WEIGHTS, "model.bin": "3" * 64}),
        digest(card, CPU, {"model.bin": "1" * 64}),
    }
    assert len(digests) == 5


def test_a_new_version_of_any_library_changes_the_digest(
    make_card: Callable[..., ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_fingerprint(make_card(), CPU, WEIGHTS)
    assert before.versions.keys() == {"faster-whisper", "ctranslate2"}
    monkeypatch.setattr("models.environments.version", lambda name: "99" if name == "ctranslate2" else version(name))
    assert digest(make_card()) != before.digest


def test_it_survives_a_round_trip_through_json(make_card: Callable[..., ModelCard]) -> None:
    before = model_fingerprint(make_card(decoding={"temperature": [0.0, 0.5]}), CPU, WEIGHTS)
    after = ModelFingerprint.model_validate_json(before.model_dump_json())
    assert after.digest == before.digest
    assert len(after.digest) == 64


def test_a_task_the_model_does_not_do_is_refused(make_card: Callable[..., ModelCard]) -> None:
    with pytest.raises(CardError, match="tts"):
        model_fingerprint(make_card(), CPU, WEIGHTS, "tts")


def test_a_missing_library_is_named(make_card: Callable[..., ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    from models.engines.faster_whisper import FasterWhisper

    monkeypatch.setattr(FasterWhisper, "packages", ("no-such-package",))
    with pytest.raises(EngineError, match="pip install no-such-package"):
        model_fingerprint(make_card(), placement_of(make_card()), WEIGHTS)
