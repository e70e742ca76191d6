from __future__ import annotations

import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from models.errors import AudioError, LabError
from pipelines.speech import measures
from pipelines.speech.intrusive import stoi
from pipelines.speech.measures import MEASURES_VERSION, measure_speech, spoken_words
from pipelines.speech.pitch import pitch_range_semitones

RATE_HZ = 16_000


def noise(n: int, sigma: float = 0.1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sigma, n).astype(np.float32)


@pytest.mark.real
@pytest.mark.parametrize("n", [1, 5_000])
def test_the_shortest_recordings_are_measured_without_nan(n: int) -> None:
    found = measure_speech(noise(n), RATE_HZ, "Hello.", "en", noise(n))
    assert all(np.isfinite(value) for value in found.values())
    assert "stoi" not in found and "loudness_lufs" not in found
    assert found["characters"] == 5


@pytest.mark.real
def test_values_beyond_full_scale_are_clipped_and_counted() -> None:
    found = measure_speech(noise(RATE_HZ) * 100, RATE_HZ, "…", "en")
    assert found["clipped_share"] > 0.3
    assert "seconds_per_character" not in found
    assert found["peak_dbfs"] == 0.0


@pytest.mark.real
def test_an_offset_is_measured_and_hides_no_silence() -> None:
    found = measure_speech(np.full(RATE_HZ, 0.25, np.float32), RATE_HZ, "Hello.", "en")
    assert found["dc_offset"] == pytest.approx(0.25)
    assert found["active_speech_s"] == 0.0


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("…", "en", []),
        ("Don't stop, now!", "en", ["don't", "stop", "now"]),
        ("50 %", "de", ["50", "prozent"]),
        ("你好 world", "zh", ["你", "好", "world"]),
    ],
)
def test_words_are_those_that_are_spoken(text: str, language: str, words: list[str]) -> None:
    assert spoken_words(text, language) == words


@pytest.mark.parametrize("samples", [noise(0), noise(100).reshape(2, 50), np.array([0.0, np.nan], np.float32)])
def test_what_is_no_recording_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match="cannot be measured"):
        measure_speech(samples, RATE_HZ, "Hello.", "en")


def test_another_reading_is_no_reference() -> None:
    with pytest.raises(AudioError, match=r"101 samples, the recording 100.*not another reading"):
        stoi(noise(100), noise(101), RATE_HZ)


def test_intelligibility_falls_with_noise() -> None:
    time = np.arange(3 * RATE_HZ) / RATE_HZ
    voice = (0.3 * np.sin(2 * np.pi * 3 * time) * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
    found = [stoi(voice + noise(len(voice), sigma), voice, RATE_HZ) for sigma in (0.0, 0.03, 0.3)]
    assert found[0] == pytest.approx(1.0, abs=1e-6)
    assert found[0] > found[1] > found[2]  # type: ignore[operator]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    with pytest.raises(LabError, match=r"parselmouth.*pip install -e '\.\[tts\]'"):
        pitch_range_semitones(noise(RATE_HZ), RATE_HZ)


def test_the_version_names_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("speechmos", "onnxruntime", "pyloudnorm", "praat-parselmouth", "pystoi", "librosa", "soxr"):
        assert f"+{package}-{metadata.version(package)}" in MEASURES_VERSION
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99" if name == "pyloudnorm" else real(name))
    try:
        assert importlib.reload(measures).MEASURES_VERSION != MEASURES_VERSION
    finally:
        monkeypatch.undo()
        assert importlib.reload(measures).MEASURES_VERSION == MEASURES_VERSION


def test_naming_the_version_loads_nothing_slow(repository: Path) -> None:
    slow = {"speechmos", "librosa", "scipy", "parselmouth"}
    code = f"import sys, pipelines.speech.measures; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, timeout=120)
    assert done.stdout == "[]\n", done.stderr[-2000:]
