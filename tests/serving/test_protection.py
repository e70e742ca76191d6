"""Who is served, how much, how often; hostile uploads; and what the log does not say."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
from service import CLIP, HEARER, SPEAKER, HeldBack, Running, serving, wait_until

from models.errors import StateError
from serving.keys import KeyFile, new_key
from serving.rates import Rates
from serving.served import ServedModel
from serving.settings import ServiceSettings, read_settings

FIELDS = ("message", "type", "param", "code")


def upload(running: Running, data: bytes, name: str = "a.wav", **fields: str) -> Any:
    with running.http() as client:
        return client.post("/v1/audio/transcriptions", files={"file": (name, data)}, data={"model": HEARER, **fields})


def wav(seconds: float, rate: int = 16_000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((int(seconds * rate), channels), np.int16), rate, format="WAV")
    return file.getvalue()


def lying_wav(size: int) -> bytes:
    """A head that declares more than there is."""
    honest = wav(1)
    return honest[:40] + struct.pack("<I", size) + honest[44:]


def bomb(seconds: int) -> bytes:
    """Silence that packs to a thousandth."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16_000, 1, format="FLAC", subtype="PCM_16") as out:
        for _ in range(seconds // 60):
            out.write(np.zeros(60 * 16_000, np.int16))
    return file.getvalue()


def nan_wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(16_000, np.nan, np.float32), 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


HOSTILE = {
    "empty": b"",
    "no audio": b"hello " * 1000,
    "a zip": b"PK\x03\x04" + bytes(5000),
    "only a head": wav(1)[:44],
    "half a head": wav(1)[:20],
    "cut short": wav(10)[: 44 + 16_000],
    "ten hours by its head": lying_wav(36_000 * 32_000),
    "more than there is": lying_wav(320_000),
    "too long": bomb(960),
    "no numbers": nan_wav(),
    "many channels": wav(0.5, channels=9),
    "a rate of 1 Hz": wav(1)[:24] + struct.pack("<II", 1, 2) + wav(1)[32:],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_uploads_are_refused(service: Running, what: str) -> None:
    answer = upload(service, HOSTILE[what])
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("file", "invalid_audio")


@pytest.mark.parametrize("name", ["../../../../tmp/evil.wav", "/etc/passwd", "C:\\x.wav", "a\nb.wav", "x" * 2000, "aux.py"])
def test_a_files_name_changes_nothing(service: Running, audio: Path, name: str) -> None:
    plain = upload(service, (audio / CLIP).read_bytes()).json()
    assert upload(service, (audio / CLIP).read_bytes(), name).json() == plain


def test_requests_that_are_no_upload(service: Running, audio: Path) -> None:
    clip = (audio / CLIP).read_bytes()
    with service.http() as client:

        def post(**options: Any) -> tuple[int, str | None]:
            answer = client.post("/v1/audio/transcriptions", **options)
            error = answer.json()["error"]
            assert set(error) == set(FIELDS)
            return answer.status_code, error["code"]

        file = {"file": ("a.flac", clip)}
        multipart = {"Content-Type": "multipart/form-data; boundary=x"}
        assert post(json={"model": HEARER}) == (415, "unsupported_media_type")
        assert post(content=b"nothing", headers=multipart) == (400, "invalid_form")
        assert post(content=b"nothing", headers={"Content-Type": "multipart/form-data"}) == (400, "invalid_form")
        assert post(files=file) == (400, "missing_required_parameter")
        assert post(files={"other": ("a", b"")}) == (400, "invalid_value")
        assert post(data={"model": HEARER}, files={"x": (None, "y")}) == (400, "unsupported_parameter")
        assert post(files=file, data={"model": "whisper-9"}) == (404, "model_not_found")
        assert post(files=[("file", ("a", clip)), ("file", ("b", clip))], data={"model": HEARER}) == (400, "invalid_form")
        assert post(files=file, data={"model": HEARER, "surprise": "1"}) == (400, "unsupported_parameter")
        assert post(files=file, data={"model": [HEARER, HEARER]}) == (400, "invalid_value")
        assert post(files=file, data={"model": "m" * 70_000}) == (400, "invalid_form")
        assert post(files=file, data={f"field{i}": "1" for i in range(50)}) == (400, "invalid_form")


def test_other_addresses_and_methods_have_errors_of_the_same_form(service: Running) -> None:
    with service.http() as client:
        for method, path, status in (
            ("GET", "/nowhere", 404),
            ("DELETE", "/v1/models", 405),
            ("GET", "/v1/models/none", 404),
            ("GET", "/v1/audio/voices?model=none", 404),
        ):
            answer = client.request(method, path)
            assert answer.status_code == status
            assert set(answer.json()["error"]) == set(FIELDS)
    with pytest.raises(openai.NotFoundError) as caught:
        service.openai().models.retrieve("none")
    assert caught.value.code == "model_not_found"


def test_too_large_is_refused_declared_or_not(held: Mapping[str, ServedModel]) -> None:
    with serving(held, ServiceSettings(max_upload_bytes=100_000)) as running, running.http() as client:
        declared = upload(running, bytes(2_000_000))
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        blocks = iter([head, *[bytes(10_000)] * 30])
        chunked = client.post("/v1/audio/transcriptions", content=blocks, headers=form)
        for answer in (declared, chunked):
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        assert upload(running, wav(1)).status_code == 200
        with pytest.raises(openai.APIStatusError) as caught:
            running.openai().audio.transcriptions.create(file=("a.wav", bytes(200_000)), model=HEARER)
        assert caught.value.status_code == 413


def test_an_upload_that_does_not_end_is_given_up(held: Mapping[str, ServedModel]) -> None:
    with serving(held, ServiceSettings(max_upload_s=0.05, waiting=0)) as running:
        with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), 60) as slow:
            slow.sendall(
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n"
            )
            answer = b""
            while b"upload_timeout" not in answer:
                block = slow.recv(4096)
                assert block, answer
                answer += block
        assert b" 408 " in answer
        wait_until(lambda: running.queue()["waiting"] == 0)


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.1", "2001:db8::1"])
def test_without_keys_other_machines_are_refused(service: Running, address: str) -> None:
    # uvicorn takes the address from a proxy on this machine.
    with service.http(headers={"X-Forwarded-For": address}) as client:
        for path in ("/v1/models", "/healthz", "/metrics", "/docs"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "loopback_only")


