"""Piper and hibari really speak: what they say is heard again, twice alike, in pieces, and within stated bounds."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.audio import SAMPLE_RATE_HZ
from models.capabilities import Transcriber
from models.card import ModelCard
from models.engine import Placement, build_engine, placement_of
from models.engines._speech import PIECE_CHARS, Speaker, blocks, sentences
from models.engines.hibari import Hibari, HibariDecoding
from models.engines.piper import Piper, PiperDecoding
from models.errors import EngineError
from models.types import Speech

PIPER, HIBARI = "piper-joe", "hibari"
BOTH = [PIPER, HIBARI]
RATES_HZ = {PIPER: 22_050, HIBARI: 24_000}
CPU = {PIPER: Placement("cpu", "float32", 1), HIBARI: Placement("cpu", "int8", 1)}

SENTENCE = "in being comparatively modern."
SENTENCES = (
    "Printing differs from most if not from all the arts and crafts represented in the Exhibition.",
    "The child almost hurt the small dog.",
    "We are sure that one war is enough.",
)
LONG = " ".join(SENTENCES)
ENDLESS = "the arts and crafts and " * 500
"""2,500 words without a full stop."""

Voices = Callable[..., Speaker]


@pytest.fixture(scope="module")
def voice(cards: Mapping[str, ModelCard], weights_of: Callable[[str], Path]) -> Voices:
    """A real voice on one thread; one is built per card and decoding settings."""
    built: dict[str, Any] = {}

    def get(name: str, **decoding: Any) -> Any:
        key = f"{name} {decoding}"
        if key not in built:
            built[key] = load(cards[name], weights_of(name), **decoding)
        return built[key]

    return get


def load(card: ModelCard, weights: Path, threads: int = 1, **decoding: Any) -> Any:
    card = card.model_copy(update={"decoding": {**card.decoding, **decoding}})
    return build_engine(card, weights, placement_of(card, threads=threads), "tts")


def same(one: Speech, other: Speech) -> bool:
    return one.sample_rate_hz == other.sample_rate_hz and np.array_equal(one.samples, other.samples)


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("text", [SENTENCE, LONG])
def test_speech_has_the_agreed_form_and_a_likely_length(name: str, text: str, voice: Voices) -> None:
    said = voice(name).synthesize(text)
    assert said.sample_rate_hz == RATES_HZ[name]
    assert said.samples.dtype == np.float32
    assert said.samples.ndim == 1
    assert np.isfinite(said.samples).all()
    loudness = np.abs(said.samples)
    assert 0.1 < loudness.max() <= 1
    assert 0.01 < np.sqrt(np.mean(said.samples**2)) < 0.4
    full = np.flatnonzero(loudness == 1)
    assert all(after - before > 1 for before, after in pairwise(full)), "a run of samples at full scale: clipped"
    # Read speech has 2 to 4 words a second; one sentence's silences or long words shift that.
    assert 1.5 < len(text.split()) / said.duration_s < 4.5


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_a_recogniser_hears_what_was_said(name: str, voice: Voices, engine: Callable[..., Transcriber]) -> None:
    """Of both texts: in the short one a word is 25 points, and Piper's "in" is heard as "and", with noise and without."""
    recogniser = engine("faster-whisper-tiny.en")
    heard = [recogniser.transcribe(at_16_khz(voice(name).synthesize(text)), language="en").text for text in (SENTENCE, LONG)]
    errors = jiwer.process_words([plain(SENTENCE), plain(LONG)], [plain(text) for text in heard])
    words = errors.hits + errors.substitutions + errors.deletions
    print(f"{name}: word error rate of faster-whisper tiny.en {errors.wer:.1%} on {words} words: {' | '.join(heard)}")
    assert words == len(f"{SENTENCE} {LONG}".split())
    assert errors.wer < 0.2


def at_16_khz(said: Speech) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = soxr.resample(said.samples, said.sample_rate_hz, SAMPLE_RATE_HZ)
    return samples


def plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalpha() or letter == " ").strip()


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_the_pieces_are_the_sentences_and_together_what_synthesize_gives(name: str, voice: Voices) -> None:
    pieces = list(voice(name).stream(LONG))
    assert len(pieces) == len(SENTENCES)
    assert all(piece.sample_rate_hz == RATES_HZ[name] for piece in pieces)
    whole = voice(name).synthesize(LONG)
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), whole.samples)


