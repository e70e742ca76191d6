import math

import pytest

from pipelines.report.formatting import (
    delta_text,
    duration_text,
    factor_text,
    flatten,
    interval_text,
    metric_label,
    metric_text,
    value_text,
)
from tests.report.factory import make_metric


@pytest.mark.parametrize(
    ("name", "unit", "value", "text"),
    [
        ("wer", "ratio", 0.0312, "3.1%"),
        ("wer", "ratio", 0.0, "0.0%"),
        ("wer", "ratio", 1.25, "125.0%"),
        ("wer", "ratio", None, "not measured"),
        ("rtf", "ratio", 0.0812, "0.081 \N{MULTIPLICATION SIGN} real time"),
        ("latency_p95", "s", 0.4123, "0.412 s"),
        ("latency_p95", "s", 12.34, "12.3 s"),
        ("peak_memory", "MiB", 1412.3, "1\u202f412 MiB"),
        ("invented_words_per_minute", "1/min", 2.5, "2.50 per minute"),
        ("mos", "MOS", 3.851, "3.85 MOS"),
    ],
)
def test_values_carry_their_unit(name: str, unit: str, value: float | None, text: str) -> None:
    assert value_text(name, unit, value) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0204, 0.0441, "[2.0, 4.4]"),
        (-0.004, 0.019, "[\N{MINUS SIGN}0.4, 1.9]"),
        (-0.0001, 0.019, "[0.0, 1.9]"),
        (None, None, ""),
        (None, 0.044, "[unknown, 4.4]"),
        (0.02, math.inf, "[2.0, unknown]"),
    ],
)
def test_intervals(low: float | None, high: float | None, text: str) -> None:
    assert interval_text("wer", "ratio", low, high) == text


@pytest.mark.parametrize(
    ("name", "unit", "delta", "text"),
    [
        ("wer", "ratio", 0.008, "+0.8 points"),
        ("wer", "ratio", -0.008, "\N{MINUS SIGN}0.8 points"),
        ("wer", "ratio", 0.00001, "0.0 points"),
        ("wer", "ratio", None, "not measured"),
        ("latency_p50", "s", 0.25, "+0.250 s"),
    ],
)
def test_differences_of_rates_are_points(name: str, unit: str, delta: float | None, text: str) -> None:
    assert delta_text(name, unit, delta) == text


def test_value_and_interval_together() -> None:
    assert metric_text("wer", make_metric(0.031, ci_low=0.02, ci_high=0.044)) == "3.1% [2.0, 4.4]"
    assert metric_text("wer", make_metric(None)) == "not measured"
    assert metric_text("wer", None) == "not measured"


def test_factors_and_durations() -> None:
    assert factor_text(1.412) == "1.41 times"
    assert factor_text(None) == "not measured"
    assert [duration_text(s) for s in (8.0, 449.3, 9000)] == ["8.00 s", "7.5 min", "2.5 h"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("wer", "Word error rate"),
        ("latency_p95_s", "Latency p95"),
        ("wer_variants_forgiven", "WER variants forgiven"),
        ("", ""),
    ],
)
def test_metrics_that_nobody_named_have_a_label(name: str, label: str) -> None:
    assert metric_label(name) == label


def test_nested_settings_are_laid_flat() -> None:
    nested = {"engine": "e", "decoding": {"beam_size": 5, "temperature": [0.0, 0.2]}, "empty": {}, "none": None}
    assert flatten(nested) == {
        "engine": "e",
        "decoding.beam_size": "5",
        "decoding.temperature": "0.0, 0.2",
        "empty": "none",
        "none": "none",
    }
