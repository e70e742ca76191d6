"""Engines say what they cannot do, and two engines with the same weights hear the same."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.capabilities import Transcriber, Translator
from models.card import ModelCard
from models.engine import Placement, build_engine, decoding_of, engine_class, placement_of
from models.engines.faster_whisper import FasterWhisper, FasterWhisperDecoding
from models.engines.openai_whisper import OpenAIWhisperDecoding
from models.errors import CardError, EngineError

MakeCard = Callable[..., ModelCard]
Clip = Callable[[str], NDArray[np.float32]]
Engines = Callable[..., Transcriber]

FASTER, OPENAI = "models.engines.faster_whisper:FasterWhisper", "models.engines.openai_whisper:OpenAIWhisper"
CPU = Placement("cpu", "float32", 1)
BOTH = ["faster-whisper-tiny.en", "whisper-tiny.en"]
TRANSLATORS = ["faster-whisper-base", "whisper-base", "whisper-base-transformers"]


@pytest.mark.parametrize("engine", [FASTER, OPENAI])
@pytest.mark.parametrize(
    ("decoding", "reason"),
    [
        ({"beam_sise": 5}, r"no decoding option named 'beam_sise'\. Did you mean 'beam_size'\? Available: beam_size, "),
        ({"beam_size": 0}, "beam_size is wrong"),
        ({"word_timestamps": "perhaps"}, "word_timestamps is wrong"),
        ({"temperature": []}, "temperature"),
    ],
)
def test_a_decoding_option_that_does_not_exist_or_fit_is_named(
    engine: str, decoding: dict[str, Any], reason: str, make_card: MakeCard
) -> None:
    with pytest.raises(CardError, match=reason):
        decoding_of(make_card(engine=engine, decoding=decoding))


def test_an_option_of_the_other_engine_is_refused(make_card: MakeCard) -> None:
    with pytest.raises(CardError, match="vad_filter"):
        decoding_of(make_card(engine=OPENAI, decoding={"vad_filter": True}))


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ("nonexistent_library:Engine", "cannot be imported: No module named 'nonexistent_library'"),
        ("models.engines.faster_whisper:FasterWisper", "Did you mean 'FasterWhisper'"),
        ("models.engines.faster_whisper:REQUIREMENT", "is not an engine class"),
        ("models.types:Word", "is not an engine class"),
        ("models.types", "Write it as"),
        (":Word", "Write it as"),
    ],
)
def test_an_engine_that_is_none_is_refused(engine: str, reason: str, make_card: MakeCard) -> None:
    with pytest.raises(EngineError, match=reason):
        engine_class(make_card(engine=engine))


@pytest.mark.parametrize(
    ("engine", "library", "line"),
    [
        (FASTER, "faster_whisper", "pip install 'faster-whisper>=1.2.1,<2'"),
        (OPENAI, "whisper.model", "pip install 'openai-whisper>=20250625'"),
    ],
)
def test_a_missing_library_gives_the_line_that_installs_it(
    engine: str, library: str, line: str, make_card: MakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(EngineError) as caught:
        build_engine(make_card(engine=engine), tmp_path, CPU)
    assert line in caught.value.remedy


def test_an_argument_the_engine_does_not_have_is_named(make_card: MakeCard, tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no engine argument named 'workers'"):
        build_engine(make_card(args={"workers": 2}), tmp_path, CPU)


def test_an_engine_that_does_not_transcribe_is_refused(
    make_card: MakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FasterWhisper, "transcribe")
    with pytest.raises(EngineError, match=r"does not do asr\."):
        build_engine(make_card(), tmp_path, CPU)


def test_placement_takes_the_card_and_the_machine_as_defaults(make_card: MakeCard) -> None:
    card = make_card()
    assert placement_of(card) == placement_of(card, "cpu", "int8", placement_of(card).threads)
    assert placement_of(card).threads >= 1
    assert placement_of(card, "cuda", None, 1) == Placement("cuda", "float16", 1)
    assert placement_of(card, "cpu", "float32", 1) == CPU


def test_a_device_or_a_thread_count_that_cannot_be_is_refused(make_card: MakeCard) -> None:
    with pytest.raises(EngineError, match=r"no device named 'tpu'.*Available: cpu, cuda"):
        placement_of(make_card(), "tpu")
    with pytest.raises(EngineError, match="0 threads"):
        placement_of(make_card(), threads=0)


@pytest.mark.parametrize("compute_type", ["float16", "int8"])
def test_openai_whisper_refuses_what_it_would_quietly_replace(
    compute_type: str, make_card: MakeCard, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=compute_type):
        build_engine(make_card(engine=OPENAI), tmp_path, Placement("cpu", compute_type, 1))


def test_a_folder_without_a_tokenizer_is_refused_before_the_library_looks_elsewhere(
    make_card: MakeCard, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"tokenizer\.json"):
        build_engine(make_card(), tmp_path, CPU)


def test_every_option_is_one_of_the_library() -> None:
    import whisper
    from faster_whisper import WhisperModel

    faster = inspect.signature(WhisperModel.transcribe).parameters
    assert FasterWhisperDecoding.model_fields.keys() <= faster.keys()
    ours = {"log_prob_threshold": "logprob_threshold", "max_new_tokens": "sample_len"}
    openai = inspect.signature(whisper.transcribe).parameters.keys() | {
        field.name for field in fields(whisper.DecodingOptions)
    }
    assert {ours.get(name, name) for name in OpenAIWhisperDecoding.model_fields} <= openai


@pytest.mark.real
@pytest.mark.parametrize("name", [*BOTH, "faster-whisper-base", "whisper-base"])
def test_a_famous_sentence(name: str, engine: Engines, clip: Clip) -> None:
    heard = engine(name).transcribe(clip("jfk-inaugural.flac"), language="en")
    plain = "".join(letter for letter in heard.text.lower() if letter.isalpha() or letter == " ")
    assert "ask not what your country can do for you" in plain
    assert heard.language == "en"
    assert heard.confidence is not None
    assert heard.confidence > 0.8


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "lj-lj001-0001.flac",
        "lj-lj001-0002.flac",
        "lj-lj001-0004.flac",
        "harvard-spk1-snt1.wav",
        "harvard-spk2-snt3.wav",
        "jfk-inaugural.flac",
    ],
)
def test_the_same_weights_give_the_same_text_in_both_engines(name: str, engine: Engines, clip: Clip) -> None:
    samples = clip(name)
    faster = engine("faster-whisper-tiny.en-float32").transcribe(samples, language="en")
    openai = engine("whisper-tiny.en").transcribe(samples, language="en")
    assert faster.text == openai.text
    assert faster.text
    assert [word.text for word in faster.words] == [word.text for word in openai.words]
    assert faster.confidence == pytest.approx(openai.confidence, abs=0.01)


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_words_have_times_in_order_and_probabilities(name: str, engine: Engines, clip: Clip) -> None:
    samples = clip("lj-lj001-0001.flac")
    heard = engine(name).transcribe(samples, language="en")
    assert " ".join(word.text for word in heard.words) == heard.text
    times = [time for word in heard.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= samples.size / 16_000 + 0.5
    probabilities = [word.probability for word in heard.words if word.probability is not None]
    assert len(probabilities) == len(heard.words)
    assert all(0 <= value <= 1 for value in probabilities)
    assert heard.confidence == pytest.approx(np.mean(probabilities))
    assert all(segment.avg_logprob is not None and segment.avg_logprob < 0 for segment in heard.segments)


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_without_words_there_is_no_confidence_and_the_same_text(name: str, engine: Engines, clip: Clip) -> None:
    samples = clip("harvard-spk1-snt1.wav")
    plain = engine(name, word_timestamps=False).transcribe(samples, language="en")
    assert plain.confidence is None
    assert plain.words == ()
    assert plain.text == engine(name).transcribe(samples, language="en").text


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("count", [0, 1, 399, 16_000])
def test_silence_and_next_to_nothing_give_an_empty_transcript(name: str, count: int, engine: Engines) -> None:
    heard = engine(name).transcribe(np.zeros(count, np.float32), language="en")
    assert heard.text == ""
    assert heard.segments == ()
    assert heard.confidence is None


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_an_english_model_refuses_german(name: str, engine: Engines) -> None:
    with pytest.raises(EngineError, match=r"language 'de'. It knows: en"):
        engine(name).transcribe(np.zeros(16_000, np.float32), language="de")


@pytest.mark.real
@pytest.mark.parametrize("name", ["faster-whisper-base", "whisper-base"])
def test_a_multilingual_model_detects_the_language(name: str, engine: Engines, clip: Clip) -> None:
    samples = clip("longform-de.mp3")[: 10 * 16_000]
    assert engine(name).transcribe(samples, language=None).language == "de"
    with pytest.raises(EngineError, match="'xx'"):
        engine(name).transcribe(samples, language="xx")


@pytest.mark.real
@pytest.mark.parametrize("name", TRANSLATORS)
def test_spanish_is_translated_into_english(name: str, engine: Callable[..., Translator], clip: Clip) -> None:
    """The recording begins: "Al señor Don Manuel Tamayo y Baus, … hace algunas semanas que …"."""
    heard = engine(name).translate(clip("longform-es.mp3")[: 12 * 16_000], language=None, target="en")
    assert "Manuel Tamayo" in heard.text
    assert "weeks ago" in heard.text
    assert heard.language == "en"
    assert heard.words == ()  # of words that nobody spoke there is no time
    assert heard.confidence is None
    assert all(segment.avg_logprob is not None and segment.avg_logprob < 0 for segment in heard.segments)
    assert engine(name).translate(np.zeros(0, np.float32), language=None, target="en").text == ""


@pytest.mark.real
@pytest.mark.parametrize("name", TRANSLATORS)
def test_what_whisper_cannot_translate_is_refused(name: str, engine: Callable[..., Translator]) -> None:
    nothing = np.zeros(0, np.float32)
    with pytest.raises(EngineError, match=r"does not translate into 'fr'. It translates into: en"):
        engine(name).translate(nothing, language="es", target="fr")
    with pytest.raises(EngineError, match=r"does not know the language 'xx'"):
        engine(name).translate(nothing, language="xx", target="en")


@pytest.mark.real
@pytest.mark.parametrize("name", [*BOTH, "whisper-tiny.en-transformers"])
def test_an_english_model_does_not_translate(
    name: str, engine: Callable[..., Translator], cards: dict[str, ModelCard], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="knows English alone"):
        engine(name).translate(np.zeros(0, np.float32), language="en", target="en")
    with pytest.raises(EngineError, match="does not do translation"):
        build_engine(cards[name], tmp_path, CPU, "translation")


@pytest.mark.real
def test_a_compute_type_the_device_lacks_is_refused(cards: dict[str, ModelCard], weights_of: Callable[[str], Path]) -> None:
    name = "faster-whisper-tiny.en"
    with pytest.raises(EngineError, match="cannot load"):
        build_engine(cards[name], weights_of(name), Placement("cpu", "int3", 1))