@pytest.mark.real
@pytest.mark.parametrize(("name", "library", "session"), [(PIPER, "_voice", "session"), (HIBARI, "_library", "sess")])
def test_the_first_piece_is_there_before_the_second_is_computed(
    name: str, library: str, session: str, voice: Voices, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker = voice(name)
    inner = getattr(getattr(speaker, library), session)
    runs: list[int] = []

    class Counting:
        def run(self, *args: Any) -> Any:
            runs.append(1)
            return inner.run(*args)

    monkeypatch.setattr(getattr(speaker, library), session, Counting())
    pieces = speaker.stream(LONG)
    assert len(runs) == 0
    for count in (1, 2, 3):
        assert next(pieces).samples.size
        assert len(runs) == count
    assert next(pieces, None) is None


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_a_text_without_a_full_stop_is_spoken_in_pieces_too(name: str, voice: Voices) -> None:
    assert next(iter(voice(name).stream(ENDLESS))).duration_s < PIECE_CHARS / 10


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_the_same_text_is_the_same_samples_in_each_call_and_loading_and_on_any_threads(
    name: str, voice: Voices, cards: Mapping[str, ModelCard], weights_of: Callable[[str], Path]
) -> None:
    first = voice(name).synthesize(LONG)
    assert same(first, voice(name).synthesize(LONG))
    assert same(first, load(cards[name], weights_of(name), threads=2).synthesize(LONG))


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_two_threads_get_what_each_would_alone(name: str, voice: Voices) -> None:
    texts = [*SENTENCES, SENTENCE]
    alone = [voice(name).synthesize(text) for text in texts]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(voice(name).synthesize, texts))
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.real
def test_the_seed_of_hibari_changes_the_noise_and_not_the_words(voice: Voices) -> None:
    first, other = (voice(HIBARI, seed=seed).synthesize(SENTENCE) for seed in (0, 1))
    assert len(first.samples) == len(other.samples)
    assert not same(first, other)


@pytest.mark.real
def test_the_noise_of_piper_is_repeated_by_a_new_loading_only(
    cards: Mapping[str, ModelCard], weights_of: Callable[[str], Path]
) -> None:
    """Holds what `PiperDecoding` says of noise, so that a release that can do better shows itself."""
    own = {"noise_scale": None, "noise_w_scale": None}

    def calls(seed: int) -> list[Speech]:
        speaker = load(cards[PIPER], weights_of(PIPER), seed=seed, **own)
        return [speaker.synthesize(SENTENCE) for _ in range(2)]

    first, again, other = calls(1), calls(1), calls(2)
    assert same(first[0], again[0])
    assert same(first[1], again[1])
    assert not same(first[0], other[0])
    assert not same(first[0], first[1])


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_speed_changes_the_length(name: str, voice: Voices) -> None:
    slow, normal, fast = (voice(name).synthesize(LONG, speed=speed).duration_s for speed in (0.8, 1.0, 1.25))
    assert 1.1 < slow / normal < 1.4
    assert 0.7 < fast / normal < 0.95


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("text", ["", " ", "\n\t \u00a0"])
def test_white_space_is_speech_without_samples(name: str, text: str, voice: Voices) -> None:
    said = voice(name).synthesize(text)
    assert said.samples.shape == (0,)
    assert said.samples.dtype == np.float32
    assert said.sample_rate_hz == RATES_HZ[name]
    assert list(voice(name).stream(text)) == []


@pytest.mark.real
@pytest.mark.parametrize(("name", "only"), [(PIPER, "joe"), (HIBARI, "heart")])
def test_what_a_voice_cannot_do_is_refused_before_it_speaks(name: str, only: str, voice: Voices) -> None:
    speaker = voice(name)
    assert speaker.voices == (only,)
    assert same(speaker.synthesize(SENTENCE), speaker.synthesize(SENTENCE, language="en", voice=only))
    with pytest.raises(EngineError, match=rf"no voice named 'alice'\. Available: {only}"):
        speaker.stream(SENTENCE, voice="alice")
    with pytest.raises(EngineError, match=r"does not speak the language 'de'\. It speaks: en"):
        speaker.stream(SENTENCE, language="de")


