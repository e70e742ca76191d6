"""Transcription through the OpenAI client: the engine's own words, in every form."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
from conftest import CALIBRATION
from numpy.typing import NDArray
from service import CLIP, HEARER, SPEAKER, TIMEOUT_S, Running, serving, wait_until

from models.audio import decode
from models.engines._whisper import pieces_of, transcript_of
from models.errors import EngineError
from models.types import Segment, Transcript, Word
from serving.errors import ApiError
from serving.formats import deltas, subtitles, verbose
from serving.served import ServedModel
from serving.settings import ServiceSettings


def own(held: Mapping[str, ServedModel], path: Path) -> Transcript:
    heard: Transcript = held[HEARER].engine.transcribe(decode(path).samples, language="en")
    return heard


@pytest.mark.parametrize("name", [CLIP, "cv-22058264.mp3", "nonspeech-silence.flac"])
def test_texts_are_those_of_the_engine(service: Running, held: Mapping[str, ServedModel], audio: Path, name: str) -> None:
    answer = service.openai().audio.transcriptions.create(file=audio / name, model=HEARER, language="en")
    assert answer.text == own(held, audio / name).text


def test_verbose_json_has_times_and_both_confidences(service: Running, held: Mapping[str, ServedModel], audio: Path) -> None:
    expected = own(held, audio / CLIP)
    answer = service.openai().audio.transcriptions.create(
        file=audio / CLIP,
        model=HEARER,
        language="en",
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
        temperature=0.0,
    )
    assert answer.text == expected.text
    assert answer.language == "en"
    assert answer.duration == pytest.approx(5.209, abs=0.01)
    assert answer.segments is not None and answer.words is not None
    assert [(s.text, s.start, s.end, s.avg_logprob) for s in answer.segments] == [
        (s.text, s.start_s, s.end_s, s.avg_logprob) for s in expected.segments
    ]
    assert [(w.word, w.start, w.end) for w in answer.words] == [(w.text, w.start_s, w.end_s) for w in expected.words]
    raw = [word.probability for word in expected.words if word.probability is not None]
    calibrated = [CALIBRATION.apply(probability) for probability in raw]
    extra = answer.model_extra or {}
    assert [word.model_extra for word in answer.words] == [
        {"probability": p, "confidence": c} for p, c in zip(raw, calibrated, strict=True)
    ]
    assert extra["confidence_raw"] == pytest.approx(expected.confidence)
    assert extra["confidence"] == pytest.approx(sum(calibrated) / len(calibrated))
    assert extra["confidence"] != extra["confidence_raw"]


def test_words_come_only_when_asked_for(service: Running, audio: Path) -> None:
    create = service.openai().audio.transcriptions.create
    plain = create(file=audio / CLIP, model=HEARER, response_format="verbose_json")
    assert plain.segments and plain.words is None
    words = create(file=audio / CLIP, model=HEARER, response_format="verbose_json", timestamp_granularities=["word"])
    assert words.words and words.segments is None


def test_text_srt_and_vtt(service: Running, held: Mapping[str, ServedModel], audio: Path) -> None:
    expected = own(held, audio / CLIP)
    create = service.openai().audio.transcriptions.create
    assert create(file=audio / CLIP, model=HEARER, response_format="text") == f"{expected.text}\n"
    srt = create(file=audio / CLIP, model=HEARER, response_format="srt")
    assert re.match(r"1\n00:00:\d\d,\d{3} --> 00:00:0\d,\d{3}\n", srt)
    assert expected.segments[0].text in srt
    assert create(file=audio / CLIP, model=HEARER, response_format="vtt").startswith("WEBVTT\n\n00:00:")


def test_a_stream_has_deltas_that_join_to_the_text(service: Running, held: Mapping[str, ServedModel], audio: Path) -> None:
    expected = own(held, audio / CLIP).text
    got = list(service.openai().audio.transcriptions.create(file=audio / CLIP, model=HEARER, language="en", stream=True))
    assert [event.type for event in got[-2:]] == ["transcript.text.delta", "transcript.text.done"]
    assert "".join(event.delta for event in got if event.type == "transcript.text.delta") == expected
    assert got[-1].type == "transcript.text.done" and got[-1].text == expected


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"extra_body": {"temperature": "nan"}}, "temperature"),
        ({"language": "de"}, "language"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities"),
        ({"stream": True, "response_format": "srt"}, "stream"),
        ({"include": ["logprobs"]}, "include[]"),
        ({"extra_body": {"temperature": "warm"}}, "temperature"),
        ({"model": SPEAKER}, "model"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    service: Running, audio: Path, options: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        service.openai().audio.transcriptions.create(**{"file": audio / CLIP, "model": HEARER, **options})  # type: ignore[call-overload]
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_translation_by_a_model_without_it_is_refused(service: Running, audio: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="does not do translation"):
        service.openai().audio.translations.create(file=audio / CLIP, model=HEARER)


@pytest.mark.real
def test_translation_gives_the_engines_text(shared_weights: Path, audio: Path) -> None:
    from models.card import read_cards
    from models.weights import fetch
    from serving.served import load

    cards = read_cards()
    card = cards["faster-whisper-base"]
    model = load(card, fetch(card, cards, shared_weights, lambda line: None))
    assert "translation" in card.tasks
    with serving({card.name: model}, ServiceSettings()) as running:
        model.warm_up()
        answer = running.openai().audio.translations.create(file=audio / CLIP, model=card.name)
    assert answer.text == model.engine.translate(decode(audio / CLIP).samples, language=None, target="en").text


SEGMENTS = (Segment(text="A <b> --> c", start_s=0.0, end_s=1.5), Segment(text="d", start_s=3661.0004, end_s=3662.25))


def test_subtitles_are_well_formed() -> None:
    transcript = Transcript(text="A <b> --> c d", segments=SEGMENTS)
    assert subtitles(transcript, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,500\nA <b> -> c\n\n2\n01:01:01,000 --> 01:01:02,250\nd\n\n"
    )
    assert "00:00:00.000 --> 00:00:01.500\nA &lt;b&gt; -&gt; c\n\n" in subtitles(transcript, "vtt")
    assert subtitles(Transcript(text=""), "srt") == ""


def test_times_that_the_model_does_not_give_are_not_made_up() -> None:
    bare = Transcript(text="words", confidence=None)
    with pytest.raises(ApiError, match="gives no times"):
        subtitles(bare, "srt")
    form = {"task": "transcribe", "duration_s": 1.0, "calibration": CALIBRATION, "temperature": None}
    with pytest.raises(ApiError, match="no times of words"):
        verbose(bare, granularities=("word",), **form)
    answer = verbose(bare, granularities=("segment",), **form)
    assert answer["confidence"] is None and answer["confidence_raw"] is None and answer["segments"] == []


def test_without_a_map_nothing_is_called_confidence() -> None:
    word = Word(text="a", start_s=0, end_s=1, probability=0.5)
    transcript = Transcript(text="a", segments=(Segment(text="a", start_s=0, end_s=1, words=(word,)),), confidence=0.5)
    answer = verbose(
        transcript, task="transcribe", duration_s=1.0, granularities=("word",), calibration=None, temperature=0.0
    )
    assert answer["confidence"] is None and answer["confidence_raw"] == 0.5
    assert answer["words"] == [{"word": "a", "start": 0.0, "end": 1.0, "probability": 0.5}]


@pytest.mark.parametrize("text", ["A <b> --> c d", "A <b> --> c\nd.", "other words", ""])
def test_deltas_join_to_the_text_whatever_the_segments(text: str) -> None:
    assert "".join(deltas(Transcript(text=text, segments=SEGMENTS))) == text


def long_recording(audio: Path) -> bytes:
    """More than one of Whisper's windows of 30 s."""
    clips = [decode(path).samples for path in sorted(audio.glob("harvard-*"))] + [decode(audio / CLIP).samples]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(clips * 9)[: 36 * 16_000], 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@dataclass
