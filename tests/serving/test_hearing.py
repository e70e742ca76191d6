"""Transcription through the OpenAI client: the engine's own words, in every form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import openai
import pytest
from conftest import CALIBRATION
from service import CLIP, HEARER, SPEAKER, Running, serving

from models.audio import decode
from models.types import Segment, Transcript, Word
from serving.errors import ApiError
from serving.formats import events, subtitles, verbose
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
        ({"temperature": 0.5}, "temperature"),
        ({"prompt": "Names: Ada"}, "prompt"),
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
    lines = b"".join(events(Transcript(text=text, segments=SEGMENTS))).decode().splitlines()
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert "".join(item.get("delta", "") for item in data) == text
    assert data[-1] == {"type": "transcript.text.done", "text": text}