def test_without_keys_a_name_that_was_made_to_point_here_is_refused(service: Running) -> None:
    with service.http() as client:
        assert client.get("/v1/models", headers={"Host": "attacker.example"}).status_code == 403
        assert client.get("/v1/models", headers={"Host": "localhost:1"}).status_code == 200


def test_keys_open_the_service_and_can_be_taken_back(held: Mapping[str, ServedModel], tmp_path: Path) -> None:
    path = tmp_path / "keys"
    (ada, ada_line), (bob, bob_line) = new_key("ada"), new_key("bob")
    path.write_text(f"# who may ask\n{ada_line}\n{bob_line}  # until June\n")
    assert ada not in path.read_text()
    with serving(held, ServiceSettings(api_keys_file=path)) as running:
        for key in (ada, bob):
            assert [model.id for model in running.openai(key).models.list()] == [HEARER, SPEAKER]
        with running.http() as client:
            elsewhere = {"X-Forwarded-For": "192.0.2.7", "Host": "speech.example"}
            assert client.get("/v1/models", headers={**elsewhere, "Authorization": f"Bearer {ada}"}).status_code == 200
            for header in ({}, {"Authorization": ada}, {"Authorization": f"Basic {ada}"}, {"Authorization": "Bearer"}):
                answer = client.get("/v1/models", headers=header)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get("/metrics").status_code == 401
            assert client.get("/readyz").status_code == 200
            digest = hashlib.sha256(ada.encode()).hexdigest()  # what the file holds opens nothing
            assert client.get("/v1/models", headers={"Authorization": f"Bearer {digest}"}).status_code == 401
        path.write_text(f"{bob_line}\n")
        with pytest.raises(openai.AuthenticationError) as caught:
            running.openai(ada).models.list()
        assert caught.value.code == "invalid_api_key"
        assert running.openai(bob).models.list()
        path.write_text("not a key\n")
        with pytest.raises(openai.InternalServerError, match="cannot be checked"):
            running.openai(bob).models.list()
        path.write_text("")
        with pytest.raises(openai.AuthenticationError):
            running.openai(bob).models.list()


