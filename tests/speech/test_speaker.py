"""Speaker similarity tells real speakers apart, and its encoder is Resemblyzer's: same weights, same numbers."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models import speaker_encoder
from models.engines.ge2e import SpeakerEncoder, checkpoint_tensors
from models.errors import AudioError, WeightsError
from models.sources.base import Order, Unavailable
from models.speaker_encoder import CHECKPOINT, FILE, NAME, fetch_speaker_encoder
from pipelines.speech.measures import measure_speech
from pipelines.speech.signal import FloatSamples
from pipelines.speech.speaker import SpeakerReference, embed, embedding, reference_samples, speaker_similarity
from tests.models.conftest import STARTER
from tests.speech.conftest import PROMPTS, Said

GOLDEN = {
    8_000: {20: 0.34341, 9: 0.24719, 173: 0.20037, 58: 0.20023, 34: 0.18816},
    25_600: {180: 0.22362, 93: 0.2138, 133: 0.19938, 138: 0.19347, 45: 0.19331},
    46_000: {180: 0.23203, 93: 0.21648, 45: 0.19939, 138: 0.19473, 133: 0.19425},
    46_500: {180: 0.23514, 93: 0.22807, 133: 0.1974, 45: 0.19717, 138: 0.19155},
    100_000: {180: 0.22178, 93: 0.20847, 45: 0.20747, 138: 0.18803, 64: 0.18782},
}
"""Samples of `tones` → the five largest numbers of Resemblyzer 0.1.4's ``VoiceEncoder().embed_utterance``: shorter than a
window, one window, a last window that is left out and one that is kept, several."""


@pytest.fixture(scope="module")
def encoder(weights_cache: Path) -> Path:
    try:
        return fetch_speaker_encoder(weights_cache, lambda line: None)
    except WeightsError as error:
        pytest.fail(str(error))


def tones(n: int) -> FloatSamples:
    time = np.arange(n) / 16_000
    beat = 0.1 * np.sin(2 * np.pi * 120 * time) * (1 + np.sin(2 * np.pi * 3 * time))
    return (beat + 0.05 * np.sin(2 * np.pi * 900 * time)).astype(np.float32)


@pytest.mark.real
@pytest.mark.parametrize("n", GOLDEN)
def test_it_equals_resemblyzer(encoder: Path, n: int) -> None:
    found = embed(tones(n), encoder)
    assert found.shape == (256,) and np.linalg.norm(found) == pytest.approx(1.0, abs=1e-5)
    assert {i: float(found[i]) for i in GOLDEN[n]} == pytest.approx(GOLDEN[n], abs=1e-4)
    assert set(np.argsort(-found)[:5]) == set(GOLDEN[n])


@pytest.mark.real
def test_one_speaker_is_more_alike_than_two(encoder: Path) -> None:
    """The worst pair of one speaker lies above the best of two."""

    def voices() -> Iterator[tuple[str, np.ndarray]]:
        for speaker in ("lj-lj001-000", "digits-george-", "harvard-spk1-snt"):
            for number in (1, 3, 4):
                (path,) = STARTER.glob(f"{speaker}{number}.*")
                samples, rate_hz = soundfile.read(path, dtype="float32")
                found = embedding(samples, rate_hz, encoder)
                assert found is not None
                yield speaker, found

    known = list(voices())
    pairs = [(a == b, float(x @ y)) for (a, x), (b, y) in itertools.combinations(known, 2)]
    assert min(value for same, value in pairs if same) > 0.75
    assert max(value for same, value in pairs if not same) < 0.72


@pytest.mark.real
def test_a_voice_is_like_itself_and_unlike_another(said: list[Said], encoder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "joe.wav", said[1].samples, said[1].rate_hz)
    speaker = SpeakerReference(recording=tmp_path / "joe.wav", encoder=encoder)
    found = [measure_speech(s.samples, s.rate_hz, s.text, "en", speaker=speaker)["speaker_similarity"] for s in said]
    assert [voice for voice, _ in PROMPTS] == ["piper-joe", "piper-joe", "hibari"]
    assert found[0] > 0.8 and found[2] < 0.6
    assert 0.999 < found[1] <= 1.0, "what it is held against"
    quiet = speaker_similarity(said[0].samples / 50, said[0].rate_hz, speaker)
    assert quiet == pytest.approx(found[0], abs=0.05), "loudness is not the voice"
    padded = np.pad(said[0].samples, said[0].rate_hz)
    assert speaker_similarity(padded, said[0].rate_hz, speaker) == pytest.approx(found[0], abs=0.01), "nor is silence"


@pytest.mark.real
def test_silence_is_like_nobody(said: list[Said], encoder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "joe.wav", said[0].samples, said[0].rate_hz)
    speaker = SpeakerReference(recording=tmp_path / "joe.wav", encoder=encoder)
    assert "speaker_similarity" not in measure_speech(np.zeros(16_000, np.float32), 16_000, "Hello.", "en", speaker=speaker)


@pytest.mark.parametrize(
    ("samples", "told"),
    [(np.zeros(16_000), "holds no speech"), (np.zeros(16_000 * 301), "at most 300 s"), (None, "is missing")],
    ids=["silent", "long", "missing"],
)
def test_a_reference_that_cannot_be_used_is_refused(tmp_path: Path, samples: np.ndarray | None, told: str) -> None:
    if samples is not None:
        soundfile.write(tmp_path / "voice.flac", samples, 16_000)
    with pytest.raises(AudioError, match=told):
        reference_samples(tmp_path / "voice.flac")


# The weights


def deliver_bytes(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the package index; gives what was asked of it."""
    asked: list[str] = []

    def deliver(source: object, order: Order) -> None:
        asked.extend(order.files)
        (order.into / CHECKPOINT).write_bytes(content)

    monkeypatch.setattr(speaker_encoder, "deliver", deliver)
    return asked


