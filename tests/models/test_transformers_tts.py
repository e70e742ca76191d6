"""VITS and SpeechT5 run from tiny checkpoints with random weights, in the official layout: what they say is noise.

So nothing here is about how they sound. Real weights are needed for that, and neither model's were ever here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.card import read_cards
from models.engine import Placement, decoding_of
from models.engines._speech import PIECE_CHARS, Speaker
from models.engines.speecht5 import SpeechT5, SpeechT5Decoding
from models.engines.vits import Vits, VitsDecoding
from models.errors import EngineError

CPU = Placement("cpu", "float32", 1)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SENTENCES = ("The first is said.", "Then there is another!", "Is this the third?")
TEXT = " ".join(SENTENCES)
EMBEDDING = 512


@pytest.fixture(scope="module")
def vits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VITS checkpoint with 42,000 random weights and three speakers, and the tokenizer of MMS-TTS."""
    import torch
    from transformers import VitsConfig, VitsModel

    folder = tmp_path_factory.mktemp("vits")
    torch.manual_seed(0)
    config = VitsConfig(
        vocab_size=len(LETTERS) + 4,
        hidden_size=16,
        num_hidden_layers=1,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=17,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=2,
        posterior_encoder_num_wavenet_layers=2,
        duration_predictor_filter_channels=16,
        depth_separable_num_layers=1,
        upsample_initial_channel=32,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        num_speakers=3,
        speaker_embedding_size=8,
    )
    VitsModel(config).save_pretrained(folder)
    write_json(folder / "vocab.json", {sign: number for number, sign in enumerate(f"_ {LETTERS}'-")})
    write_json(folder / "tokenizer_config.json", MMS_TOKENIZER)
    return folder


MMS_TOKENIZER = {
    "add_blank": True,
    "is_uroman": False,
    "language": "eng",
    "model_max_length": 1_000_000,
    "normalize": True,
    "pad_token": "_",
    "phonemize": False,
    "tokenizer_class": "VitsTokenizer",
    "unk_token": "<unk>",
}


