"""The CUDA paths of the engines; each test runs where its engine's library finds a device.

What is held is that a device hears what the CPU hears. Half precision rounds otherwise, so figures are alike and not equal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.card import ModelCard
from models.engine import Placement, build_engine, engine_class, placement_of
from models.engines.faster_whisper import FasterWhisper, FasterWhisperDecoding
from models.engines.seamless import Seamless, SeamlessDecoding
from models.engines.transformers_ctc import CTCDecoding, TransformersCTC
from models.errors import EngineError
from models.types import Transcript
from tests.models.ctc_checkpoints import overfitted_wav2vec2, random_parakeet
from tests.models.seamless_checkpoint import Lesson, write_checkpoint

Clip = Callable[[str], NDArray[np.float32]]
Weights = Callable[[str], Path]
Engines = Callable[..., Any]

OPENAI, TRANSFORMERS = "whisper-tiny.en", "whisper-tiny.en-transformers"
TINY = ["faster-whisper-tiny.en", OPENAI, TRANSFORMERS]
BASE = ["faster-whisper-base", "whisper-base", "whisper-base-transformers"]
TYPES = ["float16", "bfloat16", "float32"]
OF_TORCH = [(OPENAI, "float16"), (OPENAI, "float32"), *((TRANSFORMERS, compute_type) for compute_type in TYPES)]
MISSING = "is not found or cannot be loaded"
"""What CTranslate2 says where the device is there, and a library of CUDA is not."""
KNOWN = {
    "IN BEING COMPARATIVELY MODERN": "lj-lj001-0002.flac",
    "THE CHILD ALMOST HURT THE SMALL DOG": "harvard-spk1-snt1.wav",
}
JOY, COAT = "harvard-spk2-snt2.wav", "harvard-spk2-snt4.wav"
ENGLISH = {JOY: "What joy there is in living.", COAT: "Mend the coat before you go out."}
FRENCH = {JOY: "Quelle joie de vivre !", COAT: "Raccommode le manteau avant de sortir."}


def skip_without_cuda(packages: Collection[str]) -> None:
    if "torch" in packages:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch finds no CUDA device: run on a machine with one and a CUDA build of torch")
    else:
        import ctranslate2

        if ctranslate2.get_cuda_device_count() < 1:
            pytest.skip("CTranslate2 finds no CUDA device: run on a machine with one and the libraries of CUDA 12")


@pytest.fixture(scope="session")
def on_cuda(cards: Mapping[str, ModelCard], weights_of: Weights) -> Engines:
    """A real engine on the device; one is built per card, compute type and decoding settings."""
    built: dict[str, Any] = {}

    def get(name: str, compute_type: str | None = None, **decoding: Any) -> Any:
        skip_without_cuda(engine_class(cards[name]).packages)
        key = f"{name} {compute_type} {sorted(decoding.items())}"
        if key not in built:
            card = cards[name].model_copy(update={"decoding": {**cards[name].decoding, **decoding}})
            try:
                built[key] = build_engine(card, weights_of(name), placement_of(card, "cuda", compute_type))
            except EngineError as error:
                if MISSING not in error.message:
                    raise
                pytest.skip(f"{error.message} {error.remedy}")
        return built[key]

    return get


def assert_alike(one: Transcript, other: Transcript, *, probability: float, seconds: float) -> None:
    assert one.text == other.text
    assert (one.language, [word.text for word in one.words]) == (other.language, [word.text for word in other.words])
    assert one.confidence == pytest.approx(other.confidence, abs=probability)
    for first, second in zip(one.words, other.words, strict=True):
        assert (first.start_s, first.end_s) == pytest.approx((second.start_s, second.end_s), abs=seconds)
        assert first.probability == pytest.approx(second.probability, abs=5 * probability)
    for mine, yours in zip(one.segments, other.segments, strict=True):
        assert mine.avg_logprob == pytest.approx(yours.avg_logprob, abs=probability)
        assert mine.no_speech_probability == pytest.approx(yours.no_speech_probability, abs=probability)


# Whisper


@pytest.mark.gpu
@pytest.mark.parametrize("name", TINY)
def test_a_cuda_device_hears_the_same_sentence(name: str, on_cuda: Engines, clip: Clip) -> None:
    text = on_cuda(name).transcribe(clip("jfk-inaugural.flac"), language="en").text
    assert "ask not what your country can do for you" in text.lower()


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "compute_type"), OF_TORCH)
def test_words_and_probabilities_are_those_of_the_cpu(
    name: str, compute_type: str, on_cuda: Engines, engine: Engines, clip: Clip
) -> None:
    heard = on_cuda(name, compute_type)
    assert all(tensor.is_cuda for tensor in heard._model.state_dict().values())
    samples = clip("harvard-spk1-snt1.wav")
    close = {"probability": 1e-3, "seconds": 0.021} if compute_type == "float32" else {"probability": 0.05, "seconds": 0.1}
    assert_alike(heard.transcribe(samples, language="en"), engine(name).transcribe(samples, language="en"), **close)


@pytest.mark.gpu
@pytest.mark.parametrize("name", TINY)
def test_a_recording_of_several_windows_is_heard_to_its_end(name: str, on_cuda: Engines, clip: Clip) -> None:
    heard = on_cuda(name).transcribe(clip("longform-en.mp3"), language="en")
    for early, late in (("From fairest creatures", "bear his memory"), ("bear his memory", "thy sweet self")):
        assert 0 <= heard.text.find(early) < heard.text.find(late)
    ends = [word.end_s for word in heard.words]
    assert ends == sorted(ends)
    assert 30 < ends[-1] <= 53.3


@pytest.mark.gpu
def test_a_recording_of_several_blocks_is_heard_to_its_end(on_cuda: Engines, clip: Clip) -> None:
    """Beyond two minutes openai-whisper is given features made in blocks (`models.engines._mel_blocks`)."""
    heard = on_cuda(OPENAI).transcribe(np.tile(clip("longform-en.mp3"), 3), language="en")
    assert heard.text.count("From fairest creatures") == 3
    assert heard.words[-1].end_s > 120


@pytest.mark.gpu
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_batch_says_what_each_alone_says(beam_size: int, on_cuda: Engines, clip: Clip) -> None:
    heard = on_cuda(TRANSFORMERS, beam_size=beam_size)
    samples = [clip("harvard-spk1-snt1.wav"), clip("lj-lj001-0002.flac"), np.zeros(0, np.float32)]
    for one, alone in zip(heard.transcribe_batch(samples, language="en"), samples, strict=True):
        assert_alike(one, heard.transcribe(alone, language="en"), probability=0.05, seconds=0.1)


@pytest.mark.gpu
def test_a_stream_joins_to_the_whole(on_cuda: Engines, clip: Clip) -> None:
    heard, samples = on_cuda(TRANSFORMERS), clip("longform-en.mp3")
    pieces = list(heard.transcribe_stream(samples, language="en"))
    assert len(pieces) > 1
    assert "".join(piece.text for piece in pieces) == heard.transcribe(samples, language="en").text


@pytest.mark.gpu
@pytest.mark.parametrize("name", TINY)
def test_one_engine_serves_two_threads_without_mixing_them(name: str, on_cuda: Engines, clip: Clip) -> None:
    samples = [clip("harvard-spk1-snt1.wav"), clip("lj-lj001-0002.flac")] * 2
    heard = on_cuda(name)
    alone = [heard.transcribe(one, language="en").text for one in samples]
    with ThreadPoolExecutor(2) as pool:
        assert [one.text for one in pool.map(lambda one: heard.transcribe(one, language="en"), samples)] == alone


@pytest.mark.gpu
@pytest.mark.parametrize("name", TINY[:2])
def test_a_warmed_up_engine_hears_the_same(name: str, on_cuda: Engines, clip: Clip) -> None:
    heard, samples = on_cuda(name), clip("harvard-spk1-snt1.wav")
    before = heard.transcribe(samples, language="en")
    heard.warm_up()
    assert heard.transcribe(samples, language="en") == before


@pytest.mark.gpu
@pytest.mark.parametrize("name", BASE)
def test_a_multilingual_model_detects_the_language_and_translates(name: str, on_cuda: Engines, clip: Clip) -> None:
    assert on_cuda(name).transcribe(clip("longform-de.mp3")[: 10 * 16_000], language=None).language == "de"
    english = on_cuda(name).translate(clip("longform-es.mp3")[: 12 * 16_000], language=None, target="en")
    assert "Manuel Tamayo" in english.text
    assert english.language == "en"


@pytest.mark.parametrize(("name", "compute_type"), [(OPENAI, "int8"), (OPENAI, "bfloat16"), (TRANSFORMERS, "int8")])
def test_a_compute_type_that_the_library_lacks_is_refused(
    name: str, compute_type: str, cards: Mapping[str, ModelCard], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=compute_type) as caught:
        build_engine(cards[name], tmp_path, placement_of(cards[name], "cuda", compute_type))
    assert "Available: " in caught.value.remedy


@pytest.mark.gpu
def test_ctranslate2_refuses_a_compute_type_it_lacks(on_cuda: Engines) -> None:
    with pytest.raises(EngineError, match="on cuda with int3: Invalid compute type"):
        on_cuda(TINY[0], "int3")


@pytest.mark.real
def test_a_library_of_the_device_that_is_missing_is_named_at_once(
    weights_of: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CTranslate2 loads cuBLAS at its first use. Here the device that it finds is the CPU, which need not say so."""
    from faster_whisper import WhisperModel

    def fail(*_: Any) -> None:
        raise RuntimeError(f"Library libcublas.so.12 {MISSING}")

    monkeypatch.setattr(WhisperModel, "encode", fail)
    with pytest.raises(EngineError, match=r"libcublas\.so\.12 is not found"):
        FasterWhisper(weights_of(TINY[0]), Placement("auto", "int8", 1), FasterWhisperDecoding())


