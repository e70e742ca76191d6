"""Live transcription through the OpenAI client and through a plain WebSocket."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets
from conftest import CALIBRATION
from numpy.typing import NDArray
from openai.resources.realtime.realtime import RealtimeConnection
from service import CLIP, HEARER, SPEAKER, TIMEOUT_S, HeldBack, Running, serving, wait_until
from websockets.sync.client import ClientConnection, connect

from models.audio import decode
from serving.keys import new_key
from serving.served import ServedModel
from serving.settings import ServiceSettings
from serving.turns import Detection, Started, Turn, Turns
from serving.voice_activity import Silero

DONE = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
FAILED = "conversation.item.input_audio_transcription.failed"
RATE = 16_000


def pcm(samples: NDArray[np.float32]) -> bytes:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def heard_as(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def blocks(data: bytes, size: int = 6400) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.fixture(scope="module")
def clip(audio: Path) -> bytes:
    return pcm(decode(audio / CLIP).samples)


@contextmanager
def openai_session(running: Running, **options: Any) -> Iterator[RealtimeConnection]:
    with running.openai().realtime.connect(model=HEARER, extra_query={"intent": "transcription"}, **options) as connection:
        assert connection.recv().type == "session.created"
        yield connection


@contextmanager
def plain_session(running: Running, query: str = f"?model={HEARER}", **options: Any) -> Iterator[ClientConnection]:
    with connect(running.url.replace("http", "ws") + "/v1/realtime" + query, open_timeout=TIMEOUT_S, **options) as live:
        assert receive(live)["type"] == "session.created"
        yield live


def receive(live: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(live.recv(TIMEOUT_S)))


def until(live: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """Read up to an event of a kind."""
    got = [receive(live)]
    while got[-1]["type"] != kind:
        assert got[-1]["type"] != "error" or kind == "error", got[-1]
        got.append(receive(live))
    return got


def update(**sound: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": sound}}}


def send(live: ClientConnection, kind: str, **fields: Any) -> None:
    live.send(json.dumps({"type": kind, **fields}))


def by_hand(live: ClientConnection) -> None:
    """The client ends the turns, and sends 16 kHz."""
    live.send(json.dumps(update(format={"type": "audio/pcm", "rate": RATE}, turn_detection=None)))
    assert receive(live)["type"] == "session.updated"


def test_the_openai_client_hears_turns_found_by_voice_activity(
    service: Running, held: Mapping[str, ServedModel], clip: bytes
) -> None:
    silence = bytes(2 * RATE)
    with openai_session(service) as connection:
        connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": RATE},  # type: ignore[typeddict-item]
                        "transcription": {"model": HEARER, "language": "en"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 700},
                    }
                },
            }
        )
        for block in blocks(silence + clip + silence):
            connection.input_audio_buffer.append(audio=base64.b64encode(block).decode())
        got = []
        for event in connection:
            got.append(event)
            if event.type == DONE:
                break
    kinds = [event.type for event in got if event.type != DELTA]
    assert kinds == [
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        DONE,
    ]
    _, started, stopped, committed, *_ = (event for event in got if event.type != DELTA)
    done = got[-1]
    assert {started.item_id, stopped.item_id, committed.item_id} == {done.item_id}
    assert 500 < started.audio_start_ms < 1400 and 5500 < stopped.audio_end_ms < 7300
    sent = heard_as(silence + clip + silence)
    own = held[HEARER].engine.transcribe(sent[started.audio_start_ms * 16 : stopped.audio_end_ms * 16], language="en")
    assert done.transcript == own.text != ""
    assert done.usage.seconds == pytest.approx((stopped.audio_end_ms - started.audio_start_ms) / 1000)
    raw = [word.probability for word in own.words if word.probability is not None]
    assert done.confidence_raw == own.confidence
    assert done.confidence == pytest.approx(sum(map(CALIBRATION.apply, raw)) / len(raw))


def test_a_turn_that_the_client_ends_is_what_an_upload_gives(
    service: Running, held: Mapping[str, ServedModel], audio: Path, clip: bytes
) -> None:
    with plain_session(service) as live:
        by_hand(live)
        for block in blocks(clip, 5001):  # binary frames that split samples
            live.send(block)
        send(live, "input_audio_buffer.commit")
        got = until(live, DONE)
    uploaded = service.openai().audio.transcriptions.create(file=audio / CLIP, model=HEARER)
    assert got[-1]["transcript"] == uploaded.text
    assert "".join(event["delta"] for event in got if event["type"] == DELTA) == uploaded.text
    assert got[-1]["usage"]["seconds"] == pytest.approx(len(clip) / 2 / RATE)


def test_other_rates_are_resampled(service: Running, held: Mapping[str, ServedModel], audio: Path, clip: bytes) -> None:
    import soxr

    with plain_session(service) as live:
        live.send(json.dumps(update(turn_detection=None)))  # 24 kHz, as OpenAI's
        assert receive(live)["session"]["audio"]["input"]["format"]["rate"] == 24_000
        for block in blocks(pcm(soxr.resample(decode(audio / CLIP).samples, RATE, 24_000))):
            live.send(block)
        send(live, "input_audio_buffer.commit")
        done = until(live, DONE)[-1]
    assert done["transcript"] == held[HEARER].engine.transcribe(heard_as(clip), language=None).text
    assert done["usage"]["seconds"] == pytest.approx(len(clip) / 2 / RATE, abs=0.002)


def test_partial_text_comes_before_the_end_and_only_grows(held: Mapping[str, ServedModel], clip: bytes) -> None:
    with serving(held, ServiceSettings(partial_every_s=0.5)) as running, plain_session(running) as live:
        by_hand(live)
        got: list[dict[str, Any]] = []
        third = len(clip) // 6 * 2
        live.send(clip[:third])
        live.send(clip[third : 2 * third])
        wait_until(lambda: running.queue() == {"running": 0, "waiting": 0})
        # Each further piece lets a partial text be asked for; two that agree are told.
        while not got:
            live.send(bytes(RATE))
            wait_until(lambda: running.queue() == {"running": 0, "waiting": 0})
            try:
                got.append(json.loads(live.recv(0.2)))
            except TimeoutError:
                continue
        assert got[0]["type"] == DELTA and got[0]["delta"].strip()
        send(live, "input_audio_buffer.commit")
        got += until(live, DONE)
    told = "".join(event["delta"] for event in got if event["type"] == DELTA)
    assert got[-1]["transcript"].startswith(got[0]["delta"]) <= (told == got[-1]["transcript"])


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[]", "invalid_json", None),
        ("[" * 50_000, "invalid_json", None),
        ({"type": "response.create"}, "unknown_event", "type"),
        ({"type": 7}, "unknown_event", "type"),
        ({"type": "input_audio_buffer.append"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "*"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None),
        ({"type": "session.update", "session": {"type": "realtime"}}, "unsupported_parameter", "session.type"),
        (update(noise_reduction={"type": "near_field"}), "unsupported_parameter", "session.audio.input.noise_reduction"),
        (update(format={"type": "audio/pcm", "rate": 1}), "invalid_value", "session.audio.input.format.rate"),
        (update(format={"type": "audio/pcmu"}), "invalid_value", "session.audio.input.format.type"),
        (update(turn_detection={"type": "semantic_vad"}), "invalid_value", "session.audio.input.turn_detection.type"),
        (update(transcription={"model": "none"}), "model_not_found", "model"),
        (update(transcription={"model": SPEAKER}), "unsupported_model", "model"),
        (update(transcription={"language": "de"}), "invalid_value", "language"),
        (update(transcription={"keywords": ["a"]}), "unsupported_parameter", "session.audio.input.transcription.keywords"),
    ],
)
def test_what_cannot_be_used_is_an_error_and_the_session_goes_on(
    service: Running, message: object, code: str, param: str | None
) -> None:
    with plain_session(service) as live:
        if isinstance(message, dict):
            message = {**message, "event_id": "mine"}
        live.send(message if isinstance(message, str) else json.dumps(message))
        error = receive(live)
        assert error["type"] == "error"
        assert (error["error"]["code"], error["error"]["param"]) == (code, param)
        assert error["error"]["event_id"] == ("mine" if isinstance(message, dict) else None)
        send(live, "input_audio_buffer.clear")
        assert receive(live)["type"] == "input_audio_buffer.cleared"


def test_a_buffer_that_nobody_commits_is_bounded(held: Mapping[str, ServedModel]) -> None:
    with serving(held, ServiceSettings(max_audio_s=1, partial_every_s=0)) as running, plain_session(running) as live:
        by_hand(live)
        live.send(bytes(2 * RATE))
        live.send(bytes(2))
        assert receive(live)["error"]["code"] == "input_audio_buffer_full"
        send(live, "input_audio_buffer.commit")
        assert until(live, DONE)[-1]["usage"]["seconds"] == 1
        live.send(bytes((1 << 20) + 1))
        assert receive(live)["error"]["code"] == "message_too_large"
        with pytest.raises(websockets.ConnectionClosed) as closed:
            live.recv(TIMEOUT_S)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


def refused(running: Running, query: str = f"?model={HEARER}", **headers: str) -> tuple[int, str]:
    with pytest.raises(websockets.InvalidStatus) as caught, plain_session(running, query, additional_headers=headers):
        pass
    response = caught.value.response
    assert response.headers["x-request-id"]
    error = json.loads(response.body or b"{}")["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"]


def test_who_may_not_connect_is_told_by_status(service: Running) -> None:
    assert refused(service, "?model=none") == (404, "model_not_found")
    assert refused(service, f"?model={SPEAKER}") == (400, "unsupported_model")
    assert refused(service, "?intent=conversation") == (400, "unsupported_parameter")
    assert refused(service, "?surprise=1") == (400, "unsupported_parameter")
    assert refused(service, "?language=de") == (400, "invalid_value")
    # A page of another site in a browser on this machine.
    assert refused(service, Origin="https://attacker.example") == (403, "loopback_only")
    port = int(service.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as there, pytest.raises(websockets.InvalidStatus):
        connect(f"ws://attacker.example:{port}/v1/realtime", sock=there)  # a name that was made to point here
    with plain_session(service, origin=websockets.Origin("http://localhost:8000")):
        pass


def test_sessions_are_counted(held: Mapping[str, ServedModel]) -> None:
    with serving(held, ServiceSettings(max_sessions=1)) as running:
        with plain_session(running), pytest.raises(websockets.InvalidStatus) as caught, plain_session(running):
            pass
        assert caught.value.response.status_code == 503 and int(caught.value.response.headers["retry-after"]) >= 1
        wait_until(lambda: "modellab_live_sessions 0.0" in metrics(running))
        with plain_session(running):
            assert "modellab_live_sessions 1.0" in metrics(running)


def metrics(running: Running) -> str:
    with running.http() as client:
        return client.get("/metrics").text


def test_keys_rates_and_a_key_that_is_taken_back(held: Mapping[str, ServedModel], tmp_path: Path, clip: bytes) -> None:
    path = tmp_path / "keys"
    (ada, ada_line), (bob, bob_line) = new_key("ada"), new_key("bob")
    path.write_text(f"{ada_line}\n{bob_line}\n")
    settings = ServiceSettings(api_keys_file=path, rate_burst=5, rate_per_minute=0.001)
    with serving(held, settings) as running:
        assert refused(running)[1] == "invalid_api_key"
        offered = [websockets.Subprotocol(name) for name in ("realtime", f"openai-insecure-api-key.{bob}")]
        with plain_session(running, subprotocols=offered) as live:
            assert live.subprotocol == "realtime"
        with plain_session(running, additional_headers={"Authorization": f"Bearer {ada}"}) as live:
            by_hand(live)
            for expected in (DONE, DONE, FAILED):  # three connections and two turns from this address
                live.send(clip)
                send(live, "input_audio_buffer.commit")
                last = until(live, expected)[-1]
            assert last["error"]["code"] == "rate_limit_exceeded"
            path.write_text(f"{bob_line}\n")
            assert until(live, "error")[-1]["error"]["code"] == "invalid_api_key"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                live.recv(TIMEOUT_S)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


def test_sessions_end_when_nothing_comes_or_time_is_over(held: Mapping[str, ServedModel]) -> None:
    for settings, code in (
        (ServiceSettings(session_idle_s=0.01), "session_idle"),
        (ServiceSettings(max_session_s=0.01), "session_expired"),
    ):
        with serving(held, settings) as running, openai_session(running) as connection:
            assert [event.error.code for event in connection if event.type == "error"] == [code]  # and a normal end


def test_a_client_that_leaves_frees_its_turn(held: Mapping[str, ServedModel], clip: bytes, log: io.StringIO) -> None:
    engine = HeldBack(held[HEARER].engine)
    model = replace(held[HEARER], engine=engine)
    with serving({HEARER: model}, ServiceSettings(partial_every_s=0, max_sessions=2)) as running:
        with plain_session(running) as first, plain_session(running) as second:
            for live in (first, second):
                by_hand(live)
                live.send(clip)
                send(live, "input_audio_buffer.commit")
            assert engine.began.acquire(timeout=TIMEOUT_S)
            wait_until(lambda: running.queue() == {"running": 1, "waiting": 1})
        wait_until(lambda: running.queue() == {"running": 1, "waiting": 0})  # a call cannot be interrupted
        wait_until(lambda: "modellab_live_sessions 0.0" in metrics(running))
        before = len(log.getvalue())
        engine.go.set()
        wait_until(lambda: running.queue() == {"running": 0, "waiting": 0})
        assert not engine.began.acquire(blocking=False)  # the turn that waited was never heard
        assert "failure" not in log.getvalue()[before:]


def test_an_engine_that_fails_fails_the_turn_alone(held: Mapping[str, ServedModel], clip: bytes, log: io.StringIO) -> None:
    class Broken:
        def transcribe(self, samples: object, *, language: str | None) -> None:
            raise RuntimeError("zebra in the engine")

    before = len(log.getvalue())
    with serving({HEARER: replace(held[HEARER], engine=Broken())}) as running, plain_session(running) as live:
        by_hand(live)
        live.send(clip[:32_000])
        send(live, "input_audio_buffer.commit")
        error = until(live, FAILED)[-1]["error"]
        assert error["code"] == "internal_error" and "zebra" not in error["message"]
        send(live, "input_audio_buffer.clear")
        assert receive(live)["type"] == "input_audio_buffer.cleared"
    assert "zebra" not in log.getvalue()[before:]


def test_the_log_and_the_metrics_tell_of_sessions_without_their_words(
    service: Running, clip: bytes, log: io.StringIO
) -> None:
    before = len(log.getvalue())
    with plain_session(service, additional_headers={"X-Request-ID": "live-1"}) as live:
        assert live.response is not None and live.response.headers["x-request-id"] == "live-1"
        by_hand(live)
        live.send(clip)
        send(live, "input_audio_buffer.commit")
        text = until(live, DONE)[-1]["transcript"]
    wait_until(lambda: '"session"' in log.getvalue()[before:])
    written = log.getvalue()[before:]
    line = next(line for line in map(json.loads, written.splitlines()) if line["event"] == "session")
    assert (line["request_id"], line["route"], line["status"]) == ("live-1", "/v1/realtime", 101)
    assert (line["model"], line["turns"], line["close_code"]) == (HEARER, 1, 1000)
    assert line["audio_s"] == pytest.approx(len(clip) / 2 / RATE)
    assert len(text) > 5 and text not in written
    assert 'modellab_live_turns_total{outcome="completed"}' in metrics(service)
    assert 'route="/v1/realtime",status="101"' in metrics(service)


def test_a_prompt_is_told_as_untested(service: Running, clip: bytes) -> None:
    with plain_session(service) as live:
        by_hand(live)
        live.send(json.dumps(update(transcription={"prompt": "Digits: three, one, four."})))
        assert receive(live)["session"]["audio"]["input"]["transcription"]["prompt"] == "Digits: three, one, four."
        live.send(clip)
        send(live, "input_audio_buffer.commit")
        done = until(live, DONE)[-1]
    assert done["untested"] == ["prompt"] and done["confidence"] is None and done["confidence_raw"] is not None


def test_the_end_of_the_service_lets_turns_be_finished(held: Mapping[str, ServedModel], clip: bytes) -> None:
    engine = HeldBack(held[HEARER].engine)
    with serving({HEARER: replace(held[HEARER], engine=engine)}, ServiceSettings(partial_every_s=0)) as running:
        with plain_session(running) as live:
            by_hand(live)
            live.send(clip)
            send(live, "input_audio_buffer.commit")
            assert engine.began.acquire(timeout=TIMEOUT_S)
            ended = threading.Event()
            running.loop_call(lambda draining: draining._end(ended.set))
            wait_until(lambda: running.app.state.service.draining.begun.is_set())
            assert refused(running) == (503, "too_many_sessions")
            assert not ended.is_set()
            engine.go.set()
            assert until(live, DONE)[-1]["transcript"]
            assert receive(live)["error"]["code"] == "server_shutting_down"
        assert ended.wait(TIMEOUT_S)


class Told:
    """A detector that says what a test tells it."""

    def __init__(self, chances: list[float]) -> None:
        self.chances = chances

    def probability(self, frame: NDArray[np.float32]) -> float:
        return self.chances.pop(0)

    def reset(self) -> None: ...


def numbered(frames: int) -> NDArray[np.float32]:
    return np.arange(frames * 512, dtype=np.float32)


def test_turns_begin_before_speech_and_end_after_silence() -> None:
    turns = Turns(
        Detection(0.5, prefix_padding_ms=64, silence_duration_ms=96), Told([0.1] * 5 + [0.9] * 4 + [0.4] + [0.1] * 9), 30
    )
    happened = [what for part in np.array_split(numbered(19), 7) for what in turns.add(part)]
    started, turn = happened
    assert isinstance(started, Started) and isinstance(turn, Turn)
    assert started.at == 3 * 512  # two frames before the first of speech
    assert turn.end == 13 * 512  # 0.4 is above the threshold's lower edge; three frames of silence end it
    assert np.array_equal(turn.samples, numbered(19)[started.at : turn.end])


def test_a_click_begins_nothing() -> None:
    turns = Turns(Detection(), Told([0.9, 0.9, 0.1] * 10), 30)
    assert turns.add(numbered(30)) == [] and turns.commit() is None


def test_a_long_turn_is_cut_where_speech_is_least_likely_and_nothing_is_lost() -> None:
    chances = [0.9] * 28 + [0.45] + [0.9] * 8
    turns = Turns(Detection(prefix_padding_ms=0), Told(chances), max_s=1.024)  # 32 frames
    happened = turns.add(numbered(37))
    last = turns.commit()
    assert last is not None
    (first,) = (what for what in happened if isinstance(what, Turn))
    assert first.end == 29 * 512
    assert np.array_equal(np.concatenate([first.samples, last.samples]), numbered(37))


def test_silence_and_noise_begin_no_turn_and_speech_does(audio: Path) -> None:
    def found(name: str) -> list[Started | Turn]:
        return Turns(Detection(), Silero(), 30).add(decode(audio / name).samples)

    assert found("nonspeech-silence.flac") == []
    assert isinstance(found(CLIP)[0], Started)