def test_a_wrong_key_is_told_before_the_upload_is_judged(held: Mapping[str, ServedModel], tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(new_key("ada")[1])
    with serving(held, ServiceSettings(api_keys_file=path)) as running, pytest.raises(openai.AuthenticationError):
        running.openai("wrong").audio.transcriptions.create(file=("a.wav", bytes(3_000_000)), model=HEARER)


@pytest.mark.parametrize("text", ["ada", "ada 12", "ada zz", f"a b {'0' * 64}", f"a {'0' * 64}\na {'1' * 64}"])
def test_a_keys_file_that_is_wrong_is_named_by_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(StateError, match=r"Line \d of the keys file") as caught:
        KeyFile(path)
    assert text not in str(caught.value)
    with pytest.raises(StateError, match="cannot be read"):
        KeyFile(tmp_path / "none")
    with pytest.raises(StateError, match="cannot be named"):
        new_key("a b")


def test_a_bucket_empties_and_fills() -> None:
    now = [0.0]
    rates = Rates(per_minute=60, burst=2, clock=lambda: now[0])
    assert [rates.take("a"), rates.take("a"), rates.take("b")] == [0, 0, 0]
    assert rates.take("a") == 1.0
    now[0] = 0.75
    assert rates.take("a") == pytest.approx(0.25)
    now[0] = 1.0
    assert rates.take("a") == 0
    now[0] = 1000.0
    assert [rates.take("a"), rates.take("a"), rates.take("a")] == [0, 0, 1.0]


def test_who_asks_too_often_is_told_when_to_come_back(held: Mapping[str, ServedModel], tmp_path: Path) -> None:
    settings = ServiceSettings(rate_per_minute=0.01, rate_burst=2)
    with serving(held, settings) as running, running.http() as client:
        answers = [client.get("/v1/models") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answers[2].headers["retry-after"]) > 60
        assert client.get("/readyz").status_code == 200
        other = {"X-Forwarded-For": "127.0.0.2"}
        assert client.get("/v1/models", headers=other).status_code == 200
    path = tmp_path / "keys"
    key, line = new_key("ada")
    path.write_text(line)
    with serving(held, settings.model_copy(update={"api_keys_file": path})) as running, running.http() as client:
        seen = [
            client.get(
                "/v1/models", headers={"Authorization": f"Bearer {key}", "X-Forwarded-For": f"192.0.2.{i}"}
            ).status_code
            for i in range(3)
        ]
    assert seen == [200, 200, 429]


def test_the_log_has_no_text_no_key_and_no_file_name(service: Running, log: io.StringIO, audio: Path) -> None:
    before = len(log.getvalue())
    client = service.openai("ml-secret-key")
    heard = client.audio.transcriptions.create(file=("patient-name.flac", (audio / CLIP).read_bytes()), model=HEARER)
    client.audio.speech.create(model=SPEAKER, input="The zebra crosses.", voice="heart")
    with pytest.raises(openai.BadRequestError):
        client.audio.speech.create(model=SPEAKER, input="zebra 漢", voice="heart")
    with service.http() as http:
        http.get("/zebra", params={"q": "zebra"}, headers={"X-Request-ID": "mine-1"})
        http.get("/v1/models/zebra", headers={"X-Request-ID": "zebra\tzebra"})
    wait_until(lambda: log.getvalue()[before:].count("\n") >= 5)  # a line is written after its answer
    written = log.getvalue()[before:]
    lines = [json.loads(line) for line in written.splitlines()]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/audio/transcriptions", 200),
        ("/v1/audio/speech", 200),
        ("/v1/audio/speech", 400),
        ("other", 404),
        ("/v1/models/{name}", 404),
    ]
    assert lines[0]["model"] == HEARER and lines[0]["audio_s"] > 5 and lines[1]["characters"] == 18
    assert lines[3]["request_id"] == "mine-1"
    for secret in (heard.text, "zebra", "漢", "\\u6f22", "secret", "patient"):
        assert secret not in written


def test_an_engine_that_fails_is_a_500_without_details(held: Mapping[str, ServedModel], log: io.StringIO) -> None:
    class Broken:
        def transcribe(self, samples: object, *, language: str | None) -> None:
            raise RuntimeError("zebra in the engine")

    before = len(log.getvalue())
    with serving({HEARER: replace(held[HEARER], engine=Broken())}) as running:
        answer = upload(running, wav(1))
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert upload(running, wav(1)).status_code == 500  # its turn was given back
        assert running.queue() == {"running": 0, "waiting": 0}
    written = log.getvalue()[before:]
    assert "zebra" not in answer.text + written
    failure = next(line for line in map(json.loads, written.splitlines()) if line["event"] == "failure")
    assert failure["error"] == "RuntimeError" and "test_protection.py" in failure["where"]
    assert failure["request_id"] == answer.headers["x-request-id"]


def test_settings_come_from_the_environment() -> None:
    assert read_settings({"MODELLAB_SERVE_RUNNING": "2", "MODELLAB_SERVE_WAITING": "", "OTHER": "1"}).running == 2
    with pytest.raises(StateError, match="MODELLAB_SERVE_RUNNING is 'many'"):
        read_settings({"MODELLAB_SERVE_RUNNING": "many"})
    with pytest.raises(StateError, match="no setting MODELLAB_SERVE_RUNING"):
        read_settings({"MODELLAB_SERVE_RUNING": "2"})


def test_a_cold_model_is_not_served(held: Mapping[str, ServedModel]) -> None:
    engine = HeldBack(held[HEARER].engine)
    cold = ServedModel(held[HEARER].card, held[HEARER].fingerprints, engine)
    with serving({HEARER: cold}) as running, running.http() as client:
        assert engine.began.acquire(timeout=60)  # the warm-up is under way
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["models"]) == (503, [HEARER])
        assert client.get("/livez").status_code == 200
        refused = upload(running, wav(1))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_loading")
        assert int(refused.headers["retry-after"]) >= 1
        engine.go.set()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert upload(running, wav(1)).status_code == 200
