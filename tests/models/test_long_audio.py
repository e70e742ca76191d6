"""Long recordings: the features of both Whisper libraries are the same in blocks, and need memory for a block alone."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from models.engines import _mel_blocks
from models.engines._mel_blocks import BLOCK_FRAMES, BLOCK_S, BLOCK_SAMPLES, SAMPLE_RATE_HZ
from tests.models.test_engines import Clip, Engines

MIB = 2**20


def speechlike(samples: int) -> np.ndarray:
    """Noise whose level moves over 60 dB, so that the 8 decades below the loudest bin matter, and matter globally."""
    level = 10 ** (-1.5 + 1.5 * np.sin(np.arange(samples) / 300_000))
    return (0.1 * level * np.random.default_rng(0).normal(0, 1, samples)).clip(-1, 1).astype(np.float32)


LENGTHS = [BLOCK_SAMPLES, BLOCK_SAMPLES + 1, BLOCK_SAMPLES + 159, 2 * BLOCK_SAMPLES, 2 * BLOCK_SAMPLES + 77_777]
"""One block (left to the library), a hair more, whole blocks, and a last one that is cut."""


@pytest.mark.parametrize("samples", LENGTHS)
def test_faster_whisper_hears_the_same_in_blocks(samples: int) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    from models.engines.faster_whisper import _in_blocks

    audio = speechlike(samples)
    whole, blocks = FeatureExtractor(), _in_blocks(FeatureExtractor())
    assert isinstance(blocks, FeatureExtractor)
    expected, found = whole(audio), blocks(audio)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert np.abs(found - expected).max() < 1e-5
    assert (blocks(audio, chunk_length=20).shape, blocks.n_samples) == (expected.shape, 20 * SAMPLE_RATE_HZ)
    assert blocks.nb_max_frames == 2000


@pytest.mark.parametrize("samples", LENGTHS)
def test_openai_whisper_hears_the_same_in_blocks(samples: int) -> None:
    import whisper.audio

    from models.engines.openai_whisper import _transform_in_blocks

    _transform_in_blocks()
    module = sys.modules["whisper.transcribe"]
    blocks = module.log_mel_spectrogram  # type: ignore[attr-defined]
    _transform_in_blocks()
    assert module.log_mel_spectrogram is blocks, "once a process"  # type: ignore[attr-defined]
    audio = speechlike(samples)
    expected = whisper.audio.log_mel_spectrogram(audio, 80, padding=480_000)
    found = blocks(audio, 80, padding=480_000)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert float((found - expected).abs().max()) < 1e-5


def test_memory_grows_with_the_sound_and_not_with_its_transform() -> None:
    """NumPy's own count of what is allocated; the whole transform took 43 MiB a minute, the sound itself takes 3.7."""
    from faster_whisper.feature_extractor import FeatureExtractor

    from models.engines.faster_whisper import _in_blocks

    blocks = _in_blocks(FeatureExtractor())

    def peak(minutes: int) -> float:
        audio = np.zeros(minutes * 60 * SAMPLE_RATE_HZ, np.float32)
        tracemalloc.start()
        try:
            blocks(audio)
            return tracemalloc.get_traced_memory()[1] / MIB
        finally:
            tracemalloc.stop()

    few, many = peak(5), peak(10)
    assert few < 200
    assert (many - few) / 5 < 6, "MiB a minute"


def test_torch_grows_as_little(repository: Path) -> None:
    """By the high-water mark of a process of its own, for torch's memory is not Python's."""
    code = """
import resource, sys
import numpy as np
from models.engines.openai_whisper import _transform_in_blocks
_transform_in_blocks()
mel = sys.modules["whisper.transcribe"].log_mel_spectrogram
peaks = []
for minutes in (5, 25):
    mel(np.zeros(minutes * 60 * 16_000, np.float32), 80, padding=480_000)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print((peaks[1] - peaks[0]) / 20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, timeout=300)
    assert done.stdout, done.stderr[-2000:]
    assert float(done.stdout) < 12, "MiB a minute, of which the sound has 3.7; the whole transform took 24"


@pytest.mark.real
@pytest.mark.parametrize("card", ["faster-whisper-tiny.en", "whisper-tiny.en"])
def test_a_recording_of_several_blocks_is_transcribed_to_its_end(
    card: str, engine: Engines, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 5 s stand in for long ones: the transcript is that of the library's whole features."""
    samples = np.concatenate([clip("lj-lj001-0001.flac"), clip("lj-lj001-0002.flac")])
    whole = engine(card).transcribe(samples, language="en")
    for module in ("models.engines.faster_whisper", "models.engines.openai_whisper"):
        monkeypatch.setattr(f"{module}.BLOCK_SAMPLES", 5 * SAMPLE_RATE_HZ)
    monkeypatch.setattr(_mel_blocks, "BLOCK_FRAMES", BLOCK_FRAMES * 5 // BLOCK_S)
    found = engine(card).transcribe(samples, language="en")
    assert found.text == whole.text and len(found.text.split()) > 20
    assert found.segments[-1].end_s == pytest.approx(whole.segments[-1].end_s, abs=0.05)
