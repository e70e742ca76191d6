"""Several models in one service: loaded when asked for, unloaded when idle, never while in use."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from service import CLIP, HEARER, SPEAKER, TIMEOUT_S, HeldBack, Running, serving, wait_until

from models.audio import decode
from models.card import read_cards
from models.errors import EngineError
from models.memory import ALLOCATOR
from models.weights import fetch
from serving.served import ServedModel, load
from serving.settings import ServiceSettings


def cold(held: Mapping[str, ServedModel], name: str, build: Any) -> ServedModel:
    return ServedModel(held[name].card, held[name].fingerprints, None, build=build)


def loaded(running: Running) -> dict[str, bool]:
    with running.http() as client:
        return {model["id"]: model["loaded"] for model in client.get("/v1/models").json()["data"]}


def ready(running: Running) -> int:
    with running.http() as client:
        return int(client.get("/readyz").status_code)


def test_models_are_loaded_when_asked_for(held: Mapping[str, ServedModel], audio: Path) -> None:
    models = {name: cold(held, name, lambda name=name: held[name].engine) for name in (HEARER, SPEAKER)}
    with serving(models, ServiceSettings(preload=False)) as running:
        assert ready(running) == 200 and loaded(running) == {HEARER: False, SPEAKER: False}
        client = running.openai()
        assert client.audio.transcriptions.create(file=audio / CLIP, model=HEARER).text
        assert loaded(running) == {HEARER: True, SPEAKER: False}
        assert client.audio.speech.create(model=SPEAKER, input="Tea.", voice="heart", response_format="wav").content
        assert loaded(running) == {HEARER: True, SPEAKER: True}


def test_an_idle_model_is_unloaded_and_loaded_again(held: Mapping[str, ServedModel], audio: Path) -> None:
    built: list[weakref.ref[HeldBack]] = []

    def build() -> HeldBack:
        engine = HeldBack(held[HEARER].engine)
        engine.go.set()
        built.append(weakref.ref(engine))
        return engine

    models = {HEARER: cold(held, HEARER, build), SPEAKER: replace(held[SPEAKER], build=None)}
    with serving(models, ServiceSettings(unload_after_s=0.05)) as running:
        wait_until(lambda: len(built) == 1 and models[HEARER].ready and not loaded(running)[HEARER])
        gc.collect()
        assert built[0]() is None  # nothing holds it any more
        assert ready(running) == 200
        text = running.openai().audio.transcriptions.create(file=audio / CLIP, model=HEARER, language="en").text
        assert text == held[HEARER].engine.transcribe(decode(audio / CLIP).samples, language="en").text
        assert len(built) >= 2


def test_a_model_in_use_is_not_unloaded(held: Mapping[str, ServedModel], audio: Path) -> None:
    model = replace(held[HEARER], build=lambda: held[HEARER].engine)
    with model.in_use() as engine:
        assert not model.unload(0) and model.engine is engine
    assert model.unload(0) and not model.loaded and model.ready
    with model.in_use():
        assert model.loaded


def test_a_service_of_one_model_keeps_it(held: Mapping[str, ServedModel], audio: Path) -> None:
    model = replace(held[HEARER], build=lambda: held[HEARER].engine)
    with serving({HEARER: model}, ServiceSettings(unload_after_s=0.01)) as running:
        assert running.openai().audio.transcriptions.create(file=audio / CLIP, model=HEARER).text
        assert loaded(running) == {HEARER: True}


def test_a_model_that_cannot_be_loaded_again_is_503_until_it_can(held: Mapping[str, ServedModel], audio: Path) -> None:
    faults = [EngineError("zebra", "zebra")]

    def build() -> Any:
        if faults:
            raise faults[0]
        return held[HEARER].engine

    with serving({HEARER: cold(held, HEARER, build)}, ServiceSettings(preload=False)) as running:
        with pytest.raises(openai.InternalServerError) as caught:
            running.openai().audio.transcriptions.create(file=audio / CLIP, model=HEARER)
        assert (caught.value.status_code, caught.value.code) == (503, "model_unavailable")
        assert "zebra" not in caught.value.message and int(caught.value.response.headers["retry-after"]) >= 1
        assert ready(running) == 503
        faults.clear()
        with ThreadPoolExecutor(2) as clients:  # two at once load it once
            asked = [
                clients.submit(running.openai().audio.transcriptions.create, file=audio / CLIP, model=HEARER) for _ in "ab"
            ]
            assert all(answer.result(TIMEOUT_S).text for answer in asked)
        assert ready(running) == 200


MEASURED = """
import json, sys
from pathlib import Path
import psutil
from models.card import read_cards
from models.weights import fetch
from serving.served import load
cards = read_cards()
card = cards[sys.argv[1]]
model = load(card, fetch(card, cards, Path(sys.argv[2]), lambda line: None))
memory = lambda: psutil.Process().memory_info().rss / 2**20
model.warm_up()
rounds = []
for _ in range(3):
    before = memory()
    assert model.unload(0)
    unloaded = memory()
    with model.in_use():
        pass
    rounds.append((before, unloaded, memory()))
print(json.dumps(rounds))
"""


@pytest.mark.real
def test_unloading_gives_memory_back(shared_weights: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, HEARER, str(shared_weights)],
        env={**os.environ, **ALLOCATOR},  # as a service has it
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    rounds = json.loads(done.stdout.splitlines()[-1])
    weights_mib = 40  # tiny.en with 8 bits a parameter, of 39 million
    for loaded_mib, unloaded_mib, again_mib in rounds:
        assert loaded_mib - unloaded_mib > weights_mib / 2
        assert again_mib < rounds[0][0] + weights_mib  # round after round it does not grow


def test_what_is_loaded_later_says_what_it_is(shared_weights: Path, held: Mapping[str, ServedModel]) -> None:
    cards = read_cards()
    model = load(cards[HEARER], fetch(cards[HEARER], cards, shared_weights, lambda line: None), later=True)
    assert not model.loaded and model.can("asr") and not model.can("tts")
    assert model.fingerprint == held[HEARER].fingerprint
