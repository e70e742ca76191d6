"""What waits together goes through one engine call, and nobody is better or worse off for it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from service import CLIP, HEARER, TIMEOUT_S, Running, serving, wait_until

from models.audio import decode
from models.card import read_cards
from models.types import Transcript
from models.weights import fetch
from serving.served import ServedModel, load
from serving.settings import ServiceSettings

BATCHER = "whisper-tiny.en-transformers"
CLIPS = ("digits-george-0.flac", "digits-theo-2.flac", "nonspeech-silence.flac")


@dataclass
class Batching:
    """An engine that gains from batches; calls wait for the test, and are written down."""

    engine: Any
    go: threading.Event = field(default_factory=threading.Event)
    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    calls: list[tuple[int, str | None]] = field(default_factory=list)
    fails_on: int = -1

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        return self.transcribe_batch([samples], language=language)[0]

    def transcribe_batch(self, recordings: Sequence[NDArray[np.float32]], *, language: str | None) -> list[Transcript]:
        self.calls.append((len(recordings), language))
        self.began.release()
        assert self.go.wait(TIMEOUT_S)
        if any(len(recording) == self.fails_on for recording in recordings):
            raise RuntimeError("zebra")
        if hasattr(self.engine, "transcribe_batch"):
            return list(self.engine.transcribe_batch(recordings, language=language))
        return [self.engine.transcribe(recording, language=language) for recording in recordings]


def ask(running: Running, model: str, path: Path, **options: Any) -> str:
    return str(running.openai().audio.transcriptions.create(file=path, model=model, **options).text)


@pytest.mark.real
def test_batched_answers_are_those_of_single_calls(shared_weights: Path, audio: Path) -> None:
    cards = read_cards()
    model = load(cards[BATCHER], fetch(cards[BATCHER], cards, shared_weights, lambda line: None))
    model.warm_up()
    single = [model.engine.transcribe(decode(audio / name).samples, language=None).text for name in CLIPS]
    engine = Batching(model.engine)
    with (
        serving({BATCHER: replace(model, engine=engine)}) as running,
        ThreadPoolExecutor(len(CLIPS) + 1) as clients,
    ):
        first = clients.submit(ask, running, BATCHER, audio / CLIP)
        assert engine.began.acquire(timeout=TIMEOUT_S)
        others = [clients.submit(ask, running, BATCHER, audio / name) for name in CLIPS]
        wait_until(lambda: running.queue() == {"running": 1, "waiting": len(CLIPS)})
        engine.go.set()
        assert first.result(TIMEOUT_S) == single[0]
        assert [other.result(TIMEOUT_S) for other in others] == single
    assert [size for size, _ in engine.calls] == [1, len(CLIPS)]


def test_a_batch_overtakes_nobody_and_is_bounded(held: Mapping[str, ServedModel], audio: Path) -> None:
    engine = Batching(held[HEARER].engine)
    model = replace(held[HEARER], engine=engine)
    settings = ServiceSettings(batch_most=2)
    with serving({HEARER: model}, settings) as running, ThreadPoolExecutor(6) as clients:
        asked = []
        for waiting, options in enumerate([{}, {"language": "en"}, {}, {"language": "en"}, {"language": "en"}]):
            asked.append(clients.submit(ask, running, HEARER, audio / CLIP, **options))
            wait_until(lambda: running.queue() == {"running": 1, "waiting": waiting})  # noqa: B023
        engine.go.set()
        assert len({answer.result(TIMEOUT_S) for answer in asked}) == 1
    # The first alone; then the second with the fourth; then the third, which waits longer than the fifth.
    assert engine.calls == [(1, None), (2, "en"), (1, None), (1, "en")]


def test_the_fault_of_one_is_not_the_others(held: Mapping[str, ServedModel], audio: Path) -> None:
    bad = audio / "digits-theo-2.flac"
    engine = Batching(held[HEARER].engine, fails_on=len(decode(bad).samples))
    with serving({HEARER: replace(held[HEARER], engine=engine)}) as running, ThreadPoolExecutor(3) as clients:
        first = clients.submit(ask, running, HEARER, audio / CLIP)
        assert engine.began.acquire(timeout=TIMEOUT_S)
        good, failing = (clients.submit(ask, running, HEARER, path) for path in (audio / CLIP, bad))
        wait_until(lambda: running.queue() == {"running": 1, "waiting": 2})
        engine.go.set()
        assert good.result(TIMEOUT_S) == first.result(TIMEOUT_S)
        with pytest.raises(openai.InternalServerError):
            failing.result(TIMEOUT_S)
        wait_until(lambda: running.queue() == {"running": 0, "waiting": 0})


def test_a_leader_that_leaves_does_not_take_its_batch_along(held: Mapping[str, ServedModel], audio: Path) -> None:
    from test_queue import _ask_and_leave

    engine = Batching(held[HEARER].engine)
    with serving({HEARER: replace(held[HEARER], engine=engine)}) as running, ThreadPoolExecutor(3) as clients:
        leave = threading.Event()
        leader = clients.submit(_ask_and_leave, running, audio / CLIP, leave)
        assert engine.began.acquire(timeout=TIMEOUT_S)
        second = clients.submit(_ask_and_leave, running, audio / CLIP, leave)
        wait_until(lambda: running.queue() == {"running": 1, "waiting": 1})
        third = clients.submit(ask, running, HEARER, audio / CLIP)
        wait_until(lambda: running.queue() == {"running": 1, "waiting": 2})
        leave.set()
        leader.result(TIMEOUT_S), second.result(TIMEOUT_S)
        wait_until(lambda: running.queue() == {"running": 1, "waiting": 0})  # two places: the call's, and the third's
        engine.go.set()
        assert third.result(TIMEOUT_S)
        wait_until(lambda: running.queue() == {"running": 0, "waiting": 0})
    assert [size for size, _ in engine.calls] == [1, 1]  # who left the queue was not computed


def test_one_may_wait_a_little_for_others(held: Mapping[str, ServedModel], audio: Path) -> None:
    engine = Batching(held[HEARER].engine)
    engine.go.set()
    settings = ServiceSettings(batch_most=2, batch_wait_s=1)
    with serving({HEARER: replace(held[HEARER], engine=engine)}, settings) as running:
        assert ask(running, HEARER, audio / CLIP)  # nobody comes, and it is answered nevertheless
    assert engine.calls == [(1, None)]
