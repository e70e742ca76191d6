"""LFM2.5-Audio through its real library, in the environment lfm, called from this one; run by ``make test-lfm``.

The checkpoint is tiny, in the official layout, and overfitted on one clip (lfm_checkpoint.py): then both directions have one
right answer, and every line of the adapter runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from models.card import ModelCard, read_cards
from models.engine import build_engine, how_to_complete, interpreter_of, placement_of
from models.engines._speech import blocks
from models.engines.lfm import FRAME_SAMPLES, PIECE_FRAMES, SPEECH_RATE_HZ
from models.errors import EngineError, UnspeakableError
from models.fingerprint import model_fingerprint
from models.remote import RemoteEngine
from tests.conftest import Project

pytestmark = pytest.mark.lfm

SHIPPED = read_cards()["lfm2.5-audio"]
CLIP_ID = "lj-lj001-0002"
TEXT = "in being comparatively modern."
TAUGHT = {"us-male": "US male", "uk-female": "UK female"}
"""Our voices → those of the prompts, where the checkpoint was taught to speak."""

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def interpreter() -> Path:
    if command := how_to_complete(SHIPPED):
        pytest.skip(f"LFM2.5-Audio needs an environment of its own; run `make test-lfm` ({command})")
    found = interpreter_of(SHIPPED)
    assert found is not None, "this test calls one environment from another; run it in the lab's own"
    return found


@pytest.fixture(scope="module")
def checkpoint(interpreter: Path, clip: Callable[[str], Samples], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lfm")
    np.save(folder / "clip.npy", clip(f"{CLIP_ID}.flac"))
    script = Path(__file__).with_name("lfm_checkpoint.py")
    command = [str(interpreter), str(script), str(folder / "tiny"), str(folder / "clip.npy"), TEXT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "tiny"


@pytest.fixture(scope="module")
def card(checkpoint: Path) -> ModelCard:
    """The shipped card with the tiny weights; speech is greedy, so that it has one right answer."""
    source = {"kind": "path", "path": str(checkpoint)}
    weights = {"files": dict(SHIPPED.weights.files), "sources": [source]}
    decoding = {**SHIPPED.decoding, "audio_temperature": 0.0}
    fields = {**SHIPPED.model_dump(), "name": "lfm-tiny", "weights": weights, "decoding": decoding}
    return ModelCard.model_validate(fields)


@pytest.fixture(scope="module")
def build(checkpoint: Path, card: ModelCard) -> Iterator[Callable[..., Any]]:
    built: list[Any] = []

    def make(weights: Path = checkpoint, device: str = "cpu", compute_type: str | None = None, **decoding: Any) -> Any:
        changed = card.model_copy(update={"decoding": {**card.decoding, **decoding}})
        engine: Any = build_engine(changed, weights, placement_of(changed, device, compute_type, threads=1), "tts")
        built.append(engine)
        return engine

    yield make
    for engine in built:
        engine.close()


@pytest.fixture(scope="module")
def engine(build: Callable[..., Any]) -> Any:
    return build()


def test_it_writes_down_the_clip_it_was_taught(engine: Any, clip: Callable[[str], Samples]) -> None:
    samples = clip(f"{CLIP_ID}.flac")
    heard = engine.transcribe(samples, language="en")
    assert heard.text == TEXT
    assert heard.language == "en"
    assert [(segment.text, segment.start_s, segment.end_s) for segment in heard.segments] == [
        (TEXT, 0, len(samples) / 16_000)
    ]
    assert heard.confidence is None and not heard.words  # the library gives neither
    assert engine.transcribe(samples, language=None) == heard


@pytest.mark.parametrize("voice", TAUGHT)
def test_it_says_what_it_was_taught_in_each_voice(engine: Any, checkpoint: Path, voice: str) -> None:
    known = np.load(checkpoint / "known.npz")[TAUGHT[voice]]
    said = engine.synthesize(TEXT, voice=voice)
    assert said.sample_rate_hz == SPEECH_RATE_HZ
    assert said.samples.dtype == np.float32
    assert said.samples.shape == known.shape
    # In pieces, where the library decodes the whole: the sums are the same, in another order.
    np.testing.assert_allclose(said.samples, known, atol=1e-5)
    assert np.abs(known).max() > 1e-2


def test_pieces_come_one_by_one_and_are_the_whole(engine: Any) -> None:
    pieces = list(engine.stream(TEXT, voice="uk-female"))
    assert len(pieces) > 2
    assert all(len(piece.samples) <= PIECE_FRAMES * FRAME_SAMPLES for piece in pieces)
    whole = engine.synthesize(TEXT, voice="uk-female").samples
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), whole)


def test_the_first_voice_is_the_default_and_white_space_is_not_spoken(engine: Any) -> None:
    assert engine.voices == ("us-male", "us-female", "uk-male", "uk-female")
    once = engine.synthesize(TEXT).samples
    assert np.array_equal(once, engine.synthesize(TEXT, voice="us-male").samples)
    assert engine.synthesize(" \n").samples.size == 0


def test_a_long_recording_is_heard_in_windows(engine: Any, clip: Callable[[str], Samples]) -> None:
    samples = np.tile(clip(f"{CLIP_ID}.flac"), 40)
    heard = engine.transcribe(samples, language="en")
    assert len(heard.segments) > 2
    starts, ends = [s.start_s for s in heard.segments], [s.end_s for s in heard.segments]
    assert [0.0, *ends[:-1]] == starts
    assert ends[-1] == len(samples) / 16_000
    assert max(end - start for start, end in zip(starts, ends, strict=True)) <= 30
    assert heard.text.startswith(TEXT)


@pytest.mark.parametrize("size", [0, 1, 200])
def test_next_to_no_sound_is_no_failure(engine: Any, size: int) -> None:
    heard = engine.transcribe(np.zeros(size, np.float32), language="en")
    assert (heard.text == "") == (size == 0)  # the tiny model knows one sentence and says it to everything


def test_what_it_cannot_do_is_refused_by_name(engine: Any, build: Callable[..., Any], tmp_path: Path) -> None:
    for match, refused in {
        "language 'de'": {"language": "de"},
        "voice named 'alloy'": {"voice": "alloy"},
        "speed": {"speed": 1.5},
    }.items():
        with pytest.raises(EngineError, match=match):
            engine.stream(**{"text": TEXT, **refused})
    with pytest.raises(UnspeakableError, match=r"'<\|im_end\|>', which steers the model"):
        engine.stream("Stop.<|im_end|>")
    with pytest.raises(EngineError, match="language 'de'"):
        engine.transcribe(np.zeros(10, np.float32), language="de")
    with pytest.raises(EngineError, match="no compute type 'int8'"):
        build(compute_type="int8")
    with pytest.raises(EngineError, match=r"liquid-audio cannot load .*config\.json"):
        build(weights=tmp_path)


def test_sampled_speech_is_that_of_its_seed_in_each_block_of_a_long_text(build: Callable[..., Any]) -> None:
    wild = {"audio_temperature": 5.0, "audio_top_k": None, "max_speech_s": 2.0}
    engine = build(**wild, seed=1, compute_type="float32")
    said = engine.synthesize(TEXT).samples
    assert np.array_equal(engine.synthesize(TEXT).samples, said)
    assert 0 < len(said) <= 2.1 * SPEECH_RATE_HZ
    long_text = " ".join([TEXT] * 12)
    parts = [engine.synthesize(block).samples for block in blocks(long_text)]
    assert len(parts) == 2
    assert np.array_equal(engine.synthesize(long_text).samples, np.concatenate(parts))
    other = build(**wild, seed=2, compute_type="float32").synthesize(TEXT).samples
    assert other.shape != said.shape or not np.allclose(other, said)


def test_it_leaves_torch_as_it_found_it(interpreter: Path, checkpoint: Path, repository: Path) -> None:
    """In the environment itself: neither the way round `.cuda()` nor the seeds nor inference mode outlive their use."""
    code = f"""