@pytest.mark.real
@pytest.mark.parametrize(("name", "bounds"), [(PIPER, (0.25, 4)), (HIBARI, (0.5, 2))])
def test_a_speed_out_of_bounds_is_refused(name: str, bounds: tuple[float, float], voice: Voices) -> None:
    for within in bounds:
        assert voice(name).synthesize(SENTENCE, speed=within).samples.size
    for beyond in (bounds[0] - 0.01, bounds[1] + 0.01, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(EngineError, match=f"Choose {bounds[0]:g} to {bounds[1]:g}"):
            voice(name).stream(SENTENCE, speed=beyond)


@pytest.mark.real
def test_hibari_refuses_letters_that_it_would_leave_out(voice: Voices) -> None:
    with pytest.raises(EngineError, match="cannot read: 日 本"):
        voice(HIBARI).stream("From 日本 to the café.")
    assert voice(HIBARI).synthesize("Naïve, in the café: 5 dollars!").samples.size


@pytest.mark.real
def test_hibari_speaks_with_the_checked_file_and_fetches_no_other(
    cards: Mapping[str, ModelCard], weights_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hibari import voices

    monkeypatch.setattr(voices, "download", lambda *args: pytest.fail("the library reached for the network"))
    emma = cards[HIBARI].model_copy(update={"args": {"voice": "emma"}})
    speaker = load(emma, weights_of(HIBARI))
    assert speaker.voices == ("emma",)
    assert Path(speaker._library.model_path).parent == weights_of(HIBARI)
    with pytest.raises(EngineError, match=r"no voice of hibari named 'ema'. Did you mean 'emma'"):
        load(emma.model_copy(update={"args": {"voice": "ema"}}), weights_of(HIBARI))


@pytest.mark.parametrize(("engine", "name"), [(Piper, PIPER), (Hibari, HIBARI)])
def test_a_place_that_the_library_would_quietly_replace_is_refused(engine: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not run on cuda"):
        engine(tmp_path, Placement("cuda", CPU[name].compute_type, 1), engine.Decoding())
    with pytest.raises(EngineError, match="no compute type 'float16'"):
        engine(tmp_path, Placement("cpu", "float16", 1), engine.Decoding())


@pytest.mark.parametrize(("engine", "name"), [(Piper, PIPER), (Hibari, HIBARI)])
def test_a_folder_must_hold_one_voice(engine: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"found: none"):
        engine(tmp_path, CPU[name], engine.Decoding())
    for file in ("a.onnx", "b.onnx"):
        (tmp_path / file).touch()
    with pytest.raises(EngineError, match=r"found: a.onnx, b.onnx"):
        engine(tmp_path, CPU[name], engine.Decoding())


@pytest.mark.parametrize(
    ("engine", "name", "library", "line"),
    [(Piper, PIPER, "piper", "piper-tts>=1.8"), (Hibari, HIBARI, "hibari", "hibari-tts==0.2.1")],
)
def test_a_missing_library_gives_the_line_that_installs_it(
    engine: Any, name: str, library: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(EngineError) as caught:
        engine(tmp_path, CPU[name], engine.Decoding())
    assert line in caught.value.remedy


@pytest.fixture
def changed_joe(tmp_path: Path, weights_of: Callable[[str], Path]) -> Callable[..., Path]:
    """The real voice joe with changes to its configuration."""

    def change(**changes: Any) -> Path:
        name = "en_US-joe-medium.onnx"
        shutil.copyfile(weights_of(PIPER) / name, tmp_path / name)
        settings = json.loads((weights_of(PIPER) / f"{name}.json").read_text())
        (tmp_path / f"{name}.json").write_text(json.dumps({**settings, **changes}))
        return tmp_path

    return change


@pytest.mark.real
def test_piper_refuses_a_phonemizer_that_would_fetch_a_model(changed_joe: Callable[..., Path]) -> None:
    with pytest.raises(EngineError, match="phonemizer 'pinyin'"):
        Piper(changed_joe(phoneme_type="pinyin"), CPU[PIPER], PiperDecoding())


@pytest.mark.real
def test_the_speakers_of_a_piper_voice_are_its_voices_the_default_first(changed_joe: Callable[..., Path]) -> None:
    speakers = {"num_speakers": 3, "speaker_id_map": {"c": 2, "b": 1, "a": 0}, "default_speaker_id": 1}
    assert Piper(changed_joe(**speakers), CPU[PIPER], PiperDecoding()).voices == ("b", "a", "c")


@pytest.mark.real
def test_an_early_piper_voice_without_a_language_takes_espeaks(changed_joe: Callable[..., Path]) -> None:
    speaker = Piper(changed_joe(language={}, dataset=None), CPU[PIPER], PiperDecoding())
    assert speaker.voices == ("en_US-joe-medium",)
    assert speaker.stream(SENTENCE, language="en")


def test_every_option_is_one_of_the_library() -> None:
    import hibari
    import piper

    assert PiperDecoding.model_fields.keys() - {"seed"} <= {field.name for field in fields(piper.SynthesisConfig)}
    assert HibariDecoding.model_fields.keys() <= inspect.signature(hibari.Hibari.stream).parameters.keys()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \n ", []),
        ("One.", ["One."]),
        ("One. Two. Three is.", ["One. Two.", "Three is."]),
        ("One. Two three four", ["One.", "Two three", "four"]),
        ("one, two three", ["one,", "two three"]),
        ("onetwothreefour", ["onetwothre", "efour"]),
        ("“One.” Two three.", ["“One.”", "Two three."]),
        ("一二三。四五六七八九十", ["一二三。", "四五六七八九十"]),
    ],
)
def test_blocks_end_with_a_sentence_else_a_clause_else_a_word(text: str, parts: list[str]) -> None:
    assert list(blocks(text, 10)) == parts


def test_sentences_are_cut_each_and_long_ones_as_blocks() -> None:
    assert list(sentences("One. Two! “Three?” four\nfive six seven", 10)) == [
        "One.",
        "Two!",
        "“Three?”",
        "four",
        "five six",
        "seven",
    ]


@given(st.text(alphabet="ab.,。 \n”", max_size=80), st.integers(1, 20), st.sampled_from([blocks, sentences]))
def test_no_part_is_too_long_and_nothing_but_white_space_is_lost(
    text: str, most: int, cut: Callable[[str, int], Iterator[str]]
) -> None:
    parts = list(cut(text, most))
    assert all(0 < len(part) <= most and part == part.strip() for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())
