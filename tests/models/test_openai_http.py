"""A server with the OpenAI API is heard as if it were here, and what goes wrong with one is said."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from models.audio import decode
from models.backoff import Clock
from models.capabilities import Transcriber
from models.card import ModelCard
from models.engine import Placement, build_engine, placement_of
from models.engines._languages import CODES, code_of
from models.engines._openai_answers import AnsweredTranscript, transcript_of
from models.engines._openai_audio import open_wav, packed, samples_of
from models.engines._openai_service import ATTEMPTS
from models.engines.openai_http import IDENTITY_ATTEMPTS, OpenAICompatible, OpenAIDecoding
from models.errors import EngineError
from models.fingerprint import model_fingerprint
from models.types import Segment, Transcript, Word
from models.weights import fetch
from tests.models.openai_server import MODEL, OpenAIServer, body, dripping, endless, serving, status, wav_head

MINUTE = np.zeros(60 * 16_000, np.float32)
SECOND = MINUTE[:16_000]
SPOKEN = Transcript(
    text="one two. three.",
    segments=(
        Segment(
            text="one two.",
            start_s=0.0,
            end_s=1.0,
            words=(Word(text="one", start_s=0.0, end_s=0.4), Word(text="two.", start_s=0.5, end_s=1.0)),
            avg_logprob=-0.2,
            no_speech_probability=0.01,
            compression_ratio=0.8,
        ),
        Segment(
            text="three.", start_s=1.0, end_s=2.0, words=(Word(text="three.", start_s=1.2, end_s=1.9),), avg_logprob=-0.4
        ),
    ),
    language="en",
)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(OpenAIServer()) as running:
        yield running


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none is made."""
    asked: list[float] = []
    monkeypatch.setattr(OpenAICompatible, "clock", Clock(pause=asked.append))
    return asked


@pytest.fixture
def client(server: OpenAIServer, pauses: list[float]) -> Callable[..., OpenAICompatible]:
    """An engine at the server; keyword arguments are the card's."""

    def make(decoding: OpenAIDecoding | None = None, **args: Any) -> OpenAICompatible:
        placement = Placement("remote", "remote", 1)
        arguments = {"base_url": server.url, "model": MODEL, **args}
        return OpenAICompatible(Path("nowhere"), placement, decoding or OpenAIDecoding(), **arguments)

    return make


Client = Callable[..., OpenAICompatible]


@pytest.mark.real
@pytest.mark.parametrize("upload", ["flac", "wav"])
@pytest.mark.parametrize("name", ["lj-lj001-0002.flac", "nonspeech-noise2.wav"])
def test_a_transcript_through_http_is_that_of_the_engine_behind(
    name: str,
    upload: str,
    server: OpenAIServer,
    client: Client,
    engine: Callable[..., Transcriber],
    clip: Callable[[str], NDArray[np.float32]],
) -> None:
    behind = engine("faster-whisper-tiny.en")
    server.hear = lambda samples, language: behind.transcribe(samples, language=language)
    samples = clip(name)
    there = client(upload=upload).transcribe(samples, language="en")
    assert there.text == behind.transcribe(samples, language="en").text
    # What was resampled is finer than 16 bits; with what is sent, times and probabilities are the same too.
    sent = (np.rint(samples * 32768) / 32768).astype(np.float32)
    assert there == behind.transcribe(sent, language="en")
    (_, content), *more = server.seen
    assert not more
    assert content["filename"] == f"recording.{upload}"
    assert (content["model"], content["language"], content["temperature"]) == ([MODEL], ["en"], ["0.0"])


def test_openais_own_form_puts_its_words_into_their_segments(server: OpenAIServer, client: Client) -> None:
    server.style, server.hear = "openai", lambda samples, language: SPOKEN
    heard = client().transcribe(SECOND, language=None)
    assert heard == SPOKEN
    assert heard.confidence is None
    assert heard.language == "en"  # it said "english"


