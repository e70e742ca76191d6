"""Ratios of cost from timings taken side by side: values as defined, intervals over recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipelines.duel import Duel, Timed
from pipelines.metrics import MACHINE_METRICS, TIMED
from pipelines.speed import SpeedRatio, speed_ratio
from pipelines.stats.paired import paired_ratio

OPTIONS: dict[str, Any] = {"level": 0.95, "resamples": 500, "seed": 3}


def make_duel(rows: Sequence[tuple[str, float, float, float]], **changes: Any) -> Duel:
    """Rows of recording, seconds of audio, of the candidate and of the baseline; half of them until the first audio."""
    timings = tuple(
        Timed(
            audio_sha256=name,
            audio_s=audio,
            candidate_s=ours,
            baseline_s=theirs,
            candidate_first_s=ours / 2,
            baseline_first_s=theirs / 2,
        )
        for name, audio, ours, theirs in rows
    )
    fields: dict[str, Any] = {
        "candidate": "c",
        "baseline": "b",
        "hardware": "h",
        "threads": 1,
        "timings": timings,
        "load_s": (3.0, 2.0),
        "peak_mib": (150.0, 600.0),
        "measured_at": "2025-01-01T00:00:00+00:00",
    }
    return Duel.model_validate({**fields, **changes})


def noisy(ratio: float, recordings: int, seed: int, spread: float = 0.2) -> Duel:
    """Two rounds of recordings whose ratios scatter around one."""
    rng = np.random.default_rng(seed)
    audio = rng.uniform(1, 10, recordings)
    own = ratio * np.exp(rng.normal(0, spread, recordings))
    rows = []
    for _ in range(2):
        theirs = 0.1 * audio * np.exp(rng.normal(0, 0.02, recordings))
        ours = theirs * own * np.exp(rng.normal(0, 0.02, recordings))
        rows += [(f"r{i}", float(audio[i]), float(ours[i]), float(theirs[i])) for i in range(recordings)]
    return make_duel(rows)


ROWS = [
    ("a", 2.0, 0.4, 0.2),
    ("b", 4.0, 0.9, 1.0),
    ("c", 6.0, 1.2, 1.5),
    ("a", 2.0, 0.5, 0.3),
    ("b", 4.0, 1.1, 1.0),
    ("c", 6.0, 1.0, 1.4),
]


def test_the_real_time_factor_is_all_seconds_over_all_audio() -> None:
    found = speed_ratio(make_duel(ROWS), "rtf", **OPTIONS)
    assert found.candidate == pytest.approx(5.1 / 24)
    assert found.baseline == pytest.approx(5.4 / 24)
    assert found.ratio == pytest.approx(5.1 / 5.4)
    assert found.n == 3 and found.low < found.ratio < found.high


@pytest.mark.parametrize(("name", "q"), [("latency_p50", 0.5), ("latency_p95", 0.95)])
def test_a_latency_is_the_quantile_of_all_timings(name: str, q: float) -> None:
    found = speed_ratio(make_duel(ROWS), name, **OPTIONS)
    ours, theirs = np.quantile([row[2] for row in ROWS], q), np.quantile([row[3] for row in ROWS], q)
    assert (found.candidate, found.baseline, found.ratio) == pytest.approx((ours, theirs, ours / theirs))
    assert found.n == 3 and math.isnan(found.low) and math.isnan(found.high), "three recordings bound no quantile"


@pytest.mark.parametrize(
    ("name", "level", "needed"), [("latency_p50", 0.95, 6), ("latency_p95", 0.95, 72), ("latency_p95", 0.8, 45)]
)
def test_a_quantile_has_an_interval_from_as_many_recordings_as_bound_it(name: str, level: float, needed: int) -> None:
    few = speed_ratio(noisy(1.5, needed - 1, seed=1), name, **{**OPTIONS, "level": level})
    enough = speed_ratio(noisy(1.5, needed, seed=1), name, **{**OPTIONS, "level": level})
    assert math.isnan(few.low) and math.isnan(few.high)
    assert enough.low < enough.ratio < enough.high


def test_a_baseline_that_costs_nothing_has_no_ratio() -> None:
    found = speed_ratio(make_duel(ROWS, load_s=(1.0, 0.0)), "load_time", **OPTIONS)
    assert (found.candidate, found.baseline) == (1.0, 0.0) and math.isnan(found.ratio)


def test_the_first_audio_has_a_ratio_of_its_own_and_a_recording_has_none() -> None:
    duel = noisy(1.5, 16, seed=2)
    late = [t.model_copy(update={"candidate_first_s": t.candidate_s}) for t in duel.timings]
    found = speed_ratio(duel.model_copy(update={"timings": tuple(late)}), "first_audio_p50", **OPTIONS)
    assert found.ratio == pytest.approx(2 * speed_ratio(duel, "first_audio_p50", **OPTIONS).ratio)
    heard = [t.model_copy(update={"candidate_first_s": None, "baseline_first_s": None}) for t in duel.timings]
    assert math.isnan(speed_ratio(duel.model_copy(update={"timings": tuple(heard)}), "first_audio_p50", **OPTIONS).ratio)


def test_a_voice_is_timed_against_what_it_said_itself() -> None:
    """A voice that speaks twice as slowly gives twice the audio to compute."""
    rows = make_duel(ROWS)
    slow = rows.model_copy(
        update={"timings": tuple(t.model_copy(update={"baseline_audio_s": 2 * t.audio_s}) for t in rows.timings)}
    )
    assert speed_ratio(slow, "rtf", **OPTIONS).ratio == pytest.approx(2 * speed_ratio(rows, "rtf", **OPTIONS).ratio)


@pytest.mark.parametrize(("name", "ratio"), [("load_time", 1.5), ("peak_memory", 0.25)])
def test_what_a_process_costs_once_has_a_ratio_and_no_interval(name: str, ratio: float) -> None:
    found = speed_ratio(make_duel(ROWS), name, **OPTIONS)
    assert found.ratio == ratio and found.n == 1
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize("name", ["wer", "rft", ""])
def test_what_a_duel_does_not_measure_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        speed_ratio(make_duel(ROWS), name, **OPTIONS)


def test_every_cost_can_be_compared() -> None:
    for name in (*TIMED, *MACHINE_METRICS):
        assert isinstance(speed_ratio(make_duel(ROWS), name, **OPTIONS), SpeedRatio)


def test_the_interval_of_the_real_time_factor_is_over_recordings() -> None:
    """Rounds repeat a recording; counted as recordings of their own they would shrink the interval for nothing."""
    rng = np.random.default_rng(0)
    once = [(f"r{i}", 2.0, 0.2 * float(np.exp(rng.normal(0, 0.4))), 0.2) for i in range(8)]
    twice = make_duel([*once, *once])
    found = speed_ratio(twice, "rtf", **OPTIONS)
    single = speed_ratio(make_duel(once), "rtf", **OPTIONS)
    assert (found.low, found.high, found.n) == (pytest.approx(single.low), pytest.approx(single.high), 8)
    apart = speed_ratio(make_duel([*once, *((f"x{name}", *rest) for name, *rest in once)]), "rtf", **OPTIONS)
    assert apart.high - apart.low < 0.85 * (found.high - found.low)
    sums = np.array([[row[2], row[1]] for row in once]), np.array([[row[3], row[1]] for row in once])
    expected = paired_ratio(*sums, np.arange(8), lambda s: s[..., 0] / s[..., 1], **OPTIONS)
    assert (single.low, single.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("name", TIMED)
def test_swapping_the_models_turns_the_ratio_round(name: str) -> None:
    duel = noisy(1.5, 80, seed=2)
    swapped = make_duel([(t.audio_sha256, t.audio_s, t.baseline_s, t.candidate_s) for t in duel.timings])
    there, back = speed_ratio(duel, name, **OPTIONS), speed_ratio(swapped, name, **OPTIONS)
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert (back.low, back.high) == (pytest.approx(1 / there.high, rel=0.1), pytest.approx(1 / there.low, rel=0.1))


@pytest.mark.parametrize(
    ("name", "recordings", "true"),
    [("rtf", 16, 1.3 * math.exp(0.02)), ("latency_p50", 16, 1.274), ("latency_p50", 6, 1.274), ("latency_p95", 72, 1.463)],
)
def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says(name: str, recordings: int, true: float) -> None:
    """Of 120 duels. The true values are of 200,000 recordings made in the same way."""
    found = [speed_ratio(noisy(1.3, recordings, seed), name, level=0.95, resamples=200, seed=1) for seed in range(120)]
    assert sum(one.low <= true <= one.high for one in found) / len(found) >= 0.88


@pytest.mark.parametrize(("level", "low", "high"), [(0.5, 1.0, 3.0), (0.4, 2.5, 2.5)])
def test_a_level_is_two_sided(level: float, low: float, high: float) -> None:
    """Two recordings are drawn both as the first in a quarter of the resamples, both as the second in another."""
    duel = make_duel([("a", 1.0, 1.0, 1.0), ("b", 1.0, 9.0, 3.0)])
    found = speed_ratio(duel, "latency_p50", level=level, resamples=2000, seed=1)
    assert (found.ratio, found.low, found.high) == (2.5, low, high)


@pytest.mark.parametrize("name", TIMED)
def test_level_widens_and_seed_repeats(name: str) -> None:
    duel = noisy(1.5, 120, seed=4)
    usual = speed_ratio(duel, name, **OPTIONS)
    wide = speed_ratio(duel, name, **{**OPTIONS, "level": 0.99})
    assert wide.low <= usual.low and wide.high >= usual.high and wide.high - wide.low > usual.high - usual.low
    assert speed_ratio(duel, name, **OPTIONS) == usual


@pytest.mark.parametrize("name", TIMED)
def test_the_order_of_the_timings_is_of_no_account(name: str) -> None:
    duel = noisy(1.5, 120, seed=4)
    turned = duel.model_copy(update={"timings": duel.timings[120:] + duel.timings[:120]})
    one, other = speed_ratio(duel, name, **OPTIONS), speed_ratio(turned, name, **OPTIONS)
    assert (one.ratio, one.low, one.high) == pytest.approx((other.ratio, other.low, other.high))


@pytest.mark.parametrize("name", TIMED)
def test_one_recording_has_no_interval(name: str) -> None:
    found = speed_ratio(make_duel([("a", 2.0, 0.4, 0.2), ("a", 2.0, 0.6, 0.2)]), name, **OPTIONS)
    assert found.n == 1 and found.ratio > 1
    assert math.isnan(found.low) and math.isnan(found.high)
