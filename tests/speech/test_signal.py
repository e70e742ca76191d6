"""Level, loudness, clipping, bandwidth and silences against standards and signals made to known values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipelines.speech.signal import (
    FloatSamples,
    Silences,
    active_speech,
    bandwidth_hz,
    clipped_share,
    loudness_lufs,
    silences,
)

RATE_HZ = 16_000


def sine(frequency_hz: float, seconds: float = 1.0, amplitude: float = 1.0, rate_hz: int = RATE_HZ) -> FloatSamples:
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def noise(seconds: float, sigma: float, seed: int = 0) -> FloatSamples:
    return np.random.default_rng(seed).normal(0, sigma, int(seconds * RATE_HZ)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "level_dbov", "factor"),
    [
        ("digits-jackson-4.flac", -21.7183, 0.7701),
        ("digits-nicolas-1.flac", -28.6005, 0.8296),
        ("harvard-spk2-snt1.wav", -23.4196, 0.9543),
        ("nonspeech-noise2.wav", -18.3527, 0.9791),
    ],
)
def test_active_speech_is_what_the_itu_s_own_program_says(
    starter: Path, name: str, level_dbov: float, factor: float
) -> None:
    """Figures of sv-p56.c of ITU-T G.191 (openitu/STL at 139db49), whose search stops within 0.5 dB."""
    samples, rate_hz = soundfile.read(starter / "audio" / name, dtype="float32")
    found = active_speech(samples, rate_hz)
    assert found is not None
    assert found.level_dbov == pytest.approx(level_dbov, abs=0.06)
    assert found.factor == pytest.approx(factor, abs=0.01)


def test_active_speech_follows_the_level(starter: Path) -> None:
    samples, rate_hz = soundfile.read(starter / "audio" / "harvard-spk2-snt1.wav", dtype="float32")
    loud, soft = active_speech(samples, rate_hz), active_speech(samples / 10, rate_hz)
    assert loud is not None and soft is not None
    assert loud.level_dbov - soft.level_dbov == pytest.approx(20.0, abs=0.1)
    assert loud.threshold / soft.threshold == pytest.approx(10.0, rel=0.01)


@pytest.mark.parametrize("samples", [np.zeros(RATE_HZ, np.float32), noise(1, 3e-5), np.eye(1, RATE_HZ, 99, np.float32)[0]])
def test_silence_hiss_and_a_click_are_no_speech(samples: FloatSamples) -> None:
    assert active_speech(samples, RATE_HZ) is None


def test_hangover_is_part_of_speech_and_a_long_pause_is_not() -> None:
    tone = sine(200, 1.0, 0.3)
    for gap_s, expected_s in ((0.1, 2.1), (1.0, 2.0 + 0.2)):
        gap = np.zeros(int(gap_s * RATE_HZ), np.float32)
        samples = np.concatenate([tone, gap, tone])
        found = active_speech(samples, RATE_HZ)
        assert found is not None
        # The envelope rises and falls over some hundredths of a second.
        assert found.factor * len(samples) / RATE_HZ == pytest.approx(expected_s, abs=0.15)


def test_silences_are_found_to_the_frame() -> None:
    tone = sine(200, 1.0, 0.3)
    before, within, after = (np.zeros(int(s * RATE_HZ), np.float32) for s in (0.25, 0.6, 0.4))
    samples = np.concatenate([before, tone, within, tone, after])
    speech = active_speech(samples, RATE_HZ)
    assert speech is not None
    assert silences(samples, RATE_HZ, speech) == Silences(0.25, 0.4, 0.6)
    assert silences(tone, RATE_HZ, speech) == Silences(0.0, 0.0, 0.0)
    assert silences(tone[:10], RATE_HZ, speech) is None


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 24_000, 48_000])
def test_loudness_is_that_of_the_standard(rate_hz: int) -> None:
    """BS.1770-4, annex 1: 997 Hz at full scale in one front channel reads -3.01 LKFS; EBU Tech 3341 allows 0.1 LU."""
    assert loudness_lufs(sine(997, 2.0, 1.0, rate_hz), rate_hz) == pytest.approx(-3.01, abs=0.1)
    assert loudness_lufs(sine(997, 2.0, 0.1, rate_hz), rate_hz) == pytest.approx(-23.01, abs=0.1)


def test_loudness_leaves_silence_out() -> None:
    tone = sine(997, 2.0, 0.1)
    padded = np.concatenate([tone, np.zeros(20 * RATE_HZ, np.float32)])
    assert loudness_lufs(padded, RATE_HZ) == pytest.approx(-23.01, abs=0.6)


@pytest.mark.parametrize("samples", [np.zeros(RATE_HZ, np.float32), sine(997, 2.0, 1e-4), sine(997, 0.39)])
def test_what_is_below_the_gate_or_too_short_has_no_loudness(samples: FloatSamples) -> None:
    assert loudness_lufs(samples, RATE_HZ) is None


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("limit", [0.9, 0.5, 0.2])
def test_clipping_is_the_share_of_flat_tops(limit: float, scale: float) -> None:
    """A sine is above the limit for a known share of the time, however it is scaled afterwards."""
    clipped = sine(50, 2.0).clip(-limit, limit) * np.float32(scale)
    assert clipped_share(clipped) == pytest.approx(1 - 2 * np.arcsin(limit) / np.pi, abs=0.01)


def test_clipping_survives_16_bits_and_one_sided_limits() -> None:
    clipped = np.round(sine(50, 2.0).clip(-1.0, 0.5) * 32768) / 32768
    assert clipped_share(clipped.astype(np.float32)) == pytest.approx((1 - 2 * np.arcsin(0.5) / np.pi) / 2, abs=0.01)


@pytest.mark.parametrize("samples", [sine(300, 2.0), noise(2, 0.1), noise(2, 0.1).clip(-0.4, 0.4)])
def test_peaks_are_no_clipping(samples: FloatSamples) -> None:
    assert clipped_share(samples) < 1e-3


def test_bandwidth_is_where_the_power_ends() -> None:
    spectrum = np.fft.rfft(noise(4, 0.1))
    frequencies = np.fft.rfftfreq(4 * RATE_HZ, 1 / RATE_HZ)
    spectrum[frequencies > 3_000] = 0
    limited = np.fft.irfft(spectrum).astype(np.float32)
    assert bandwidth_hz(limited, RATE_HZ) == pytest.approx(3_000, abs=40)
    assert bandwidth_hz(noise(4, 0.1), RATE_HZ) > 7_950