def test_probabilities_of_words_make_the_confidence_unless_the_server_has_its_own(
    server: OpenAIServer, client: Client
) -> None:
    words = [
        {"word": " a", "start": 0, "end": 1, "probability": 0.5},
        {"word": " b", "start": 1, "end": 2, "probability": 1},
    ]
    segment = {"text": "a b", "start": 0, "end": 2, "words": words}
    answer = {"text": "a b", "language": "de", "segments": [segment]}
    server.faults = [status(200, answer), status(200, {**answer, "confidence": 0.25})]
    engine = client()
    first = engine.transcribe(SECOND, language=None)
    assert (first.confidence, first.language) == (0.75, "de")
    assert [word.text for word in first.words] == ["a", "b"]
    assert engine.transcribe(SECOND, language=None).confidence == 0.25


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"text": " x "}, Transcript(text="x")),
        ({"text": ""}, Transcript(text="")),
        ({"text": "", "segments": [{"text": " ", "start": 0, "end": 1}]}, Transcript(text="")),
        ({"text": "x", "language": "Klingon"}, Transcript(text="x")),
        ({"text": "x", "segments": [], "words": []}, Transcript(text="x")),
        (
            {"text": "x", "words": [{"word": "x", "start": 1, "end": 2}]},
            Transcript(
                text="x",
                segments=(Segment(text="x", start_s=1, end_s=2, words=(Word(text="x", start_s=1, end_s=2),)),),
            ),
        ),
        (
            {"text": "x", "segments": [{"text": "x", "start": 0, "end": 1, "avg_logprob": math.nan, "no_speech_prob": 1.5}]},
            Transcript(text="x", segments=(Segment(text="x", start_s=0, end_s=1, no_speech_probability=1.0),)),
        ),
    ],
)
def test_answers_that_say_less(answer: dict[str, Any], expected: Transcript) -> None:
    assert transcript_of(AnsweredTranscript.model_validate(answer), None, None) == expected


@pytest.mark.parametrize(
    ("formats", "granularities", "tried"),
    [({"json"}, True, 3), ({"verbose_json", "json"}, False, 2), ({"verbose_json", "json"}, True, 1)],
)
def test_a_server_that_knows_less_is_asked_for_less_from_then_on(
    formats: set[str], granularities: bool, tried: int, server: OpenAIServer, client: Client
) -> None:
    server.formats, server.granularities, server.hear = frozenset(formats), granularities, lambda samples, language: SPOKEN
    engine = client()
    assert engine.transcribe(SECOND, language="en").text == SPOKEN.text
    assert len(server.seen) == tried
    engine.transcribe(SECOND, language="en")
    assert len(server.seen) == tried + 1


def test_without_word_times_none_are_asked_for(server: OpenAIServer, client: Client) -> None:
    client(OpenAIDecoding(word_timestamps=False, prompt="Names.")).transcribe(SECOND, language=None)
    (_, content) = server.seen[0]
    assert content["response_format"] == ["verbose_json"]
    assert content["prompt"] == ["Names."]
    assert not {"timestamp_granularities[]", "language"} & content.keys()


def test_a_call_that_is_wrong_in_any_form_says_what_the_server_said(server: OpenAIServer, client: Client) -> None:
    server.always = status(400, "Audio is too short.")
    with pytest.raises(EngineError, match=r"/v1/audio/transcriptions answers 400: Audio is too short\."):
        client().transcribe(SECOND, language=None)


def test_no_samples_ask_nobody(server: OpenAIServer, client: Client) -> None:
    assert client().transcribe(SECOND[:0], language="en") == Transcript(text="", language="en")
    assert not server.seen


def test_translation(server: OpenAIServer, client: Client) -> None:
    heard = client().translate(SECOND, language="de", target="en")
    assert (heard.text, heard.language) == ("heard", "en")
    assert server.seen[0][0] == "audio/translations"
    with pytest.raises(EngineError, match="does not translate into 'fr'"):
        client().translate(SECOND, language="de", target="fr")


