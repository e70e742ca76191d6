import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pipelines.report.picture import MOST_TICKS, _runs, frequency_ticks, pictures, time_ticks
from pipelines.report.sound import (
    BANDS,
    COLUMNS,
    FLOOR_DB,
    STEP_DB,
    STEPS,
    Sound,
    envelope,
    mel,
    read_sound,
    steps_of_level,
)
from tests.report.html_page import Page


def tone(frequency_hz: float, level_db: float = 0.0, rate_hz: int = 24_000, seconds: float = 1.0) -> Sound:
    times = np.arange(int(rate_hz * seconds)) / rate_hz
    samples = 10 ** (level_db / 20) * np.sin(2 * np.pi * frequency_hz * times)
    return Sound(samples.astype(np.float32), rate_hz)


def band_of(frequency_hz: float, top_hz: float) -> int:
    return int(mel(frequency_hz) / mel(top_hz) * BANDS)


@pytest.mark.parametrize("frequency_hz", [150.0, 1000.0, 3000.0, 9000.0])
def test_a_tone_is_loudest_in_its_own_band(frequency_hz: float) -> None:
    steps = steps_of_level(tone(frequency_hz, -5), 1.0, 12_000)
    middle = steps[:, COLUMNS // 2]
    assert abs(int(np.flatnonzero(middle == middle.max()).mean()) - band_of(frequency_hz, 12_000)) <= 1
    assert middle.max() == STEPS
    assert (middle > 0).sum() < BANDS / 4


@pytest.mark.parametrize("level_db", [-35, -45, -75, -85])
def test_levels_are_of_full_scale(level_db: int) -> None:
    # In a band that holds one bin only the whole power of a tone on that bin is there.
    sound = tone(24_000 / 1024 * 6, level_db)
    steps = steps_of_level(sound, 1.0, 12_000)
    assert steps[:, COLUMNS // 2].max() == (level_db - FLOOR_DB) // STEP_DB + 1


def test_a_louder_sound_is_drawn_louder() -> None:
    soft, loud = (steps_of_level(tone(800, level), 1.0, 12_000).sum() for level in (-50, -20))
    assert loud > soft > 0


def test_silence_has_no_level_and_is_a_line() -> None:
    silence = Sound(np.zeros(24_000, dtype=np.float32), 24_000)
    assert not steps_of_level(silence, 1.0, 12_000).any()
    (drawn,) = pictures([silence])
    assert drawn is not None
    assert re.findall(r'<path d="(M[^"]*)"', drawn) == ["".join(f"M{x}.5 50V51" for x in range(COLUMNS))]


def test_nothing_lies_above_half_the_sample_rate() -> None:
    noise = Sound(np.random.default_rng(3).uniform(-1, 1, 16_000).astype(np.float32), 16_000)
    steps = steps_of_level(noise, 1.0, 12_000)
    limit = band_of(8_000, 12_000)
    assert (steps[:limit] > 0).all() and not steps[limit + 1 :].any()


def test_time_runs_from_left_to_right() -> None:
    late = np.concatenate([np.zeros(12_000), tone(1000, seconds=0.5).samples]).astype(np.float32)
    steps = steps_of_level(Sound(late, 24_000), 1.0, 12_000)
    heard = np.flatnonzero(steps.max(axis=0) == STEPS)
    assert abs(int(heard[0]) - COLUMNS // 2) <= 10 and heard[-1] >= COLUMNS - 10


def test_half_of_a_span_takes_half_of_the_columns() -> None:
    sound = tone(500)
    assert steps_of_level(sound, 2.0, 12_000).shape == (BANDS, COLUMNS // 2)
    low, high = envelope(sound, 2.0)
    assert len(low) == len(high) == COLUMNS // 2


def test_one_sample_cannot_hide() -> None:
    samples = np.zeros(48_000, dtype=np.float32)
    samples[24_010] = 0.9
    low, high = envelope(Sound(samples, 48_000), 1.0)
    assert np.flatnonzero(high).tolist() == [COLUMNS // 2] and high.max() == np.float32(0.9)
    assert not low.any()


@pytest.mark.parametrize("count", [1, 2, 100])
def test_the_shortest_sounds_are_drawn(count: int) -> None:
    (drawn,) = pictures([Sound(np.full(count, 0.5, dtype=np.float32), 24_000)])
    assert drawn is not None and len(Page(f"<body>{drawn}</body>").all("svg")) == 2


def test_minutes_are_drawn_too() -> None:
    sound = tone(300, -10, rate_hz=8_000, seconds=180)
    steps = steps_of_level(sound, sound.duration_s, 4_000)
    assert steps.shape == (BANDS, COLUMNS) and (steps.max(axis=0)[1:-1] == STEPS).all()


def test_what_cannot_be_read_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.flac").write_text("no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    assert [read_sound(tmp_path / name) for name in ("text.flac", "empty.wav", "gone.flac")] == [None] * 3
    first, second = pictures([None, tone(100)])
    assert first is None and second is not None
    assert pictures([None]) == [None]


def test_a_file_is_read_at_its_own_rate_and_to_one_channel(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.stack([np.full(500, 0.5), np.zeros(500)], axis=1), 22_050)
    sound = read_sound(tmp_path / "a.flac")
    assert sound is not None and sound.rate_hz == 22_050
    assert sound.samples.shape == (500,) and np.allclose(sound.samples, 0.25, atol=1e-4)


def drawn_mask(path: str) -> NDArray[np.bool_]:
    """Follow the pen: relative moves and lines to the right."""
    mask = np.zeros((BANDS, COLUMNS), dtype=bool)
    x = y = 0
    for right, down, length in re.findall(r"m(-?\d+)(?: |(?=-))(-?\d+)h(\d+)", path):
        x, y = x + int(right), y + int(down)
        assert not mask[BANDS - 1 - y, x : x + int(length)].any(), "drawn twice"
        mask[BANDS - 1 - y, x : x + int(length)] = True
        x += int(length)
    return mask


@given(arrays(np.bool_, (BANDS, COLUMNS), elements=st.booleans(), fill=st.booleans()))
def test_the_lines_are_the_cells(mask: NDArray[np.bool_]) -> None:
    assert (drawn_mask(_runs(mask)) == mask).all()


@pytest.mark.parametrize("span_s", [0.001, 0.3, 1.0, 3.2, 59.0, 700.0, 10_000.0])
def test_the_time_axis_has_few_labels_within_the_span(span_s: float) -> None:
    ticks = time_ticks(span_s)
    assert 1 <= len(ticks) <= MOST_TICKS + 1
    assert ticks[0] == (0.0, "0 s") and all(0 <= at <= 1.001 * span_s for at, _ in ticks)


def test_the_frequency_axis_ends_at_half_the_rate_without_crowding() -> None:
    assert [label for _, label in frequency_ticks(12_000)] == ["0", "0.5", "1", "2", "4", "8", "12 kHz"]
    assert [label for _, label in frequency_ticks(8_000)] == ["0", "0.5", "1", "2", "4", "8 kHz"]
    assert [label for _, label in frequency_ticks(9_000)][-2:] == ["4", "9 kHz"], "8 would be under it"
    shares = [share for share, _ in frequency_ticks(24_000)]
    assert shares == sorted(shares) and shares[-1] == 1.0