class HeldAfterTheFirst:
    """A real engine whose pieces after the first wait for the test."""

    engine: Any
    go: threading.Event = field(default_factory=threading.Event)
    pieces: int = 0

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        heard: Transcript = self.engine.transcribe(samples, language=language)
        return heard

    def transcribe_stream(self, samples: NDArray[np.float32], *, language: str | None) -> Iterator[Transcript]:
        for piece in self.engine.transcribe_stream(samples, language=language):
            self.pieces += 1
            yield piece
            assert self.go.wait(TIMEOUT_S)


def test_deltas_are_sent_while_the_rest_is_heard(held: Mapping[str, ServedModel], audio: Path) -> None:
    engine = HeldAfterTheFirst(held[HEARER].engine)
    recording = ("a.wav", long_recording(audio))
    with serving({HEARER: replace(held[HEARER], engine=engine)}) as running:
        create = running.openai().audio.transcriptions.create
        stream = iter(create(file=recording, model=HEARER, language="en", stream=True))
        first = next(stream)
        assert first.type == "transcript.text.delta" and engine.pieces == 1
        assert running.queue()["running"] == 1
        engine.go.set()
        events = [first, *stream]
        whole = create(file=recording, model=HEARER, language="en").text
    assert engine.pieces > 1
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == whole
    assert events[-1].type == "transcript.text.done" and events[-1].text == whole