def test_a_busy_server_gets_the_pause_it_asks_for(server: OpenAIServer, client: Client, pauses: list[float]) -> None:
    server.faults = [status(429, "Slow down.", Retry_After="7"), status(503), status(429, Retry_After="3600")]
    assert client().transcribe(SECOND, language=None).text == "heard"
    assert pauses[0] == 7.0
    assert pauses[2] == 60.0
    assert len(pauses) == 3


@pytest.mark.parametrize(
    ("said", "passed_on"),
    [
        ({"error": {"message": "no such model"}}, ": no such model."),
        ({"error": "no such model"}, ": no such model."),
        ({"detail": [{"msg": "field required"}]}, ': [{"msg": "field required"}].'),
        ({"message": "x"}, ': {"message":"x"}.'),
        ({"error": {"message": "x" * 1000}}, f": {'x' * 300}."),
    ],
)
def test_what_the_server_complains_about_is_passed_on(
    said: Any, passed_on: str, server: OpenAIServer, client: Client
) -> None:
    server.always = status(404, said)
    with pytest.raises(EngineError) as caught:
        client().transcribe(SECOND, language=None)
    assert caught.value.message.endswith(f"/audio/transcriptions answers 404{passed_on}")


def test_a_broken_server_is_given_up(server: OpenAIServer, client: Client, pauses: list[float]) -> None:
    server.always = status(500, {"detail": "out of memory"})
    with pytest.raises(EngineError) as caught:
        client().transcribe(SECOND, language=None)
    assert f"{server.url}/audio/transcriptions answers 500: out of memory, {ATTEMPTS} times" in caught.value.message
    assert len(server.seen) == ATTEMPTS
    assert len(pauses) == ATTEMPTS - 1
    assert all(before < after for before, after in zip(pauses, pauses[2:], strict=False))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<html>", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"[]", "as a whole"),
        (b'{"text": 7}', "text: Input should be a valid string"),
        (b'{"text": "x", "segments": [{"text": "x", "start": NaN, "end": 1}]}', "segments.0.start"),
        (b'{"text": "\xff"}', "Invalid JSON"),
    ],
)
def test_an_answer_that_is_none_is_an_error(content: bytes, found: str, server: OpenAIServer, client: Client) -> None:
    server.always = body(content)
    with pytest.raises(EngineError) as caught:
        client().transcribe(SECOND, language=None)
    assert found in caught.value.message
    assert server.url in caught.value.message
    assert len(server.seen) == 1


def test_an_answer_without_end_is_cut(server: OpenAIServer, client: Client) -> None:
    server.always = endless
    with pytest.raises(EngineError, match="sends more than 16777216 bytes"):
        client().transcribe(SECOND, language=None)


@pytest.mark.parametrize("how", ["drip", "hold"])
def test_a_server_that_takes_for_ever_is_given_up(how: str, server: OpenAIServer, client: Client) -> None:
    if how == "drip":
        server.always = dripping
    else:
        server.hold = threading.Event()
    with pytest.raises(EngineError, match=r"(took longer than 0\.1 s|does not answer \(timed out\)), 6 times"):
        client(timeout_s=0.1).transcribe(SECOND, language=None)