# Others, on tiny checkpoints


@pytest.mark.gpu
@pytest.mark.parametrize("compute_type", TYPES)
def test_a_ctc_model_hears_what_it_knows(compute_type: str, clip: Clip, tmp_path: Path) -> None:
    skip_without_cuda(TransformersCTC.packages)
    recordings = {text: clip(name) for text, name in KNOWN.items()}
    folder = overfitted_wav2vec2(tmp_path, recordings)
    engine = TransformersCTC(folder, Placement("cuda", compute_type, 1), CTCDecoding(), languages=["en"])
    heard = engine.transcribe_batch([*recordings.values()], language="en")
    assert [one.text for one in heard] == [*recordings]
    assert all(one.confidence is not None and one.confidence > 0.8 for one in heard)


@pytest.mark.gpu
@pytest.mark.parametrize("compute_type", TYPES)
def test_a_ctc_model_that_pads_hears_a_batch(compute_type: str, clip: Clip, tmp_path: Path) -> None:
    """Random weights: what is held is that lengths and masks are where the model is."""
    skip_without_cuda(TransformersCTC.packages)
    engine = TransformersCTC(random_parakeet(tmp_path), Placement("cuda", compute_type, 1), CTCDecoding(), languages=["en"])
    samples = [clip(name) for name in KNOWN.values()]
    for heard, alone in zip(engine.transcribe_batch(samples, language="en"), samples, strict=True):
        assert heard.words and heard.words[-1].end_s <= round(alone.size / 16_000, 3)
        assert heard.confidence is not None and 0 < heard.confidence <= 1


@pytest.fixture(scope="module")
def seamless(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without_cuda(Seamless.packages)
    lessons = [
        Lesson(clip(name), code, text) for code, texts in (("eng", ENGLISH), ("fra", FRENCH)) for name, text in texts.items()
    ]
    return write_checkpoint(tmp_path_factory.mktemp("seamless"), lessons)


@pytest.mark.gpu
@pytest.mark.parametrize("compute_type", TYPES)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_seamless_hears_translates_and_speaks(compute_type: str, num_beams: int, seamless: Path, clip: Clip) -> None:
    engine = Seamless(seamless, Placement("cuda", compute_type, 1), SeamlessDecoding(num_beams=num_beams))
    for name, text in ENGLISH.items():
        heard = engine.transcribe(clip(name), language="en")
        assert heard.text == text
        assert heard.confidence is not None and heard.confidence > 0.8
        assert engine.translate(clip(name), language="en", target="fr").text == FRENCH[name]
    spoken = engine.synthesize("What joy!", language="en")
    assert spoken.duration_s > 0.1
    assert 0 < np.abs(spoken.samples).max() <= 1
