"""SeamlessM4T v2: what a tiny checkpoint knows by heart is heard, translated and weighed right, and the rest is refused.

Its speech is noise of random weights: the tests of speaking hold what is spoken and how, not what it sounds like.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from models.card import ModelCard
from models.engine import Placement, build_engine
from models.engines._seamless import CODES, HEARD_ONLY, known_languages, words_of
from models.engines.seamless import Seamless, SeamlessDecoding
from models.errors import CardError, EngineError
from models.types import Transcript
from pipelines.evaluate import gather, score
from pipelines.lab import Lab, Layout
from pipelines.prepare import EvaluationRequest, prepare
from pipelines.transcribe import transcribe_shard
from pipelines.workers import WorkerPool
from tests.models.seamless_checkpoint import SPEAKERS, SPOKEN, WRITTEN, Lesson, use_sentencepiece, write_checkpoint

Samples = NDArray[np.float32]
Clip = Callable[[str], Samples]
Make = Callable[..., Seamless]

CPU = Placement("cpu", "float32", 1)
HZ = 16_000
JOY, COAT, SURPASSED = "harvard-spk2-snt2.wav", "harvard-spk2-snt4.wav", "lj-lj001-0008.flac"
ENGLISH = {
    JOY: "What joy there is in living.",
    COAT: "Mend the coat before you go out.",
    SURPASSED: "has never been surpassed.",
}
FRENCH = {
    JOY: "Quelle joie de vivre !",
    COAT: "Raccommode le manteau avant de sortir.",
    SURPASSED: "n'a jamais été dépassé.",
}
LONG_HALVES = [(0, 4 * HZ), (4 * HZ, 8 * HZ)]


@pytest.fixture(scope="module")
def long(clip: Clip) -> Samples:
    """Two recordings, 8 s with the faint noise between them, which is quietest at 4 s."""
    noise = np.random.default_rng(0).normal(0, 1e-3, 8 * HZ).astype(np.float32)
    noise[int(3.9 * HZ) : int(4.1 * HZ)] *= 0.01
    noise[: clip(JOY).size] += clip(JOY)
    noise[-clip(SURPASSED).size :] += clip(SURPASSED)
    return noise


@pytest.fixture(scope="module")
def checkpoint(clip: Clip, long: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lessons = [
        Lesson(clip(name), code, texts[name])
        for code, texts in (("eng", ENGLISH), ("fra", FRENCH))
        for name in (JOY, COAT, SURPASSED)
    ]
    halves = [long[start:end] for start, end in LONG_HALVES]
    lessons += [Lesson(half, "eng", ENGLISH[name]) for half, name in zip(halves, (JOY, SURPASSED), strict=True)]
    return write_checkpoint(tmp_path_factory.mktemp("seamless"), lessons)


@pytest.fixture(scope="module")
def make(checkpoint: Path) -> Make:
    """Build an engine on the checkpoint; keyword arguments are decoding settings. Equal ones are built once."""
    built: dict[str, Seamless] = {}

    def get(**decoding: Any) -> Seamless:
        key = json.dumps(decoding, sort_keys=True)
        if key not in built:
            built[key] = Seamless(checkpoint, CPU, SeamlessDecoding(**decoding))
        return built[key]

    return get


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint in a folder that a test may spoil."""
    return shutil.copytree(checkpoint, tmp_path / "copy")