def test_a_wrong_key_is_said_without_the_key(server: OpenAIServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", "sk-mistaken")
    server.key = "sk-right"
    with pytest.raises(EngineError) as caught:
        client(api_key_env="TOY_KEY").transcribe(SECOND, language=None)
    assert "answers 401: Incorrect API key" in caught.value.message
    assert caught.value.remedy == "Put a key that it takes into TOY_KEY."
    assert "sk-mistaken" not in str(caught.value)
    with pytest.raises(EngineError, match="Name the variable of a key in `api_key_env`"):
        client().transcribe(SECOND, language=None)
    monkeypatch.setenv("TOY_KEY", "sk-right\n")
    assert client(api_key_env="TOY_KEY").transcribe(SECOND, language=None).text == "heard"


def test_no_more_calls_are_under_way_than_allowed(server: OpenAIServer, client: Client) -> None:
    server.hold = threading.Event()
    engine = client(concurrency=2)
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(engine.transcribe, SECOND, language=None) for _ in range(8)]
        deadline = time.monotonic() + 30
        while server.most_under_way < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        server.hold.set()
        assert [call.result().text for call in calls] == ["heard"] * 8
    assert server.most_under_way == 2


VOICES = {"voices": ["alloy", "echo"]}


@pytest.mark.parametrize("form", ["wav", "pcm"])
def test_speech_comes_in_pieces_that_are_the_whole(form: str, server: OpenAIServer, client: Client) -> None:
    engine = client(OpenAIDecoding(audio_format=form, instructions="Slowly."), **VOICES)
    whole = engine.synthesize("Hello.", voice="echo", speed=1.5)
    assert whole.sample_rate_hz == 24_000
    assert np.array_equal(np.rint(whole.samples * 32768), server.speech)
    assert server.seen[-1] == (
        "audio/speech",
        {
            "model": MODEL,
            "input": "Hello.",
            "voice": "echo",
            "response_format": form,
            "speed": 1.5,
            "instructions": "Slowly.",
        },
    )
    server.hold = threading.Event()
    pieces = engine.stream("Hello.")
    first = next(pieces)  # the server still holds the rest back
    server.hold.set()
    joined = np.concatenate([first.samples, *(piece.samples for piece in pieces)])
    assert 0 < first.samples.size < joined.size
    assert np.array_equal(joined, whole.samples)


def test_a_stream_that_is_left_frees_its_place(server: OpenAIServer, client: Client) -> None:
    engine = client(concurrency=1, **VOICES)
    server.hold = threading.Event()
    pieces = engine.stream("Hello.")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    server.hold.set()
    assert engine.synthesize("Hello.").samples.size == server.speech.size


def test_what_follows_the_samples_of_a_wav_file_is_not_heard(server: OpenAIServer, client: Client) -> None:
    server.wav_head = wav_head(16_000, size=2 * 100)
    speech = client(**VOICES).synthesize("Hello.")
    assert (speech.samples.size, speech.sample_rate_hz) == (100, 16_000)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (wav_head(24_000, channels=2), "2 channels of 16 bits"),
        (wav_head(24_000, bits=32, tag=3), "1 channels of 32 bits"),
        (wav_head(0), "at 0 Hz"),
        (b"ID3\x04" * 20, "no WAV file"),
        (b"RIFF\xff\xff\xff\xffWAVE" + bytes(8) * 10_000, "no WAV file"),
    ],
)
def test_speech_in_another_form_is_refused(head: bytes, reason: str, server: OpenAIServer, client: Client) -> None:
    server.wav_head = head
    with pytest.raises(EngineError, match=reason):
        client(**VOICES).synthesize("Hello.")


def test_a_real_wav_file_is_read_at_any_block_length(tmp_path: Path) -> None:
    samples = np.arange(-3000, 3000, dtype=np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 22_050)
    data = (tmp_path / "x.wav").read_bytes()
    for length in (1, 3, 44, 100, len(data)):
        rate, blocks = open_wav(data[at : at + length] for at in range(0, len(data), length))
        assert rate == 22_050
        assert np.array_equal(np.concatenate(list(samples_of(blocks))) * 32768, samples)


def test_speech_without_a_sound_is_an_error(server: OpenAIServer, client: Client) -> None:
    server.speech = server.speech[:0]
    with pytest.raises(EngineError, match="said nothing"):
        client(OpenAIDecoding(audio_format="pcm"), **VOICES).synthesize("Hello.")


