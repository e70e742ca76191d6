"""Numbers and names as a person reads them: percent, seconds, times real time, "not measured"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipelines.types import MetricResult

NOT_MEASURED = "not measured"

MINUS = "\N{MINUS SIGN}"

_LABELS = {
    "wer": "Word error rate",
    "cer": "Character error rate",
    "roundtrip_wer": "Round-trip word error rate",
    "roundtrip_cer": "Round-trip character error rate",
    "mer": "Match error rate",
    "wil": "Word information lost",
    "wip": "Word information preserved",
    "ece": "Calibration error",
    "ece_calibrated": "Calibration error, mapped",
    "wer_gap_accent": "WER gap between accents",
    "wer_gap_gender": "WER gap between genders",
    "wer_gap_bandwidth": "WER gap between bandwidths",
    "rtf": "Real-time factor",
    "rtfx": "Speed over real time",
}

_SHORT_LABELS = {
    "substitution_rate": "Subst.",
    "deletion_rate": "Deleted",
    "insertion_rate": "Inserted",
    "invented_words_per_minute": "Invented",
    "wer": "WER",
    "cer": "CER",
    "mer": "MER",
    "wil": "WIL",
    "wip": "WIP",
    "rtf": "RTF",
    "roundtrip_wer": "Round-trip WER",
    "roundtrip_cer": "Round-trip CER",
}

_SHORT_WORDS = {**_SHORT_LABELS, "dnsmos": "DNSMOS", "p808": "P.808", "plcmos": "PLCMOS", "dc": "DC", "stoi": "STOI"}

_UNIT_WORDS = {"1/min": "per minute", "1/s": "per second", "1/h": "per hour", "count": "", "1": "", "": ""}

_UNIT_SUFFIXES = ("_s", "_ms", "_mib", "_per_min")
"""Endings of metric names that repeat the unit, which the page shows beside the number."""


def metric_label(name: str) -> str:
    """Spell a metric's name out: ``latency_p95_s`` becomes "Latency p95"."""
    if name in _LABELS:
        return _LABELS[name]
    stem = name
    for suffix in _UNIT_SUFFIXES:
        stem = stem.removesuffix(suffix)
    words = " ".join(_SHORT_WORDS.get(word, word) for word in stem.replace("_", " ").split())
    return words[:1].upper() + words[1:] if words else name


def short_label(name: str) -> str:
    """Name a metric in a column's head: WER where the field has an acronym, else the spelled-out name."""
    return _SHORT_LABELS.get(name, metric_label(name))


def plain(value: float) -> str:
    """Write a number with about three significant digits and a true minus sign: 0.412, 1.23, 45.6, 1 234."""
    size = abs(value)
    if size >= 100:
        text = f"{size:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    elif size >= 10:
        text = f"{size:.1f}"
    elif size >= 1:
        text = f"{size:.2f}"
    else:
        text = f"{size:.3f}" if size else "0"
    return f"{MINUS}{text}" if value < 0 and text.strip("0.") else text


def _percent_number(value: float) -> str:
    text = f"{abs(value) * 100:.1f}"
    return f"{MINUS}{text}" if value < 0 and text != "0.0" else text


def _is_real_time(name: str, unit: str) -> bool:
    return name.startswith(("rtf", "real_time")) or unit in ("x", "\N{MULTIPLICATION SIGN}")


def _is_rate(name: str, unit: str) -> bool:
    return unit == "ratio" and not _is_real_time(name, unit)


def value_text(name: str, unit: str, value: float | None) -> str:
    """Write a metric's value with its unit; None is "not measured"."""
    if value is None:
        return NOT_MEASURED
    if _is_rate(name, unit):
        return f"{_percent_number(value)}%"
    if _is_real_time(name, unit):
        return f"{plain(value)} \N{MULTIPLICATION SIGN} real time"
    return f"{plain(value)} {_UNIT_WORDS.get(unit, unit)}".rstrip()


def interval_text(name: str, unit: str, low: float | None, high: float | None) -> str:
    """Write an interval in the unit of the value beside it, ``[2.0, 4.4]``; empty where there is none.

    An end that could not be had is "unknown".
    """
    if low is None and high is None:
        return ""
    number = _percent_number if _is_rate(name, unit) else plain
    ends = ("unknown" if end is None or not math.isfinite(end) else number(end) for end in (low, high))
    return f"[{', '.join(ends)}]"


def metric_text(name: str, metric: MetricResult | None) -> str:
    """Write value and interval, ``3.1% [2.0, 4.4]``."""
    if metric is None or metric.value is None:
        return NOT_MEASURED
    interval = interval_text(name, metric.unit, metric.ci_low, metric.ci_high)
    return f"{value_text(name, metric.unit, metric.value)} {interval}".rstrip()


def delta_text(name: str, unit: str, delta: float | None) -> str:
    """Write a difference with its sign; rates differ by percentage points, never by percent."""
    if delta is None:
        return NOT_MEASURED
    if _is_rate(name, unit):
        number, unit_word = _percent_number(delta), "points"
    elif _is_real_time(name, unit):
        number, unit_word = plain(delta), "\N{MULTIPLICATION SIGN} real time"
    else:
        number, unit_word = plain(delta), _UNIT_WORDS.get(unit, unit)
    sign = "+" if delta > 0 and number.strip("0.") else ""
    return f"{sign}{number} {unit_word}".rstrip()


def factor_text(factor: float | None) -> str:
    """Write candidate over baseline, ``1.12 times``."""
    return NOT_MEASURED if factor is None else f"{plain(factor)} times"


def direction_text(higher_is_better: bool) -> str:
    """Say which way a metric improves, in words and with an arrow."""
    return "\N{UPWARDS ARROW} higher is better" if higher_is_better else "\N{DOWNWARDS ARROW} lower is better"


def duration_text(seconds: float) -> str:
    """Write a length of time: seconds below two minutes, minutes below two hours, then hours."""
    if seconds < 120:
        return f"{plain(seconds)} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def count_text(number: int, singular: str, plural: str | None = None) -> str:
    """Write a count with its noun: "1 recording", "3 recordings"."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Lay nested settings out as ``decoding.beam_size`` → "5", in their own order."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        elif isinstance(value, (list, tuple)):
            flat[path] = ", ".join(str(item) for item in value) or "none"
        else:
            flat[path] = "none" if value is None or value == {} else str(value)
    return flat
