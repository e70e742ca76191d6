"""Metrics over the measures of real recordings: every fault moves its metric in the harmful direction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import speech_metrics
from pipelines.measure import REGISTRY, Metric, ScoringNothing, evaluate_metric
from pipelines.scores import ScoreTable
from tests.pipelines.factories import make_score

OURS = {name: found for name, found in vars(speech_metrics).items() if isinstance(found, Metric)}

PERFECT = {
    "duration_s": 4.0, "active_speech_s": 3.5, "seconds_per_character": 0.07, "clipped_share": 0.0, "dc_offset": 0.0,
    "dnsmos_overall": 3.3, "dnsmos_signal": 3.5, "dnsmos_background": 4.1, "dnsmos_p808": 4.0, "bandwidth_hz": 8000.0,
    "leading_silence_s": 0.1, "trailing_silence_s": 0.2, "longest_pause_s": 0.3, "pitch_range_semitones": 9.0,
    "loudness_lufs": -20.0, "stoi": 1.0, "plcmos": 4.6, "speaker_similarity": 0.9,
}  # fmt: skip
FAULTS = {
    "dnsmos_overall": {"dnsmos_overall": 2.0},
    "dnsmos_signal": {"dnsmos_signal": 2.0},
    "dnsmos_background": {"dnsmos_background": 2.0},
    "dnsmos_p808": {"dnsmos_p808": 2.0},
    "plcmos": {"plcmos": 3.0},
    "silent_share": {"active_speech_s": 0.0},
    "clipped_share": {"clipped_share": 0.1},
    "dc_offset": {"dc_offset": 0.1},
    "bandwidth": {"bandwidth_hz": 3600.0},
    "leading_silence": {"leading_silence_s": 1.0},
    "trailing_silence": {"trailing_silence_s": 9.0},
    "longest_pause": {"longest_pause_s": 2.0},
    "pitch_range": {"pitch_range_semitones": 2.0},
    "loudness_spread": {"loudness_lufs": -40.0},
    "duration_spread": {"seconds_per_character": 0.035},
    "stoi": {"stoi": 0.6},
    "speaker_similarity": {"speaker_similarity": 0.4},
}
"""Metric → what a fault in one recording of four does to its measures."""


def table(*measures: dict[str, float]) -> ScoreTable:
    return ScoreTable.build([replace(make_score(id=f"u{i}"), measures=m) for i, m in enumerate(measures)])


def test_every_metric_is_registered_for_synthesis_alone_and_has_a_case() -> None:
    assert set(OURS) == set(FAULTS)
    assert all(REGISTRY[name] is found and found.tasks == ("tts",) for name, found in OURS.items())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_one_recording_moves_its_metric_in_the_harmful_direction(name: str) -> None:
    good = evaluate_metric(OURS[name], table(*[PERFECT] * 4))
    bad = evaluate_metric(OURS[name], table(*[PERFECT] * 3, PERFECT | FAULTS[name]))
    assert good.value is not None and bad.value is not None
    assert (bad.value < good.value) is good.higher_is_better
    assert bad.value != good.value
    low, high = OURS[name].limits
    assert low <= bad.value <= high


@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"silent_share"}))
def test_what_was_not_measured_is_in_no_mean(name: str) -> None:
    with_gap = evaluate_metric(OURS[name], table(PERFECT, PERFECT | FAULTS[name], {}))
    without = evaluate_metric(OURS[name], table(PERFECT, PERFECT | FAULTS[name]))
    assert with_gap == without
    with pytest.raises(ScoringNothing, match="0 of 1 utterances"):
        evaluate_metric(OURS[name], table({}))


def test_no_audio_at_all_is_silent() -> None:
    found = evaluate_metric(OURS["silent_share"], table(PERFECT, PERFECT | FAULTS["silent_share"], {}, PERFECT))
    assert (found.value, found.n) == (0.5, 4)


def test_clipping_is_over_time_and_not_over_files() -> None:
    short = PERFECT | {"duration_s": 1.0, "clipped_share": 0.5}
    assert evaluate_metric(OURS["clipped_share"], table(short, PERFECT)).value == pytest.approx(0.1)


def test_one_stop_halfway_in_four_widens_the_spread_of_durations() -> None:
    values = [0.07, 0.07, 0.07, 0.035]
    found = evaluate_metric(OURS["duration_spread"], table(*[PERFECT | {"seconds_per_character": v} for v in values]))
    assert found.value == pytest.approx(math.log(2) * math.sqrt(3) / 4)


@given(st.lists(st.floats(-60, 0), min_size=1, max_size=20), st.floats(0.1, 10))
def test_a_spread_is_the_standard_deviation_and_unchanged_by_scaled_sums(values: list[float], scale: float) -> None:
    measurement = OURS["loudness_spread"].measure(table(*[{"loudness_lufs": v} for v in values]))
    assert measurement.point() == pytest.approx(float(np.std(values)), abs=1e-5)
    sums = measurement.columns.sum(axis=0)  # type: ignore[union-attr]
    assert measurement.value(sums * scale) == pytest.approx(measurement.point(), abs=1e-5)  # type: ignore[union-attr]