def test_white_space_asks_nobody(server: OpenAIServer, client: Client) -> None:
    assert client(**VOICES).synthesize(" \n").samples.size == 0
    assert list(client(**VOICES).stream("")) == []
    assert not server.seen


@pytest.mark.parametrize("listed", [["alloy", "echo"], [{"id": "alloy"}, {"name": "echo"}], [{"voice_id": "alloy"}, "echo"]])
def test_voices_are_the_cards_or_the_servers(listed: list[Any], server: OpenAIServer, client: Client) -> None:
    with pytest.raises(EngineError, match="names no voices"):
        assert client().voices
    server.voices = listed
    assert client().voices == ("alloy", "echo")
    assert client(voices=["own"]).voices == ("own",)


def test_what_the_api_cannot_say_is_refused(server: OpenAIServer, client: Client) -> None:
    engine = client(**VOICES)
    with pytest.raises(EngineError, match=r"no voice named 'ech'.*Did you mean 'echo'"):
        engine.synthesize("Hello.", voice="ech")
    with pytest.raises(EngineError, match="no speed 5"):
        engine.stream("Hello.", speed=5.0)
    assert not server.seen


def test_a_stream_that_breaks_off_is_an_error(server: OpenAIServer, client: Client) -> None:
    server.always = dripping
    engine = client(OpenAIDecoding(audio_format="pcm"), timeout_s=0.2, **VOICES)
    with pytest.raises(EngineError, match="broke off: took longer"):
        list(engine.stream("Hello."))


def test_what_a_call_costs(server: OpenAIServer, client: Client) -> None:
    engine = client(price_per_minute=0.006, price_per_1k_characters=0.015, **VOICES)
    assert engine.transcribe(MINUTE, language="en").cost == pytest.approx(0.006)
    assert engine.synthesize("x" * 500).cost == pytest.approx(0.0075)
    assert sum(piece.cost or 0 for piece in engine.stream("x" * 500)) == pytest.approx(0.0075)
    assert client().transcribe(SECOND, language="en").cost is None


def test_the_server_says_what_it_runs(server: OpenAIServer, pauses: list[float]) -> None:
    described = {"id": MODEL, "owned_by": "org", "root": "/weights", "created": 1, "permission": [], "revision": 3}
    server.models = [{"id": "other"}, described]
    args = {"base_url": server.url, "model": MODEL, "voices": ["x"]}
    expected = {"base_url": server.url, "model": MODEL, "id": MODEL, "owned_by": "org", "root": "/weights", "revision": "3"}
    assert OpenAICompatible.identity(args) == expected
    server.by_name = False  # as vLLM, which has the list alone
    assert OpenAICompatible.identity(args) == expected


def test_a_model_that_the_server_does_not_have_is_named(server: OpenAIServer, pauses: list[float]) -> None:
    with pytest.raises(EngineError, match=rf"no model at {server.url} named 'org/tin'.*Did you mean '{MODEL}'"):
        OpenAICompatible.identity({"base_url": server.url, "model": "org/tin"})