@pytest.mark.real
def test_the_weights_are_fetched_once_and_mended(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / FILE).write_bytes(encoder.read_bytes())
    asked = deliver_bytes(b"", monkeypatch)
    assert fetch_speaker_encoder(tmp_path, lambda line: None) == tmp_path / NAME / FILE and not asked
    with (tmp_path / NAME / FILE).open("r+b") as file:
        file.write(b"?")
    with pytest.raises(WeightsError, match=rf"{CHECKPOINT}: expected sha256 39373b.*pip"):
        fetch_speaker_encoder(tmp_path, lambda line: None)
    assert asked == [CHECKPOINT], "a damaged file is fetched again"


@pytest.mark.real
def test_a_folder_of_this_machine_comes_first(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = deliver_bytes(b"", monkeypatch)
    monkeypatch.setenv("MODELLAB_LOCAL_WEIGHTS", str(encoder.parents[1]))
    assert fetch_speaker_encoder(tmp_path, lambda line: None).read_bytes() == encoder.read_bytes() and not asked
    (tmp_path / "local" / NAME).mkdir(parents=True)
    (tmp_path / "local" / NAME / FILE).write_bytes(b"other")
    monkeypatch.setenv("MODELLAB_LOCAL_WEIGHTS", str(tmp_path / "local"))
    with pytest.raises(WeightsError, match="expected sha256"):
        fetch_speaker_encoder(tmp_path / "fresh", lambda line: None)
    assert asked == [CHECKPOINT], "another file there is passed over"


def test_another_checkpoint_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver_bytes(pickle.dumps({"model_state": {}}), monkeypatch)
    monkeypatch.setattr("models.engines.ge2e.checkpoint_tensors", lambda path: pytest.fail("it was read"))
    with pytest.raises(WeightsError, match="expected sha256"):
        fetch_speaker_encoder(tmp_path, lambda line: None)
    assert [path.name for path in (tmp_path / NAME).iterdir()] == [".lock"], "nothing is left behind"


def test_without_the_package_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deliver(source: object, order: Order) -> None:
        raise Unavailable("pip download failed: no index.")

    monkeypatch.setattr(speaker_encoder, "deliver", deliver)
    with pytest.raises(WeightsError, match=r"pip download failed: no index\..*Make Resemblyzer==0\.1\.4 reachable"):
        fetch_speaker_encoder(tmp_path, lambda line: None)


class Boom:
    """Runs code when it is unpickled without care."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_a_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(pickle.dumps({"model_state": Boom()}, protocol=2))
    with pytest.raises(WeightsError, match="is no checkpoint of a speaker encoder"):
        checkpoint_tensors(tmp_path / CHECKPOINT)
    assert not (tmp_path / "ran").exists()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="does not hold the speaker encoder"):
        SpeakerEncoder(tmp_path / FILE)
