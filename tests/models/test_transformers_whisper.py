"""Whisper on transformers: the weights lose nothing, windows join, batches change nothing, and what it is not is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from safetensors.torch import save_file

from models.capabilities import BatchTranscriber
from models.card import ModelCard
from models.convert import read_whisper
from models.convert_transformers import ct2_to_transformers, transformers_name
from models.engine import Placement, build_engine, decoding_of
from models.engines._timestamps import Piece, split_at_timestamps
from models.engines.transformers_whisper import TransformersWhisper, TransformersWhisperDecoding
from models.errors import CardError, EngineError, WeightsError
from models.types import Transcript

MakeCard = Callable[..., ModelCard]
Clip = Callable[[str], NDArray[np.float32]]
Engines = Callable[..., BatchTranscriber]
Weights = Callable[[str], Path]

ENGINE = "models.engines.transformers_whisper:TransformersWhisper"
TINY, BASE = "whisper-tiny.en-transformers", "whisper-base-transformers"
CPU = Placement("cpu", "float32", 1)
CLIPS = ("harvard-spk1-snt1.wav", "lj-lj001-0002.flac", "cv-22058267.mp3")
ZERO = 100
"""Id of the timestamp 0.00 in the table below; lower ids are text."""


def at(seconds: float) -> int:
    return ZERO + round(seconds / 0.02)


@pytest.mark.parametrize(
    ("tokens", "pieces", "covered_s"),
    [
        pytest.param([1, 2], [Piece((0, 2), 0, 30)], 30, id="no timestamps: the whole window"),
        pytest.param([], [Piece((0, 0), 0, 30)], 30, id="nothing"),
        pytest.param([at(0), 1, 2], [Piece((0, 3), 0, 30)], 30, id="no end: up to the window's"),
        pytest.param([at(0), 1, at(4)], [Piece((0, 3), 0, 4)], 30, id="one segment, then nothing"),
        pytest.param(
            [at(0), 1, at(4), at(5), 2, at(9)], [Piece((0, 3), 0, 4), Piece((3, 6), 5, 9)], 30, id="two, then nothing"
        ),
        pytest.param(
            [at(0), 1, at(4), at(5), 2, at(9), at(9)],
            [Piece((0, 3), 0, 4), Piece((3, 6), 5, 9)],
            9,
            id="two, then more: the next window begins there",
        ),
        pytest.param([at(0), 1, at(4), at(4), 2], [Piece((0, 3), 0, 4)], 4, id="the unfinished one is heard again"),
        pytest.param([at(0), at(0), 1], [Piece((0, 1), 0, 0)], 30, id="a pair at 0.00 does not stop the clock"),
        pytest.param([at(0), 1, at(40), at(40)], [Piece((0, 3), 0, 30)], 30, id="no later than the window"),
    ],
)
def test_a_window_is_split_at_its_timestamps(tokens: list[int], pieces: list[Piece], covered_s: float) -> None:
    assert split_at_timestamps(tokens, ZERO, 30.0) == (pieces, covered_s)


@pytest.mark.real
@pytest.mark.parametrize(("name", "source"), [(TINY, "faster-whisper-tiny.en"), (BASE, "faster-whisper-base")])
def test_the_conversion_is_lossless(name: str, source: str, weights_of: Weights) -> None:
    tensors = load_file(weights_of(name) / "model.safetensors")
    expected = read_whisper(weights_of(source)).tensors
    assert {transformers_name(key) for key in expected} == tensors.keys()
    for key, tensor in expected.items():
        got = tensors[transformers_name(key)]
        assert got.dtype == tensor.dtype == np.float16
        assert np.array_equal(got, tensor), key


@pytest.mark.real
def test_two_libraries_encode_the_same_audio_alike(weights_of: Weights, engine: Engines, clip: Clip) -> None:
    """A tensor in the wrong place would show."""
    import torch
    import whisper

    ours, theirs = engine(TINY), engine("whisper-tiny.en")
    assert isinstance(ours, TransformersWhisper)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(clip("jfk-inaugural.flac")))[None]
    with torch.inference_mode():
        got = ours._model.get_encoder()(mel).last_hidden_state
        expected = theirs._model.encoder(mel)  # type: ignore[attr-defined]
    assert float((got - expected).abs().max()) < 1e-4


@pytest.mark.real
@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [("{}", "is not a tokenizer"), ('{"added_tokens": []}', r"lacks '<\|endoftext\|>'"), (None, "is not a tokenizer")],
)
def test_a_tokenizer_that_is_not_whispers_is_refused(
    tokenizer: str | None, reason: str, weights_of: Weights, tmp_path: Path
) -> None:
    source = weights_of("faster-whisper-tiny.en")
    for name in ("model.bin", "config.json"):
        (tmp_path / name).hardlink_to(source / name)
    if tokenizer is not None:
        (tmp_path / "tokenizer.json").write_text(tokenizer)
    with pytest.raises(WeightsError, match=reason):
        ct2_to_transformers(tmp_path, tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"patience": 2.0}, {"temperature": 0.2}, {"condition_on_previous_text": True}, {"beam_size": 0}]
)
def test_an_option_it_does_not_have_is_refused(wrong: dict[str, Any], make_card: MakeCard) -> None:
    with pytest.raises(CardError, match=next(iter(wrong))):
        decoding_of(make_card(engine=ENGINE, decoding=wrong))


def test_a_missing_library_gives_the_line_that_installs_it(
    make_card: MakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EngineError) as caught:
        build_engine(make_card(engine=ENGINE), tmp_path, CPU)
    assert "pip install 'transformers>=5.23,<6'" in caught.value.remedy


@pytest.mark.parametrize(("device", "compute_type"), [("cpu", "int8"), ("cpu", "float16"), ("tpu", "float32")])
def test_a_placement_it_does_not_run_on_is_refused(
    device: str, compute_type: str, make_card: MakeCard, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=rf"not run with {compute_type} on {device}"):
        build_engine(make_card(engine=ENGINE), tmp_path, Placement(device, compute_type, 1))


def altered(source: Path, folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Any] | None = None) -> Path:
    """Copy a model's folder with another configuration, and other tensors where they are given."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("model.safetensors", ".*"))
    whole = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**whole, **config}))
    if tensors is None:
        (folder / "model.safetensors").hardlink_to(source / "model.safetensors")
    else:
        save_file(dict(tensors), folder / "model.safetensors")
    return folder