def edit(path: Path, **changes: Any) -> None:
    """Set entries of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@contextmanager
def spied(module: Any, note: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Note the keyword arguments of each call of a part of the model."""
    hook = module.register_forward_pre_hook(lambda _, args, kwargs: note(kwargs), with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


# Languages


def test_every_macrolanguage_is_the_member_that_the_model_was_trained_on() -> None:
    macrolanguages = {  # of ISO 639-3; the rest have one code there
        "ar": "arb",
        "az": "azj",
        "fa": "pes",
        "ff": "fuv",
        "lv": "lvs",
        "mn": "khk",
        "ms": "zsm",
        "ne": "npi",
        "no": "nob",
        "om": "gaz",
        "or": "ory",
        "ps": "pbt",
        "sw": "swh",
        "uz": "uzn",
        "zh": "cmn",
    }
    assert {short: CODES[short] for short in macrolanguages} == macrolanguages
    twice = [code for code in set(CODES.values()) if list(CODES.values()).count(code) > 1]
    assert twice == ["nob"]  # Bokmål is both nb and the usual meaning of no


def test_the_languages_are_those_of_the_checkpoint_by_their_iso_639_1_names() -> None:
    known = known_languages(WRITTEN)
    assert (known["en"], known["zh"], known["sw"], known["et"]) == ("eng", "cmn", "swh", "est")
    assert set(known.values()) == set(WRITTEN)
    assert known["ms"] == "zlm"  # as the official conversion names it
    assert known_languages(["zsm"]) == {"ms": "zsm"}
    assert known["yue"] == "yue"  # ISO 639-1 has no code for it
    assert not {"lb", "oc", "xh", "eng", "zsm"} & known.keys()


def test_the_card_claims_what_the_official_languages_allow(cards: Mapping[str, ModelCard]) -> None:
    card = cards["seamless-m4t-v2"]
    # Santali is not in the authors' table of what is heard, and traditional characters are not a language.
    assert {*card.languages} == known_languages(WRITTEN).keys() - {"sat", "cmn_Hant"}
    assert {"asr", "tts", "translation"} == {*card.tasks}


# Hearing and writing


@pytest.mark.parametrize("name", ENGLISH)
def test_it_hears_what_it_learnt(name: str, make: Make, clip: Clip) -> None:
    heard = make().transcribe(clip(name), language="en")
    assert heard.text == ENGLISH[name]
    assert heard.language == "en"
    assert heard == make().transcribe(clip(name), language="en")


@pytest.mark.parametrize("name", FRENCH)
@pytest.mark.parametrize("language", ["en", None])
def test_the_same_recording_in_another_language_is_the_translation(
    name: str, language: str | None, make: Make, clip: Clip
) -> None:
    heard = make().translate(clip(name), language=language, target="fr")
    assert (heard.text, heard.language) == (FRENCH[name], "fr")


@pytest.mark.parametrize("num_beams", [1, 3])
def test_log_probabilities_are_those_of_the_tokens_given_the_recording(num_beams: int, make: Make, clip: Clip) -> None:
    """Held against one pass of the model over the finished text, which uses none of the engine's code."""
    import torch

    engine = make(num_beams=num_beams)
    heard = engine.transcribe(clip(COAT), language="en")
    tokens = engine._tokenizer(ENGLISH[COAT], src_lang="eng")["input_ids"]
    inputs = engine._features(clip(COAT), sampling_rate=HZ, return_tensors="pt")
    with torch.inference_mode():
        logits = engine._model(**inputs, decoder_input_ids=torch.tensor([[3, *tokens[:-1]]])).logits[0, 1:]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    assert heard.segments[0].avg_logprob == pytest.approx(expected.mean().item(), rel=1e-3)
    pieces = engine._tokenizer.convert_ids_to_tokens(tokens[1:-1])
    assert len(pieces) > len(ENGLISH[COAT].split())  # so that words are of several tokens
    of_words: list[list[float]] = []
    for piece, probability in zip(pieces, expected[:-1].exp().tolist(), strict=True):
        if piece[0] == "▁":
            of_words.append([])
        of_words[-1].append(probability)
    assert heard.confidence == pytest.approx(np.mean([np.mean(word) for word in of_words]), rel=1e-3)


def test_words_are_what_stands_between_spaces() -> None:
    assert words_of(["▁the", "▁co", "at", "."], [0.9, 0.5, 0.7, 0.6]) == [("the", 0.9), ("coat.", pytest.approx(0.6))]
    assert words_of(["▁", "z", "▁", "▁a"], [1.0, 0.5, 0.1, 0.2]) == [("z", 0.75), ("a", 0.2)]
    assert words_of(["co", "at"], [0.2, 0.4]) == [("coat", pytest.approx(0.3))]
    assert words_of([], []) == []


def test_a_text_that_its_tokens_do_not_spell_has_no_confidence(
    checkpoint: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Seamless(checkpoint, CPU, SeamlessDecoding())
    heard = engine.transcribe(clip(COAT), language="en")
    monkeypatch.setattr(engine._tokenizer, "decode", lambda *args, **kwargs: heard.text.replace(" ", "  "))
    spaced = engine.transcribe(clip(COAT), language="en")
    assert heard.confidence is not None
    assert spaced.confidence is None
    assert spaced.segments[0].avg_logprob == heard.segments[0].avg_logprob


def test_a_long_recording_is_heard_in_windows_one_at_a_time(make: Make, long: Samples) -> None:
    engine = make(window_s=5)
    sizes: list[int] = []
    with spied(engine._model.speech_encoder, lambda kwargs: sizes.append(kwargs["input_features"].shape[1])):
        heard = engine.transcribe(long, language="en")
    assert heard.text == f"{ENGLISH[JOY]} {ENGLISH[SURPASSED]}"
    assert [segment.text for segment in heard.segments] == [ENGLISH[JOY], ENGLISH[SURPASSED]]
    assert heard.segments[0].start_s == 0
    assert heard.segments[0].end_s == heard.segments[1].start_s == pytest.approx(4, abs=0.15)
    assert heard.segments[1].end_s == 8
    assert len(sizes) == 2
    assert max(sizes) <= 5 * 50  # a feature is 20 ms
    assert heard.words == ()
    assert [piece.text for piece in engine.transcribe_stream(long, language="en")] == [
        ENGLISH[JOY], f" {ENGLISH[SURPASSED]}",
    ]  # fmt: skip


def test_beyond_the_cap_a_window_is_cut_short(make: Make, clip: Clip) -> None:
    heard = make(max_new_tokens=3).transcribe(clip(COAT), language="en")
    assert heard.text
    assert ENGLISH[COAT].startswith(heard.text)
    assert heard.text != ENGLISH[COAT]


@pytest.mark.parametrize("count", [0, 1, 559])
def test_next_to_nothing_gives_an_empty_transcript(count: int, make: Make) -> None:
    assert make().transcribe(np.zeros(count, np.float32), language="en") == Transcript(text="", language="en")


def test_the_least_that_has_features_is_heard(make: Make) -> None:
    heard = make(max_new_tokens=5).transcribe(np.zeros(560, np.float32), language="en")
    assert all(segment.avg_logprob is not None and np.isfinite(segment.avg_logprob) for segment in heard.segments)


def test_two_threads_do_not_mix_hearing_and_speaking(make: Make, clip: Clip) -> None:
    engine = make()
    alone = engine.synthesize("A test.", language="de").samples

    def use(turn: int) -> bool:
        if turn % 2:
            return np.array_equal(engine.synthesize("A test.", language="de").samples, alone)
        return engine.translate(clip(JOY), language="en", target="fr").text == FRENCH[JOY]

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(use, range(8)))


# Speaking: random weights


def test_it_speaks_at_16_khz_and_always_the_same(make: Make) -> None:
    first, second = (make().synthesize("What joy!", language="en") for _ in range(2))
    assert first.sample_rate_hz == HZ
    assert first.samples.dtype == np.float32
    assert first.samples.ndim == 1
    assert first.duration_s > 0.1
    assert 0 < np.abs(first.samples).max() <= 1
    assert np.array_equal(first.samples, second.samples)


@pytest.mark.parametrize("text", ["What joy!", "Something that it never learnt, 42 times?"])
def test_it_speaks_the_text_it_was_given_and_no_translation_of_it(text: str, make: Make) -> None:
    engine = make()
    letters = {token: letter for letter, token in engine._model.generation_config.char_to_id.items()}
    spoken: list[str] = []

    def note(kwargs: Mapping[str, Any]) -> None:
        spoken.append("".join(letters.get(token, "") for token in kwargs["char_input_ids"][0].tolist()))

    with spied(engine._model.t2u_model, note):
        engine.synthesize(text, language="en")
    assert [line.replace("▁", " ").strip() for line in spoken] == [text]


def test_voice_and_language_change_the_sound(make: Make) -> None:
    engine = make()
    assert engine.voices == tuple(str(speaker) for speaker in range(SPEAKERS))
    usual = engine.synthesize("What joy!", language="en").samples
    assert np.array_equal(engine.synthesize("What joy!", language="en", voice="0").samples, usual)
    for other in (engine.synthesize("What joy!", language="en", voice="3"), engine.synthesize("What joy!", language="fr")):
        assert not np.array_equal(other.samples, usual)


def test_a_card_may_offer_some_voices(checkpoint: Path, make: Make) -> None:
    engine = Seamless(checkpoint, CPU, SeamlessDecoding(), voices=[2, 0])
    assert engine.voices == ("2", "0")
    usual = engine.synthesize("joy", language="en").samples
    assert np.array_equal(usual, make().synthesize("joy", language="en", voice="2").samples)
    with pytest.raises(EngineError, match=r"no voice named '1'\. .*Available: 0, 2"):
        engine.synthesize("joy", language="en", voice="1")
    with pytest.raises(EngineError, match=rf"no speaker {SPEAKERS}\. Available: 0 to {SPEAKERS - 1}"):
        Seamless(checkpoint, CPU, SeamlessDecoding(), voices=[SPEAKERS])


def test_a_text_is_spoken_sentence_by_sentence(make: Make) -> None:
    engine = make()
    whole = engine.synthesize("What joy! Mend the coat.", language="en")
    alone = [engine.synthesize(sentence, language="en").samples for sentence in ("What joy!", "Mend the coat.")]
    assert np.array_equal(whole.samples, np.concatenate(alone))
    pieces = list(engine.stream("What joy! Mend the coat.", language="en"))
    assert [piece.samples.size for piece in pieces] == [samples.size for samples in alone]


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_white_space_is_no_speech(text: str, make: Make) -> None:
    spoken = make().synthesize(text, language="en")
    assert (spoken.samples.size, spoken.samples.dtype, spoken.sample_rate_hz) == (0, np.float32, HZ)


# Refusals


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda engine, x: engine.transcribe(x, language=None), "cannot detect the language. Say which"),
        (lambda engine, x: engine.transcribe(x, language="xx"), r"cannot write the language 'xx'\. It can write: af, am, "),
        (lambda engine, x: engine.transcribe(x, language="eng"), "cannot write the language 'eng'"),
        (lambda engine, x: engine.transcribe(x, language="lb"), "cannot write the language 'lb'"),
        (lambda engine, x: engine.translate(x, language="xx", target="en"), "cannot understand the language 'xx'"),
        (lambda engine, x: engine.translate(x, language="en", target="xh"), "cannot write the language 'xh'"),
        (lambda engine, x: engine.synthesize("a", language=None), "no language of their own. Say the language"),
        (lambda engine, x: engine.synthesize("a", language="kn"), "cannot speak the language 'kn'"),
        (lambda engine, x: engine.synthesize("a", language="af"), r"cannot speak the language 'af'\. It can speak: ar, bn"),
        (
            lambda engine, x: engine.synthesize("a", language="en", voice="9"),
            r"no voice named '9'\. .*Available: 0, 1, 2",
        ),
        (lambda engine, x: engine.synthesize("a", language="en", voice="Anna"), "no voice named 'Anna'"),
        (lambda engine, x: engine.synthesize("a", language="en", speed=1.25), "cannot change its speed; 1.25"),
        (lambda engine, x: engine.stream("a", language="en", speed=float("nan")), "cannot change its speed; nan"),
        (lambda engine, x: engine.stream("It is 水.", language="en"), "cannot read: 水"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(use: Callable[[Seamless, Samples], Any], reason: str, make: Make) -> None:
    with pytest.raises(EngineError, match=reason):
        use(make(), np.zeros(HZ, np.float32))


@pytest.mark.parametrize("language", HEARD_ONLY)
def test_a_language_that_is_only_heard_can_be_translated_from(language: str, make: Make, clip: Clip) -> None:
    assert make().translate(clip(JOY), language=language, target="fr").text == FRENCH[JOY]


def test_it_can_speak_what_its_vocoder_can(make: Make) -> None:
    assert make()._speaks.keys() == known_languages(SPOKEN).keys()


@pytest.mark.parametrize(
    "options", [{"do_sample": True}, {"num_beams": 0}, {"window_s": 600}, {"window_s": 1}, {"max_new_tokens": 0}]
)
def test_an_option_it_lacks_or_that_does_not_fit_is_refused(
    options: dict[str, Any], checkpoint: Path, make_card: Callable[..., ModelCard]
) -> None:
    card = make_card(engine="models.engines.seamless:Seamless", decoding=options)
    with pytest.raises(CardError, match=next(iter(options))):
        build_engine(card, checkpoint, CPU)


@pytest.mark.parametrize("compute_type", ["float16", "int8"])
def test_a_number_format_that_the_device_lacks_is_refused(compute_type: str, checkpoint: Path) -> None:
    with pytest.raises(EngineError, match=f"{compute_type} on cpu"):
        Seamless(checkpoint, Placement("cpu", compute_type, 1), SeamlessDecoding())


def test_a_missing_library_gives_the_line_that_installs_it(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EngineError, match="pip install 'transformers"):
        Seamless(checkpoint, CPU, SeamlessDecoding())


@pytest.mark.parametrize(
    "name",
    ["vocoder.speaker_embedding.weight", "speech_encoder.encoder.layer_norm.bias", "text_decoder.layers.0.ffn.fc1.weight"],
)
def test_weights_that_lack_a_part_are_refused_instead_of_made_up(name: str, copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    index = json.loads((copy / "model.safetensors.index.json").read_text())
    part = copy / index["weight_map"].pop(name)
    save_file({key: value for key, value in load_file(part).items() if key != name}, part, {"format": "pt"})
    edit(copy / "model.safetensors.index.json", weight_map=index["weight_map"])
    with pytest.raises(EngineError, match=name):
        Seamless(copy, CPU, SeamlessDecoding())


def test_a_pickle_is_not_loaded(copy: Path) -> None:
    import torch

    for path in copy.glob("model*"):
        path.unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(EngineError, match="safetensors"):
        Seamless(copy, CPU, SeamlessDecoding())


@pytest.mark.parametrize(
    "name", ["text_decoder_lang_to_code_id", "vocoder_lang_code_to_id", "t2u_lang_code_to_id", "id_to_text", "char_to_id"]
)
def test_settings_that_speaking_or_writing_needs_are_asked_for_at_once(name: str, copy: Path) -> None:
    edit(copy / "generation_config.json", **{name: None})
    with pytest.raises(EngineError, match=f"has no {name}"):
        Seamless(copy, CPU, SeamlessDecoding())


def test_a_tokenizer_of_another_checkpoint_is_refused(copy: Path) -> None:
    settings = json.loads((copy / "generation_config.json").read_text())
    languages = settings["text_decoder_lang_to_code_id"]
    languages["eng"], languages["fra"] = languages["fra"], languages["eng"]
    edit(copy / "generation_config.json", text_decoder_lang_to_code_id=languages)
    with pytest.raises(EngineError, match="the language eng is token"):
        Seamless(copy, CPU, SeamlessDecoding())


def test_the_official_tokenizer_without_its_reader_says_what_to_install(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "tokenizer.json").unlink()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(EngineError, match=r"pip install 'sentencepiece>=0\.2,<1'"):
        Seamless(copy, CPU, SeamlessDecoding())


def test_the_official_tokenizer_gives_the_same_text(copy: Path, clip: Clip) -> None:
    use_sentencepiece(copy)
    assert not (copy / "tokenizer.json").exists()
    engine = Seamless(copy, CPU, SeamlessDecoding())
    assert engine.transcribe(clip(JOY), language="en").text == ENGLISH[JOY]
    assert engine.translate(clip(COAT), language="en", target="fr").text == FRENCH[COAT]


def test_nothing_is_asked_of_the_network(copy: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert Seamless(copy, CPU, SeamlessDecoding()).transcribe(clip(JOY), language="en").text == ENGLISH[JOY]


# The whole path


def test_a_card_of_it_is_fetched_run_by_a_worker_and_scored(
    checkpoint: Path, tmp_path: Path, starter: Path, cards: Mapping[str, ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELLAB_LOCAL_WEIGHTS", str(checkpoint.parent))
    shipped = cards["seamless-m4t-v2"].model_dump(mode="json")
    path = {"kind": "path", "path": f"${{MODELLAB_LOCAL_WEIGHTS}}/{checkpoint.name}"}
    files = {file.name: None for file in checkpoint.iterdir()}
    tiny = {**shipped, "name": "tiny", "weights": {"files": files, "sources": [path]}, "args": {"voices": [1]}}
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    corpus = tmp_path / "data" / "part"
    (corpus / "audio").mkdir(parents=True)
    rows = [
        row
        for row in map(json.loads, (starter / "manifest.jsonl").read_text().splitlines())
        if row["text"] in ENGLISH.values()
    ]
    for row in rows:
        shutil.copyfile(starter / row["audio_filepath"], corpus / row["audio_filepath"])
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    lab = Lab(
        project=tmp_path,
        home_folder=tmp_path / "home",
        card_folders=(tmp_path / "cards",),
        layout=Layout(workers=1, threads=1),
    )
    prepared = prepare(lab, EvaluationRequest(model="tiny", corpora=("part",), limit=2), lambda line: None)
    with WorkerPool(prepared.spec, 1) as pool:
        results = [transcribe_shard(prepared.store, pool, shard) for shard in prepared.plan.shards]
    scores = score(gather(prepared, results))
    assert len(scores) == 2
    assert sum(one.words.errors for one in scores) == 0
    assert sum(one.words.reference_length for one in scores) > 10
    assert all(one.confidence is not None and one.confidence > 0.9 for one in scores)