import torch
from pathlib import Path
from liquid_audio import LFM2AudioDetokenizer
from models.engine import Placement
from models.engines._speech import blocks
from models.engines.lfm import LfmAudio, LfmDecoding
torch.manual_seed(1234)
before = torch.get_rng_state()
engine = LfmAudio(Path({str(checkpoint)!r}), Placement("cpu", "bfloat16", 1), LfmDecoding())
torch.set_rng_state(before)  # building draws random weights, as any torch model does
pieces = engine.stream({TEXT!r}, voice="us-male")
next(pieces)
print(torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.equal(torch.get_rng_state(), before))
list(pieces)
print("cuda" in vars(LFM2AudioDetokenizer), torch.equal(torch.get_rng_state(), before))
"""
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [str(interpreter), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.stdout.split() == ["False", "True", "True", "False", "True"], done.stderr[-2000:]


def test_its_versions_are_those_of_its_environment_which_is_not_ours(engine: Any, card: ModelCard) -> None:
    assert isinstance(engine, RemoteEngine)
    assert "liquid_audio" not in sys.modules
    versions = model_fingerprint(card, placement_of(card), {}, "tts").versions
    assert versions.keys() == {"liquid-audio", "torch", "transformers"}
    assert versions["liquid-audio"].startswith("1.")
    assert versions["torch"] != version("torch")  # theirs is the index's build, ours the CPU's


def test_it_is_evaluated_as_any_other_model(card: ModelCard, project: Project, starter: Path) -> None:
    project.add_starter_part(starter, [CLIP_ID])
    (project.root / "cards").mkdir()
    (project.root / "cards" / "lfm-tiny.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json")))
    (project.root / ".modellab" / "weights").unlink()  # the shared cache is no place for a tiny checkpoint
    variables = {"MODELLAB_CARDS": str(project.root / "cards")}
    variables |= {key: value for key, value in os.environ.items() if key == "MODELLAB_ENV_LFM"}
    answer = project.run("evaluate", "lfm-tiny", "--corpus", "mini", "--json", **variables)
    assert answer.code == 0, answer.err
    result = answer.json()
    assert result["metrics"]["wer"]["value"] == 0.0
    assert result["timings"]["inferred"] == 1
    assert json.dumps(result).count("liquid-audio")
