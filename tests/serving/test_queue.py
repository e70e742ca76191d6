"""The bounded queue on a real server: who does not fit is told at once, and who leaves makes room."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from service import CLIP, HEARER, SPEAKER, HeldBack, Running, serving, wait_until

from models.audio import decode
from serving.served import ServedModel
from serving.settings import ServiceSettings


def ask(running: Running, path: Path) -> str:
    return running.openai().audio.transcriptions.create(file=path, model=HEARER, language="en").text


def state(running: Running, running_: int, waiting: int) -> bool:
    return running.queue() == {"running": running_, "waiting": waiting}


def test_a_full_queue_answers_503_and_recovers(held: Mapping[str, ServedModel], audio: Path) -> None:
    engine = HeldBack(held[HEARER].engine)
    settings = ServiceSettings(running=1, waiting=1)
    with serving({HEARER: replace(held[HEARER], engine=engine)}, settings) as running, ThreadPoolExecutor(3) as clients:
        first = clients.submit(ask, running, audio / CLIP)
        assert engine.began.acquire(timeout=60)
        second = clients.submit(ask, running, audio / CLIP)
        wait_until(lambda: state(running, 1, 1))
        with pytest.raises(openai.InternalServerError) as caught:
            ask(running, audio / CLIP)
        assert (caught.value.status_code, caught.value.code) == (503, "queue_full")
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
        engine.go.set()
        text = held[HEARER].engine.transcribe(decode(audio / CLIP).samples, language="en").text
        assert [first.result(60), second.result(60), ask(running, audio / CLIP)] == [text] * 3


@pytest.mark.parametrize(("others", "at_once"), [({}, 2), ({SPEAKER: 1}, 1), ({SPEAKER: 3}, 2)])
def test_as_many_calls_run_at_once_as_every_model_gains_from(
    others: Mapping[str, int], at_once: int, held: Mapping[str, ServedModel], audio: Path
) -> None:
    engine = HeldBack(held[HEARER].engine)
    models = {name: replace(held[name], calls=calls) for name, calls in others.items()}
    models[HEARER] = replace(held[HEARER], engine=engine, calls=2)
    with serving(models, ServiceSettings()) as running, ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(ask, running, audio / CLIP) for _ in range(3)]
        wait_until(lambda: state(running, at_once, 3 - at_once))
        engine.go.set()
        assert len({one.result(60) for one in asked}) == 1


def test_a_turn_that_does_not_come_ends_with_503(held: Mapping[str, ServedModel], audio: Path) -> None:
    engine = HeldBack(held[HEARER].engine)
    settings = ServiceSettings(running=1, waiting=2, max_wait_s=0.05)
    with serving({HEARER: replace(held[HEARER], engine=engine)}, settings) as running, ThreadPoolExecutor(1) as clients:
        first = clients.submit(ask, running, audio / CLIP)
        assert engine.began.acquire(timeout=60)
        with pytest.raises(openai.InternalServerError) as caught:
            ask(running, audio / CLIP)
        assert (caught.value.status_code, caught.value.code) == (503, "queue_timeout")
        engine.go.set()
        assert first.result(60)


def test_a_client_that_leaves_frees_its_place(held: Mapping[str, ServedModel], audio: Path) -> None:
    engine = HeldBack(held[HEARER].engine)
    settings = ServiceSettings(running=1, waiting=1)
    with serving({HEARER: replace(held[HEARER], engine=engine)}, settings) as running, ThreadPoolExecutor(3) as clients:
        first = clients.submit(ask, running, audio / CLIP)
        assert engine.began.acquire(timeout=60)
        leave = threading.Event()
        leaver = clients.submit(_ask_and_leave, running, audio / CLIP, leave)
        wait_until(lambda: state(running, 1, 1))
        leave.set()
        leaver.result(60)
        wait_until(lambda: state(running, 1, 0))
        third = clients.submit(ask, running, audio / CLIP)
        wait_until(lambda: state(running, 1, 1))
        engine.go.set()
        assert first.result(60) == third.result(60)
        assert not engine.began.acquire(blocking=False) or not engine.began.acquire(blocking=False)  # one call more, not two
        wait_until(lambda: state(running, 0, 0))


def test_a_turn_whose_client_left_ends_with_the_call(held: Mapping[str, ServedModel], audio: Path) -> None:
    engine = HeldBack(held[HEARER].engine)
    with serving({HEARER: replace(held[HEARER], engine=engine)}, ServiceSettings(waiting=2)) as running:
        leave = threading.Event()
        with ThreadPoolExecutor(1) as clients:
            leaver = clients.submit(_ask_and_leave, running, audio / CLIP, leave)
            assert engine.began.acquire(timeout=60)
            leave.set()
            leaver.result(60)
        wait_until(lambda: state(running, 1, 0))  # an engine call cannot be interrupted, so its turn is not given away
        engine.go.set()
        wait_until(lambda: state(running, 0, 0))
        assert ask(running, audio / CLIP)


def _ask_and_leave(running: Running, path: Path, leave: threading.Event) -> None:
    """Send a request whole, and hang up instead of waiting for the answer."""
    import socket

    import httpx2

    request = httpx2.Request(
        "POST",
        f"{running.url}/v1/audio/transcriptions",
        files={"file": ("a.flac", path.read_bytes())},
        data={"model": HEARER},
    )
    head = f"POST {request.url.path} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in request.headers.items()
    )
    with socket.create_connection(("127.0.0.1", request.url.port or 0), 60) as connection:
        connection.sendall(head.encode() + b"\r\n" + request.read())
        assert leave.wait(60)