def test_a_server_out_of_reach_is_named(pauses: list[float]) -> None:
    with pytest.raises(
        EngineError, match=r"http://127\.0\.0\.1:9/v1/models/x cannot be reached .* 3 times.*Check the server"
    ):
        OpenAICompatible.identity({"base_url": "http://127.0.0.1:9/v1", "model": "x"})
    assert len(pauses) == IDENTITY_ATTEMPTS - 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({}, "base_url is wrong: Field required"),
        ({"base_url": "https://x/v1"}, "model is wrong: Field required"),
        ({"base_url": "${TOY_UNSET}/v1", "model": "x"}, "TOY_UNSET is not set; the card's base_url"),
        ({"base_url": "https://x/v1", "model": "${TOY_UNSET}"}, "TOY_UNSET is not set; the card's model"),
        (
            {"base_url": "https://x/v1", "model": "x", "api_key_env": "TOY_UNSET"},
            "TOY_UNSET is not set; it should hold the key",
        ),
        ({"base_url": "https://sk-secret@x/v1", "model": "x"}, "its host is 'x'"),
        ({"base_url": "https://x/v1?key=sk-secret", "model": "x"}, "its host is 'x'"),
        ({"base_url": "x/v1", "model": "x"}, "its host is None"),
        ({"base_url": "http://192.0.2.1/v1", "model": "x"}, "http://192.0.2.1/v1 is not encrypted"),
        ({"base_url": "https://x/v1", "model": "x", "concurrency": 0}, "concurrency is wrong"),
        ({"base_url": "https://x/v1", "model": "x", "timeout_s": -1}, "timeout_s is wrong"),
    ],
)
def test_arguments_that_cannot_be_are_refused(args: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_UNSET", raising=False)
    with pytest.raises(EngineError) as caught:
        OpenAICompatible.identity(args)
    assert reason in caught.value.message
    assert "sk-secret" not in str(caught.value)


def test_an_unencrypted_server_may_be_allowed(client: Client) -> None:
    assert client(base_url="http://192.0.2.1/v1", allow_http=True)


@pytest.fixture
def card(cards: Mapping[str, ModelCard], server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """The shipped card, pointed at the server."""
    monkeypatch.setenv("MODELLAB_HTTP_URL", server.url)
    monkeypatch.setenv("MODELLAB_HTTP_MODEL", MODEL)
    monkeypatch.setenv("MODELLAB_HTTP_KEY", "sk-secret")
    server.key = "sk-secret"
    return cards["openai-compatible"]


def test_the_shipped_card_works(card: ModelCard, server: OpenAIServer, tmp_path: Path) -> None:
    located = fetch(card, {}, tmp_path, lambda line: pytest.fail(line))
    placement = placement_of(card, "remote")
    assert build_engine(card, located.folder, placement).transcribe(SECOND, language="en").text == "heard"
    server.voices = ["alloy"]
    speech = build_engine(card, located.folder, placement, "tts").synthesize("Hello.")
    assert speech.samples.size == server.speech.size
    with pytest.raises(EngineError, match="does not run on cpu"):
        build_engine(card, located.folder, Placement("cpu", "remote", 1))


def test_the_fingerprint_is_of_what_the_server_runs_and_holds_no_key(card: ModelCard, server: OpenAIServer) -> None:
    def fingerprint() -> Any:
        return model_fingerprint(card, placement_of(card, "remote"), {})

    first = fingerprint()
    assert "sk-secret" not in first.model_dump_json()
    assert first.identity["owned_by"] == "org"
    assert fingerprint().digest == first.digest
    server.models = [{"id": MODEL, "owned_by": "org", "revision": "2"}]
    assert fingerprint().digest != first.digest


def test_sixteen_bit_samples_arrive_unchanged(tmp_path: Path) -> None:
    whole = np.concatenate([np.arange(-32768, 32768, dtype=np.int16), np.array([0, 32767], np.int16)])
    samples = whole.astype(np.float32) / 32768
    for form in ("flac", "wav"):
        (tmp_path / f"x.{form}").write_bytes(packed(samples, form))
        assert np.array_equal(decode(tmp_path / f"x.{form}").samples, samples)
    (tmp_path / "loud.wav").write_bytes(packed(np.array([1.0, -1.0, 2.0], np.float32), "wav"))
    assert decode(tmp_path / "loud.wav").samples.tolist() == [32767 / 32768, -1.0, 32767 / 32768]


def test_language_names_are_whispers() -> None:
    from whisper.tokenizer import TO_LANGUAGE_CODE

    assert CODES == TO_LANGUAGE_CODE
    assert [code_of(text) for text in ("English", "EN", "haitian creole", "x", None)] == ["en", "en", "ht", None, None]
