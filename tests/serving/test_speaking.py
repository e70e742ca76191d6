"""Speech through the OpenAI client: every format decodes to what the engine said."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import openai
import pytest
import soundfile
from numpy.typing import NDArray
from service import HEARER, SPEAKER, HeldBack, Running, serving, wait_until

from serving.encoding import encoder
from serving.served import ServedModel

TEXT = "The lamp is on the table. It was lit at seven."


def samples_of(data: bytes, form: str) -> tuple[NDArray[np.float32], int]:
    if form == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768, 24_000
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples, rate


@pytest.mark.parametrize("form", ["wav", "pcm", "flac", "mp3", "opus"])
def test_every_format_decodes_to_the_engines_speech(service: Running, held: Mapping[str, ServedModel], form: str) -> None:
    expected = held[SPEAKER].engine.synthesize(TEXT, voice="heart", speed=1.25)
    answer = service.openai().audio.speech.create(
        model=SPEAKER,
        input=TEXT,
        voice="heart",
        response_format=form,
        speed=1.25,  # type: ignore[arg-type]
    )
    samples, rate = samples_of(answer.content, form)
    assert rate == expected.sample_rate_hz or form == "opus"
    assert len(samples) / rate == pytest.approx(expected.duration_s, abs=0.15)  # an MP3 encoder pads
    if form in ("wav", "pcm", "flac"):
        assert np.abs(samples - expected.samples).max() <= 1.01 / 32767
    else:
        short = samples[: len(expected.samples)]
        assert np.corrcoef(_loudness(short), _loudness(expected.samples[: len(short)]))[0, 1] > 0.9


def _loudness(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    frames = samples[: len(samples) // 4800 * 4800].reshape(-1, 4800)
    return np.sqrt((frames**2).mean(axis=1))


@pytest.mark.parametrize("form", ["wav", "pcm", "flac", "mp3", "opus"])
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_rates_that_a_format_lacks_are_resampled(form: str, rate: int) -> None:
    tone = np.sin(np.arange(3 * rate) * 2 * np.pi * 440 / rate).astype(np.float32) * 0.3
    encoding = encoder(form, rate)
    data = b"".join(encoding.add(part) for part in np.array_split(tone, 7)) + encoding.end()
    samples, got = samples_of(data, form)
    assert len(samples) / got == pytest.approx(3, abs=0.15)
    middle = samples[got : 2 * got]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(440, abs=2)  # one second: a bin is 1 Hz


def test_the_first_sentence_is_sent_before_the_last_is_computed(held: Mapping[str, ServedModel]) -> None:
    engine = HeldBack(held[SPEAKER].engine)
    with serving({SPEAKER: replace(held[SPEAKER], engine=engine)}) as running:
        request = {"model": SPEAKER, "input": TEXT, "voice": "heart", "response_format": "wav"}
        with running.http() as client, client.stream("POST", "/v1/audio/speech", json=request) as answer:
            blocks = answer.iter_bytes()
            first = next(blocks)
            assert first.startswith(b"RIFF") and engine.pieces == 1
            engine.go.set()
            data = first + b"".join(blocks)
    assert engine.pieces > 1
    assert len(samples_of(data, "wav")[0]) == len(held[SPEAKER].engine.synthesize(TEXT).samples)


def test_a_client_that_leaves_ends_the_speech(held: Mapping[str, ServedModel]) -> None:
    engine = HeldBack(held[SPEAKER].engine)
    with serving({SPEAKER: replace(held[SPEAKER], engine=engine)}) as running:
        request = {"model": SPEAKER, "input": TEXT * 5, "voice": "heart", "response_format": "pcm"}
        with running.http() as client, client.stream("POST", "/v1/audio/speech", json=request) as answer:
            next(answer.iter_bytes())
        wait_until(lambda: running.queue()["waiting"] == 0 and len(_spoken(running)) == 1)
        engine.go.set()
        wait_until(lambda: running.queue()["running"] == 0)
    assert engine.pieces <= 2 < sum(1 for _ in held[SPEAKER].engine.stream(TEXT * 5))


def _spoken(running: Running) -> list[str]:
    with running.http() as client:
        lines = client.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith("modellab_requests_total") and "/speech" in line]


def test_voices_are_listed(service: Running) -> None:
    with service.http() as client:
        listed = client.get("/v1/audio/voices").json()["voices"]
        assert [(voice["id"], voice["model"]) for voice in listed] == [("heart", SPEAKER)]
        assert client.get("/v1/audio/voices", params={"model": SPEAKER}).json()["voices"] == listed
        assert client.get("/v1/audio/voices", params={"model": HEARER}).json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"voice": "alloy"}, "voice"),
        ({"response_format": "aac"}, "response_format"),
        ({"speed": 4.0}, "input"),  # the API has it, this voice has not
        ({"speed": 9.0}, "speed"),
        ({"instructions": "Whisper."}, "instructions"),
        ({"extra_body": {"stream_format": "sse"}}, "stream_format"),
        ({"input": " \n"}, "input"),
        ({"input": "a" * 4097}, "input"),
        ({"input": "bell\x07"}, "input"),
        ({"input": "漢字"}, "input"),
        ({"model": HEARER}, "model"),
    ],
)
def test_what_cannot_be_spoken_is_refused_by_name(service: Running, options: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        service.openai().audio.speech.create(**{"model": SPEAKER, "input": TEXT, "voice": "heart", **options})  # type: ignore[arg-type]
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"model": "hibari", "input": "\\ud800", "voice": "heart"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b" " * 200_000, "application/json", 413),
        (b"model=hibari", "application/x-www-form-urlencoded", 415),
        (b'{"input": "a"}', "application/json", 400),
    ],
)
def test_bodies_that_are_no_request(service: Running, content: bytes, kind: str, status: int) -> None:
    with service.http() as client:
        answer = client.post("/v1/audio/speech", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