def load(folder: Path) -> TransformersWhisper:
    return TransformersWhisper(folder, CPU, TransformersWhisperDecoding())


@pytest.mark.real
def test_a_pickle_is_not_opened(weights_of: Weights, tmp_path: Path) -> None:
    mark = tmp_path / "opened"
    folder = altered(weights_of(TINY), tmp_path / "pickled", {})
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {mark}'\ntR.".encode())
    with pytest.raises(EngineError, match=r"model\.safetensors"):
        load(folder)
    assert not mark.exists()


@pytest.mark.real
def test_code_beside_the_weights_is_not_run(weights_of: Weights, tmp_path: Path) -> None:
    """Such a folder asks to be loaded by classes of its own; the library's are used."""
    mark = tmp_path / "ran"
    classes = {"AutoConfig": "clever.Config", "AutoModelForSpeechSeq2Seq": "clever.Model"}
    folder = altered(weights_of(TINY), tmp_path / "clever", {"auto_map": classes})
    (folder / "clever.py").write_text(f"open({str(mark)!r}, 'w')\n")
    assert type(load(folder)._model).__module__.startswith("transformers.")
    assert not mark.exists()


@pytest.mark.real
def test_weights_without_alignment_heads_give_no_words(weights_of: Weights, clip: Clip, tmp_path: Path) -> None:
    folder = altered(weights_of(TINY), tmp_path / "headless", {})
    generation = json.loads((folder / "generation_config.json").read_text())
    del generation["alignment_heads"]
    (folder / "generation_config.json").write_text(json.dumps(generation))
    with pytest.raises(EngineError, match="has no alignment_heads"):
        load(folder)
    plain = TransformersWhisper(folder, CPU, TransformersWhisperDecoding(word_timestamps=False))
    heard = plain.transcribe(clip("cv-22058267.mp3"), language="en")
    assert heard.text
    assert heard.words == ()
    assert heard.confidence is None


@pytest.mark.real
def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    """A tiny model with random weights."""
    from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

    sizes = {f"{side}_{what}": 4 for side in ("encoder", "decoder") for what in ("attention_heads", "ffn_dim")}
    config = Speech2TextConfig(vocab_size=8, d_model=16, encoder_layers=1, decoder_layers=1, conv_channels=16, **sizes)
    Speech2TextForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(EngineError, match="holds a speech_to_text model"):
        load(tmp_path)


@pytest.mark.real
def test_weights_that_lack_a_tensor_are_refused(weights_of: Weights, tmp_path: Path) -> None:
    from safetensors.torch import load_file as load_torch

    tensors = load_torch(weights_of(TINY) / "model.safetensors")
    del tensors["model.decoder.layers.3.fc2.bias"]
    with pytest.raises(EngineError, match=r"no values for model\.decoder\.layers\.3\.fc2\.bias"):
        load(altered(weights_of(TINY), tmp_path / "partial", {}, tensors))


@pytest.mark.real
@pytest.mark.parametrize("name", [TINY, BASE])
def test_a_famous_sentence(name: str, engine: Engines, clip: Clip) -> None:
    heard = engine(name).transcribe(clip("jfk-inaugural.flac"), language="en")
    plain = "".join(letter for letter in heard.text.lower() if letter.isalpha() or letter == " ")
    assert "ask not what your country can do for you" in plain
    assert heard.language == "en"
    assert heard.confidence == pytest.approx(np.mean([word.probability for word in heard.words]))
    assert " ".join(word.text for word in heard.words) == heard.text


@pytest.mark.real
def test_words_have_the_times_that_the_other_engines_give(engine: Engines, clip: Clip) -> None:
    samples = clip("harvard-spk1-snt1.wav")
    ours = engine(TINY).transcribe(samples, language="en").words
    theirs = engine("whisper-tiny.en").transcribe(samples, language="en").words
    assert [word.text for word in ours] == [word.text for word in theirs]
    assert [word.start_s for word in ours] == pytest.approx([word.start_s for word in theirs], abs=0.1)
    assert [word.end_s for word in ours] == pytest.approx([word.end_s for word in theirs], abs=0.1)