def test_a_client_that_leaves_a_stream_frees_its_turn(held: Mapping[str, ServedModel], audio: Path) -> None:
    engine = HeldAfterTheFirst(held[HEARER].engine)
    with serving({HEARER: replace(held[HEARER], engine=engine)}) as running:
        stream = running.openai().audio.transcriptions.create(
            file=("a.wav", long_recording(audio)), model=HEARER, stream=True
        )
        next(iter(stream))
        stream.close()
        wait_until(lambda: running.queue() == {"running": 1, "waiting": 0})
        engine.go.set()
        wait_until(lambda: running.queue() == {"running": 0, "waiting": 0})
    assert engine.pieces <= 2


def test_an_engine_that_refuses_before_its_first_piece_gives_a_status(held: Mapping[str, ServedModel], audio: Path) -> None:
    class Refuses:
        def transcribe(self, samples: object, *, language: str | None) -> None: ...

        def transcribe_stream(self, samples: object, *, language: str | None) -> None:
            raise EngineError("It will not.", "Ask another.")

    with (
        serving({HEARER: replace(held[HEARER], engine=Refuses())}) as running,
        pytest.raises(openai.BadRequestError, match="It will not"),
    ):
        running.openai().audio.transcriptions.create(file=audio / CLIP, model=HEARER, stream=True)


def test_a_prompt_is_honoured_and_marked_as_untested(service: Running, held: Mapping[str, ServedModel], audio: Path) -> None:
    prompt = "Digits, as words: three, one, four."
    raw = service.openai().audio.transcriptions.with_raw_response.create(
        file=audio / CLIP, model=HEARER, language="en", prompt=prompt, response_format="verbose_json"
    )
    answer = raw.parse()
    steered = held[HEARER].engine.steered(prompt=prompt)
    expected = steered.transcribe(decode(audio / CLIP).samples, language="en").text
    assert answer.text == expected != own(held, audio / CLIP).text  # it writes words where it wrote digits
    assert raw.headers["X-Modellab-Untested"] == "prompt"
    extra = answer.model_extra or {}
    assert extra["untested"] == ["prompt"]
    assert extra["confidence"] is None and extra["confidence_raw"] is not None  # the map was fitted on another decoding
    plain = service.openai().audio.transcriptions.with_raw_response.create(file=audio / CLIP, model=HEARER, temperature=0)
    assert "X-Modellab-Untested" not in plain.headers
    assert plain.parse().text == own(held, audio / CLIP).text  # and the next call is as tested


def test_a_temperature_is_honoured_and_marked_as_untested(service: Running, audio: Path) -> None:
    raw = service.openai().audio.transcriptions.with_raw_response.create(
        file=audio / CLIP, model=HEARER, temperature=0.4, response_format="verbose_json"
    )
    answer = raw.parse()
    assert raw.headers["X-Modellab-Untested"] == "temperature"
    assert answer.segments is not None and {segment.temperature for segment in answer.segments} == {0.4}


def test_what_an_engine_cannot_steer_is_refused_by_name(held: Mapping[str, ServedModel], audio: Path) -> None:
    class Stiff:
        def transcribe(self, samples: object, *, language: str | None) -> None: ...

    with serving({HEARER: replace(held[HEARER], engine=Stiff())}) as running:
        for option in ({"prompt": "Ada"}, {"temperature": 0.5}):
            with pytest.raises(openai.BadRequestError, match="only as it was tested") as caught:
                running.openai().audio.transcriptions.create(file=audio / CLIP, model=HEARER, **option)  # type: ignore[call-overload]
            assert caught.value.param == next(iter(option))


@pytest.mark.parametrize(
    ("texts", "pieces"),
    [
        ([" One.", " Two. ", "\n", " Three. "], ["One.", " Two.", " \n Three."]),
        (["  ", " a"], ["a"]),
        (["", " "], []),
    ],
)
def test_pieces_keep_the_white_space_of_the_whole(texts: list[str], pieces: list[str]) -> None:
    told = {"start": 0.0, "end": 1.0, "avg_logprob": 0.0, "no_speech_prob": 0.0, "compression_ratio": 1.0}
    segments = [{**told, "text": text} for text in texts]
    assert [piece.text for piece in pieces_of((segment, "en") for segment in segments)] == pieces
    assert "".join(pieces) == transcript_of(segments, "en").text