@pytest.fixture(scope="module")
def speecht5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SpeechT5 checkpoint with random weights, its vocoder, two random voices and a real tokenizer of characters."""
    import sentencepiece
    import torch
    from transformers import SpeechT5Config, SpeechT5ForTextToSpeech, SpeechT5HifiGan, SpeechT5HifiGanConfig

    folder = tmp_path_factory.mktemp("speecht5")
    torch.manual_seed(0)
    config = SpeechT5Config(
        vocab_size=80,
        hidden_size=24,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        conv_dim=[8],
        conv_stride=[2],
        conv_kernel=[3],
        num_feat_extract_layers=1,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        num_mel_bins=8,
        speech_decoder_prenet_units=16,
        speech_decoder_postnet_units=16,
        speaker_embedding_dim=EMBEDDING,
        max_text_positions=60,
    )
    model = SpeechT5ForTextToSpeech(config)
    for parameter in model.speech_decoder_postnet.prob_out.parameters():  # never ends by itself
        torch.nn.init.constant_(parameter, 0 if parameter.ndim > 1 else -20)
    model.save_pretrained(folder)
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
    )
    SpeechT5HifiGan(vocoder).save_pretrained(folder / "vocoder")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([LETTERS, LETTERS.upper(), TEXT]),
        model_prefix=str(folder / "spm_char"),
        model_type="char",
        vocab_size=70,
        hard_vocab_limit=False,
        character_coverage=1.0,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    (folder / "spm_char.vocab").unlink()
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "SpeechT5Tokenizer"})
    (folder / "voices").mkdir()
    generator = np.random.default_rng(0)
    for name in ("slt", "bdl"):
        np.save(folder / "voices" / f"{name}.npy", generator.normal(size=EMBEDDING).astype(np.float32))
    return folder


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def load_vits(folder: Path, **decoding: Any) -> Vits:
    return Vits(folder, CPU, VitsDecoding(**decoding), language="en")


def load_speecht5(folder: Path, **decoding: Any) -> SpeechT5:
    return SpeechT5(folder, CPU, SpeechT5Decoding(**{"maxlenratio": 2, **decoding}))


@pytest.fixture(params=["vits", "speecht5"])
def load(request: pytest.FixtureRequest) -> Callable[..., Speaker]:
    """Loads one of the two checkpoints with decoding options."""
    folder = request.getfixturevalue(request.param)
    loader = {"vits": load_vits, "speecht5": load_speecht5}[request.param]
    return lambda **decoding: loader(folder, **decoding)


def test_speech_has_the_agreed_form(load: Callable[..., Speaker]) -> None:
    said = load().synthesize(TEXT)
    assert said.sample_rate_hz == 16_000
    assert said.samples.dtype == np.float32
    assert said.samples.ndim == 1
    assert said.samples.size > 1_000
    assert np.isfinite(said.samples).all()
    assert 0 < np.abs(said.samples).max() <= 1


def test_the_pieces_are_the_sentences_and_together_what_synthesize_gives(load: Callable[..., Speaker]) -> None:
    speaker = load()
    pieces = [piece.samples for piece in speaker.stream(f" {TEXT} ... ")]
    assert len(pieces) == len(SENTENCES)
    assert np.array_equal(np.concatenate(pieces), speaker.synthesize(TEXT).samples)
    for piece, sentence in zip(pieces, SENTENCES, strict=True):  # whatever was said before
        assert np.array_equal(piece, speaker.synthesize(sentence).samples)


def test_a_piece_is_computed_when_it_is_asked_for(load: Callable[..., Speaker], monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = load()
    said: list[str] = []
    inner = speaker._say
    monkeypatch.setattr(speaker, "_say", lambda sentence, *rest: (said.append(sentence), inner(sentence, *rest))[1])
    pieces = speaker.stream(TEXT)
    assert said == []
    for count in (1, 2, 3):
        next(pieces)
        assert said == list(SENTENCES[:count])


def test_what_is_random_is_in_the_seed(load: Callable[..., Speaker]) -> None:
    import torch

    speaker = load()
    first = speaker.synthesize(TEXT).samples
    before = torch.random.get_rng_state()
    assert np.array_equal(first, speaker.synthesize(TEXT).samples)
    assert torch.equal(before, torch.random.get_rng_state()), "the generator of the process was not put back"
    assert np.array_equal(first, load(seed=0).synthesize(TEXT).samples)
    assert not np.array_equal(first, load(seed=1).synthesize(TEXT).samples)


def test_each_voice_is_another(load: Callable[..., Speaker]) -> None:
    speaker = load()
    said = [speaker.synthesize(TEXT, voice=voice).samples for voice in speaker.voices]
    assert np.array_equal(said[0], speaker.synthesize(TEXT).samples)
    assert not any(np.array_equal(said[0], other) for other in said[1:])
    assert len(said) > 1


def test_what_it_cannot_do_is_refused_before_it_speaks(load: Callable[..., Speaker]) -> None:
    speaker = load()
    assert speaker.stream(TEXT, language="en")
    with pytest.raises(EngineError, match=r"does not speak the language 'de'\. It speaks: en"):
        speaker.stream(TEXT, language="de")
    with pytest.raises(EngineError, match=r"no voice named 'alice'\. Available: "):
        speaker.stream(TEXT, voice="alice")
    with pytest.raises(EngineError, match="cannot read: 7 ж"):
        speaker.stream("It is 7, not ж but: 7!")


@pytest.mark.parametrize("text", ["", " \n\t", "...", "?! - "])
def test_a_text_without_words_is_speech_without_samples(text: str, load: Callable[..., Speaker]) -> None:
    assert load().synthesize(text).samples.shape == (0,)


def test_the_voices_are_named_as_the_checkpoint_has_them(vits: Path) -> None:
    assert load_vits(vits).voices == ("0", "1", "2")


def test_the_voices_of_speecht5_are_its_files(speecht5: Path) -> None:
    assert load_speecht5(speecht5).voices == ("bdl", "slt")


def test_vits_changes_its_speed_within_bounds(vits: Path) -> None:
    speaker = load_vits(vits)
    slow, normal, fast = (speaker.synthesize(TEXT, speed=speed).duration_s for speed in (0.5, 1.0, 2.0))
    assert slow > normal > fast
    for beyond in (0.2, 4.1, float("nan")):
        with pytest.raises(EngineError, match=r"Choose 0\.25 to 4"):
            speaker.stream(TEXT, speed=beyond)


def test_speecht5_has_one_pace(speecht5: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot change its speed; 1\.25 was asked for"):
        load_speecht5(speecht5).stream(TEXT, speed=1.25)


def test_vits_without_noise_does_not_depend_on_the_seed(vits: Path) -> None:
    quiet = {"noise_scale": 0.0, "noise_scale_duration": 0.0}
    one, other = (load_vits(vits, seed=seed, **quiet).synthesize(TEXT).samples for seed in (0, 1))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, load_vits(vits).synthesize(TEXT).samples)


@pytest.mark.parametrize(("fixture", "loader", "most"), [("vits", load_vits, PIECE_CHARS), ("speecht5", load_speecht5, 58)])
def test_a_long_sentence_is_cut_to_what_the_model_takes(
    fixture: str, loader: Callable[..., Any], most: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker = loader(request.getfixturevalue(fixture))
    said: list[str] = []
    inner = speaker._say
    monkeypatch.setattr(speaker, "_say", lambda sentence, *rest: (said.append(sentence), inner(sentence, *rest))[1])
    assert speaker.synthesize("words " * 60).samples.size
    assert most - len("words ") < max(map(len, said)) <= most
    assert " ".join(said).split() == ["words"] * 60


def test_speecht5_that_does_not_end_is_cut_where_its_card_says(speecht5: Path) -> None:
    short, long = (load_speecht5(speecht5, maxlenratio=most).synthesize(SENTENCES[0]) for most in (2, 4))
    assert long.duration_s == pytest.approx(2 * short.duration_s, rel=0.05)


def test_the_names_that_official_vits_checkpoints_have_are_read(vits: Path, tmp_path: Path) -> None:
    """Their weight norms carry the names of an older PyTorch; unread, they would be made up."""
    from safetensors.torch import load_file, save_file

    new = "parametrizations.weight.original"
    tensors = {
        name.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): tensor
        for name, tensor in load_file(vits / "model.safetensors").items()
    }
    assert any(name.endswith("weight_g") for name in tensors)
    copy_all_but_weights(vits, tmp_path)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    renamed, ours = (load_vits(folder).synthesize(TEXT).samples for folder in (tmp_path, vits))
    assert np.abs(renamed - ours).max() < 1e-5  # tensors at other places of a file are aligned and summed otherwise


def test_weights_that_would_be_made_up_are_refused(vits: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(vits / "model.safetensors")
    tensors.pop("decoder.conv_post.weight")
    copy_all_but_weights(vits, tmp_path)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"decoder\.conv_post\.weight"):
        load_vits(tmp_path)


def test_pickled_weights_are_not_read(vits: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    copy_all_but_weights(vits, tmp_path)
    torch.save(load_file(vits / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(EngineError, match=r"model\.safetensors"):
        load_vits(tmp_path)


def copy_all_but_weights(source: Path, target: Path) -> None:
    for path in source.glob("*.json"):
        (target / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize(("setting", "library"), [("phonemize", "phonemizer"), ("is_uroman", "uroman")])
def test_a_tokenizer_that_needs_another_library_is_refused(
    setting: str, library: str, vits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    copy_all_but_weights(vits, tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {**MMS_TOKENIZER, setting: True})
    with pytest.raises(
        EngineError, match=f"needs {library}, which is not installed. Install it with: pip install {library}"
    ):
        load_vits(tmp_path)


def test_speecht5_without_sentencepiece_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(EngineError, match=r"pip install 'sentencepiece>=0\.2,<1'"):
        load_speecht5(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.zeros(256, np.float32), r"shape \(256,\), float32. It must have shape \(512,\)"),
        (np.zeros((1, 512), np.float32), r"shape \(1, 512\)"),
        (np.zeros(512, np.int16), "int16"),
        (np.array([{"run": "this"}], dtype=object), "cannot be read"),
    ],
)
def test_a_voice_that_is_none_is_refused(content: Any, reason: str, speecht5: Path, tmp_path: Path) -> None:
    for path in speecht5.iterdir():
        if path.name != "voices":
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(EngineError, match="Name at least one voice"):
        load_speecht5(tmp_path)
    (tmp_path / "voices").mkdir()
    np.save(tmp_path / "voices" / "x.npy", content, allow_pickle=True)
    with pytest.raises(EngineError, match=reason):
        load_speecht5(tmp_path)


@pytest.mark.parametrize("engine", [Vits, SpeechT5])
def test_only_the_cpu_is_offered(engine: Any, tmp_path: Path) -> None:
    for placement in (Placement("cuda", "float32", 1), Placement("cpu", "float16", 1)):
        with pytest.raises(EngineError, match=r"does not run on cuda|no compute type 'float16'"):
            engine(tmp_path, placement, engine.Decoding(), language="en")


@pytest.mark.parametrize(("name", "engine"), [("mms-tts-eng", Vits), ("speecht5", SpeechT5)])
def test_the_cards_name_the_files_that_the_engines_read(name: str, engine: Any, request: pytest.FixtureRequest) -> None:
    card = read_cards()[name]
    folder = request.getfixturevalue({"mms-tts-eng": "vits"}.get(name, name))
    assert decoding_of(card) == engine.Decoding()
    ours = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert ours - {"generation_config.json", "voices/bdl.npy"} <= card.weights.files.keys()
    assert card.weights.noted_at_first_fetch