@pytest.mark.real
def test_a_window_is_aligned_as_the_library_aligns_it(engine: Engines, clip: Clip) -> None:
    """Its method is not public: this says so if it changes. Its times are when tokens end."""
    import torch

    heard, samples = engine(TINY), clip("harvard-spk1-snt1.wav")
    assert isinstance(heard, TransformersWhisper)
    inputs = heard._features(samples, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
    with torch.inference_mode():
        theirs = heard._model.generate(**inputs, return_timestamps=True, return_token_timestamps=True, max_new_tokens=224)
    ends_s = theirs["token_timestamps"][0].tolist()
    words = heard.transcribe(samples, language="en").words
    assert len(words) == 7  # of one token each but the last, with its full stop; before them is 0.00
    assert [word.end_s for word in words[:-1]] == pytest.approx(ends_s[1:7], abs=0.001)


def assert_alike(one: Transcript, other: Transcript) -> None:
    """All is equal but for the last digits of probabilities, which depend on how many rows are multiplied at once."""
    assert one.text == other.text
    assert [(word.text, word.start_s, word.end_s) for word in one.words] == [
        (word.text, word.start_s, word.end_s) for word in other.words
    ]
    assert [word.probability for word in one.words] == pytest.approx([word.probability for word in other.words], abs=1e-3)
    assert (one.language, len(one.segments)) == (other.language, len(other.segments))


@pytest.mark.real
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_batch_says_what_each_alone_says(beam_size: int, engine: Engines, clip: Clip) -> None:
    heard = engine(TINY, beam_size=beam_size)
    samples = [*(clip(name) for name in CLIPS), np.zeros(0, np.float32)]
    together = heard.transcribe_batch(samples, language="en")
    assert len({one.text for one in together}) == len(samples)
    for one, alone in zip(together, samples, strict=True):
        assert_alike(one, heard.transcribe(alone, language="en"))
        assert all(0 <= word.probability <= 1 for word in one.words if word.probability is not None)
    assert heard.transcribe_batch([], language="en") == []


@pytest.mark.real
def test_recordings_of_a_batch_may_be_in_different_languages(engine: Engines, clip: Clip) -> None:
    heard = engine(BASE, word_timestamps=False)
    samples = [clip("longform-de.mp3")[: 6 * 16_000], clip("longform-es.mp3")[: 6 * 16_000], clip("harvard-spk1-snt1.wav")]
    together = heard.transcribe_batch(samples, language=None)
    assert [one.language for one in together] == ["de", "es", "en"]
    assert all(one.confidence is None and one.words == () for one in together)
    with pytest.raises(EngineError, match="'xx'"):
        heard.transcribe_batch(samples, language="xx")


@pytest.mark.real
def test_a_long_recording_is_heard_in_windows_that_join(engine: Engines, clip: Clip) -> None:
    heard = engine(TINY)
    assert isinstance(heard, TransformersWhisper)
    encoded: list[tuple[int, ...]] = []
    hook = heard._model.get_encoder().register_forward_pre_hook(lambda module, inputs: encoded.append(inputs[0].shape))
    try:
        whole = heard.transcribe(clip("longform-en.mp3"), language="en")
    finally:
        hook.remove()
    assert len(encoded) >= 2
    assert set(encoded) == {(1, 80, 3000)}  # however long the recording, this is what memory has to hold
    times = [time for segment in whole.segments for time in (segment.start_s, segment.end_s)]
    assert times == sorted(times)
    words = [time for word in whole.words for time in (word.start_s, word.end_s)]
    assert words == sorted(words)
    assert 30 < words[-1] <= 53.3
    for early, late in (("From fairest creatures", "bear his memory"), ("bear his memory", "thy sweet self")):
        assert 0 <= whole.text.find(early) < whole.text.find(late)


@pytest.mark.real
def test_a_stream_joins_to_the_whole(engine: Engines, clip: Clip) -> None:
    heard = engine(TINY)
    assert isinstance(heard, TransformersWhisper)
    samples = clip("digits-george-0.flac")
    pieces = list(heard.transcribe_stream(samples, language="en"))
    assert pieces and "".join(piece.text for piece in pieces) == heard.transcribe(samples, language="en").text


@pytest.mark.real
def test_a_doubtful_window_is_silence_unless_the_rule_is_off(engine: Engines, clip: Clip) -> None:
    noise = clip("nonspeech-noise2.wav")
    assert engine(TINY).transcribe(noise, language="en").text == ""
    heard = engine(TINY, no_speech_threshold=None).transcribe(noise, language="en")
    assert heard.text
    assert all((segment.no_speech_probability or 0) > 0.6 for segment in heard.segments)


@pytest.mark.real
def test_an_english_model_refuses_german(engine: Engines) -> None:
    with pytest.raises(EngineError, match=r"language 'de'. It knows: en"):
        engine(TINY).transcribe(np.zeros(16_000, np.float32), language="de")
