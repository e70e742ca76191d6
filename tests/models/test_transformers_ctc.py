"""CTC models on transformers: windows join as if there were none, words have times, and batches change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from models.card import ModelCard
from models.engine import Placement, build_engine, decoding_of
from models.engines._ctc import collapse, overlapping
from models.engines.transformers_ctc import CTCDecoding, TransformersCTC
from models.errors import CardError, EngineError
from tests.models.ctc_checkpoints import overfitted_wav2vec2, random_parakeet, random_wav2vec2

Clip = Callable[[str], NDArray[np.float32]]
MakeCard = Callable[..., ModelCard]

ENGINE = "models.engines.transformers_ctc:TransformersCTC"
CPU = Placement("cpu", "float32", 1)
RATE_HZ, FRAME = 16_000, 320
KNOWN = {
    "IN BEING COMPARATIVELY MODERN": "lj-lj001-0002.flac",
    "THE CHILD ALMOST HURT THE SMALL DOG": "harvard-spk1-snt1.wav",
}
WINDOWED = CTCDecoding(window_s=1.4, context_s=0.2)


def load(folder: Path, decoding: CTCDecoding | None = None, **args: Any) -> TransformersCTC:
    return TransformersCTC(folder, CPU, decoding or CTCDecoding(), **{"languages": ["en"], **args})


@pytest.fixture(scope="module")
def known(clip: Clip) -> dict[str, NDArray[np.float32]]:
    """Text → samples of what the overfitted model knows."""
    return {text: clip(name) for text, name in KNOWN.items()}


@pytest.fixture(scope="module")
def overfitted(known: dict[str, NDArray[np.float32]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return overfitted_wav2vec2(tmp_path_factory.mktemp("overfitted"), known)


@pytest.fixture(scope="module")
def parakeet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_parakeet(tmp_path_factory.mktemp("parakeet"))


@pytest.mark.parametrize(
    ("ids", "tokens"),
    [
        ([], []),
        ([0, 0], []),
        ([5], [(5, 0, 1)]),
        ([5, 5, 5], [(5, 0, 3)]),
        ([0, 5, 5, 0, 5, 0], [(5, 1, 3), (5, 4, 5)]),  # a blank between them makes two
        ([5, 6, 6, 0, 7], [(5, 0, 1), (6, 1, 3), (7, 4, 5)]),
    ],
)
def test_repeats_merge_and_blanks_go(ids: list[int], tokens: list[tuple[int, int, int]]) -> None:
    chances = np.linspace(0.5, 1.0, len(ids), dtype=np.float32)
    found = collapse(np.array(ids, np.int64), chances, blank=0)
    assert [(token.id, token.start, token.end) for token in found] == tokens
    assert [token.probability for token in found] == [chances[start:end].max() for _, start, end in tokens]


@given(size=st.integers(0, 5_000), step=st.integers(1, 7), length=st.integers(3, 40), share=st.floats(0.01, 0.49))
def test_written_parts_join_without_gap_or_overlap(size: int, step: int, length: int, share: float) -> None:
    context = max(1, int(length * share))
    written: list[int] = []
    plan = list(overlapping(size, step, length, context))
    for window in plan:
        assert window.samples.stop - window.samples.start <= length * step
        assert window.samples.start % step == 0
        frames = range(window.samples.start // step, -(-window.samples.stop // step))
        written.extend(frames[window.frames])
    assert written == list(range(-(-size // step)))
    for window in plan[1:]:
        assert window.samples.stop - window.samples.start > 2 * context * step  # the last hears enough too


@pytest.mark.parametrize("wrong", [{"window_s": 0}, {"context_s": 14.8}, {"context_s": -1}, {"beam_size": 5}])
def test_an_option_that_does_not_exist_or_fit_is_refused(wrong: dict[str, Any], make_card: MakeCard) -> None:
    with pytest.raises(CardError, match=next(iter(wrong))):
        decoding_of(make_card(engine=ENGINE, decoding=wrong))


def test_an_argument_it_does_not_have_is_refused(make_card: MakeCard, tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"no engine argument named 'language'.*Available: languages"):
        build_engine(make_card(engine=ENGINE, args={"language": "en"}), tmp_path, CPU)


@pytest.mark.real
def test_what_it_knows_by_heart_is_heard(overfitted: Path, known: dict[str, NDArray[np.float32]]) -> None:
    engine = load(overfitted)
    for text, samples in known.items():
        heard = engine.transcribe(samples, language="en")
        assert heard.text == text
        assert [word.text for word in heard.words] == text.split()
        assert heard.language == "en"
        times = [time for word in heard.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] <= samples.size / RATE_HZ
        chances = [word.probability for word in heard.words if word.probability is not None]
        assert len(chances) == len(heard.words)
        assert all(0 < chance <= 1 for chance in chances)
        assert heard.confidence == pytest.approx(np.mean(chances))


@pytest.mark.real
def test_words_and_their_frames_are_those_of_the_library(overfitted: Path, known: dict[str, NDArray[np.float32]]) -> None:
    import torch
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

    processor, model = Wav2Vec2Processor.from_pretrained(overfitted), Wav2Vec2ForCTC.from_pretrained(overfitted).eval()
    for samples in known.values():
        with torch.inference_mode():
            logits = model(**processor(samples, sampling_rate=RATE_HZ, return_tensors="pt")).logits[0]
        chances, ids = logits.softmax(-1).max(-1)
        expected = processor.tokenizer.decode(ids.tolist(), output_word_offsets=True)
        heard = load(overfitted).transcribe(samples, language=None)
        assert heard.text == expected.text
        assert [(word.text, word.start_s, word.end_s) for word in heard.words] == [
            (word["word"], pytest.approx(word["start_offset"] * 0.02), pytest.approx(word["end_offset"] * 0.02))
            for word in expected.word_offsets
        ]
        for word, offsets in zip(heard.words, expected.word_offsets, strict=True):
            part = slice(offsets["start_offset"], offsets["end_offset"])
            said = zip(ids[part].tolist(), chances[part].tolist(), strict=True)
            peaks = [max(chance for _, chance in run) for letter, run in groupby(said, itemgetter(0)) if letter]
            assert word.probability == pytest.approx(float(np.mean(peaks)), abs=1e-5)


@pytest.mark.real
def test_windows_are_heard_and_joined_as_by_hand(overfitted: Path, known: dict[str, NDArray[np.float32]]) -> None:
    """1.4 s windows with 0.2 s of context on the two recordings one after the other, 4.77 s."""
    import torch
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

    processor, model = Wav2Vec2Processor.from_pretrained(overfitted), Wav2Vec2ForCTC.from_pretrained(overfitted).eval()
    samples = np.concatenate(list(known.values()))
    ids: list[int] = []
    for start_s, first, last in ((0, 0, 1.2), (1, 0.2, 1.2), (2, 0.2, 1.2), (3, 0.2, 1.2), (4, 0.2, None)):
        window = samples[start_s * RATE_HZ : round((start_s + 1.4) * RATE_HZ)]
        with torch.inference_mode():
            logits = model(**processor(window, sampling_rate=RATE_HZ, return_tensors="pt")).logits[0]
        ids += logits.argmax(-1)[round(first * 50) : None if last is None else round(last * 50)].tolist()
    heard = load(overfitted, WINDOWED).transcribe(samples, language=None)
    assert heard.text.split() == processor.tokenizer.decode(ids).split()
    assert len(heard.words) > 5
    pieces = list(load(overfitted, WINDOWED).transcribe_stream(samples, language=None))
    assert len(pieces) > 2 and "".join(piece.text for piece in pieces) == heard.text
    assert [word for piece in pieces for word in piece.words] == list(heard.words)
    offsets = processor.tokenizer.decode(ids, output_word_offsets=True).word_offsets
    assert [word.start_s for word in heard.words] == pytest.approx([word["start_offset"] * 0.02 for word in offsets])


@pytest.mark.real
def test_memory_is_that_of_a_window_however_long_the_recording(overfitted: Path) -> None:
    engine = load(overfitted, CTCDecoding(window_s=2, context_s=0.5))
    heard: list[tuple[int, ...]] = []
    hook = engine._model.register_forward_pre_hook(
        lambda module, args, kwargs: heard.append(tuple(kwargs["input_values"].shape)), with_kwargs=True
    )
    try:
        engine.transcribe(np.zeros(60 * RATE_HZ, np.float32), language=None)
    finally:
        hook.remove()
    assert len(heard) == 59
    assert max(heard) == (1, 2 * RATE_HZ)


@pytest.mark.real
@pytest.mark.parametrize("kind", ["overfitted", "layer-norm", "parakeet"])
def test_a_batch_says_what_each_alone_says(
    kind: str, overfitted: Path, parakeet: Path, known: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    """The first was trained to hear padding and the others to ignore it."""
    folder = {"overfitted": overfitted, "parakeet": parakeet}.get(kind) or random_wav2vec2(tmp_path, layer_norm=True)
    engine = load(folder, WINDOWED)
    first, second = known.values()
    samples = [first, second, first[:0], first[:5_000], second[: second.size // 2], first, np.concatenate([first, second])]
    together = engine.transcribe_batch(samples, language="en")
    assert len({one.text for one in together}) >= 4
    for one, alone in zip(together, (engine.transcribe(some, language="en") for some in samples), strict=True):
        assert one.text == alone.text
        assert [(word.start_s, word.end_s) for word in one.words] == [(word.start_s, word.end_s) for word in alone.words]
        assert [word.probability for word in one.words] == pytest.approx(
            [word.probability for word in alone.words], abs=1e-4
        )
    assert engine.transcribe_batch([], language="en") == []


@pytest.mark.real
def test_parakeet_has_words_of_pieces_and_frames_of_80_ms(parakeet: Path, known: dict[str, NDArray[np.float32]]) -> None:
    import torch
    from transformers import AutoProcessor, ParakeetForCTC

    samples = next(iter(known.values()))
    heard = load(parakeet).transcribe(samples, language=None)
    model = ParakeetForCTC.from_pretrained(parakeet).eval()
    inputs = load(parakeet)._extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs)[0].tolist()
    assert heard.text == AutoProcessor.from_pretrained(parakeet).decode(ids, skip_special_tokens=True).strip()
    assert " ".join(word.text for word in heard.words) == heard.text
    assert len(heard.words) > 1
    for word in heard.words:
        for time in (word.start_s, word.end_s):
            assert time == pytest.approx(round(time / 0.08) * 0.08) or time == round(samples.size / RATE_HZ, 3)


@pytest.mark.real
def test_a_pause_ends_a_segment(overfitted: Path, known: dict[str, NDArray[np.float32]]) -> None:
    first, second = known.values()
    samples = np.concatenate([first, second])
    words = load(overfitted).transcribe(samples, language=None).words
    pauses = sorted({round(other.start_s - one.end_s, 3) for one, other in pairwise(words)})
    limit = pauses[len(pauses) // 2]
    heard = load(overfitted, CTCDecoding(segment_pause_s=limit)).transcribe(samples, language=None)
    assert heard.words == words
    assert 1 < len(heard.segments) < len(words)
    for one, other in pairwise(heard.segments):
        assert other.start_s - one.end_s > limit - 1e-6
    assert " ".join(segment.text for segment in heard.segments) == heard.text


@pytest.mark.real
@pytest.mark.parametrize("count", [0, 1, 399, 400, 1_599])
def test_next_to_nothing_can_be_heard(count: int, overfitted: Path, parakeet: Path) -> None:
    for folder in (overfitted, parakeet):
        heard = load(folder).transcribe(np.zeros(count, np.float32), language=None)
        assert heard.language == "en"
        assert all(word.end_s <= count / RATE_HZ + 1e-3 for word in heard.words)
        assert bool(heard.text) <= bool(count)


@pytest.mark.real
def test_languages_are_those_of_the_card(overfitted: Path) -> None:
    nothing = np.zeros(0, np.float32)
    with pytest.raises(EngineError, match=r"language 'de'. It knows: en"):
        load(overfitted).transcribe(nothing, language="de")
    with pytest.raises(EngineError, match="does not say what it writes"):
        load(overfitted, languages=[])
    several = load(overfitted, languages=["de", "fr"])
    assert several.transcribe(nothing, language=None).language is None
    assert several.transcribe(nothing, language="fr").language == "fr"


@pytest.mark.real
def test_the_layout_of_older_checkpoints_is_read(
    overfitted: Path, known: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    """facebook/wav2vec2-base-960h names the weight norm's parts by their old names and leaves out the mask's vector."""
    for name in ("preprocessor_config.json", "tokenizer_config.json", "vocab.json"):
        (tmp_path / name).hardlink_to(overfitted / name)
    config = json.loads((overfitted / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "mask_time_prob": 0.05}))
    tensors = load_file(overfitted / "model.safetensors")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, tensor in tensors.items():
        for new, before in old.items():
            name = name.replace(new, before)
        renamed[name] = tensor
    assert {name.rpartition(".")[2] for name in renamed} >= {"weight_g", "weight_v"}
    assert not any(name.endswith("masked_spec_embed") for name in renamed)  # which the configuration asks for
    save_file(renamed, tmp_path / "model.safetensors")
    text, samples = next(iter(known.items()))
    assert load(tmp_path).transcribe(samples, language=None).text == text


@pytest.mark.real
def test_weights_that_are_headless_broken_or_for_another_rate_are_refused(overfitted: Path, tmp_path: Path) -> None:
    headless = tmp_path / "headless"
    headless.mkdir()
    for path in overfitted.iterdir():
        (headless / path.name).write_bytes(path.read_bytes())
    tensors = load_file(headless / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "lm_head" not in name}, headless / "model.safetensors")
    with pytest.raises(EngineError, match=r"no values for lm_head\.bias, lm_head\.weight"):
        load(headless)
    config = json.loads((overfitted / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps({**config, "model_type": "whisper"}))
    with pytest.raises(EngineError, match="cannot load"):
        load(headless)
    (headless / "model.safetensors").write_bytes(b"cut short")
    (headless / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match="cannot load"):
        load(headless)
    with pytest.raises(EngineError, match="8000 Hz"):
        load(random_wav2vec2(tmp_path / "narrow", sampling_rate=8_000))
