"""The measures of one synthesis under names that people read (`pipelines.speech.measures` takes them)."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.report.formatting import metric_label, value_text

MOS = "dnsmos_overall"
"""The measure by which prompts are ranked after their errors."""

_SHOWN: dict[str, tuple[str, str]] = {
    "dnsmos_overall": ("DNSMOS overall", "MOS"),
    "dnsmos_signal": ("DNSMOS signal", "MOS"),
    "dnsmos_background": ("DNSMOS background", "MOS"),
    "dnsmos_p808": ("DNSMOS P.808", "MOS"),
    "plcmos": ("PLCMOS", "MOS"),
    "speaker_similarity": ("Speaker similarity", ""),
    "stoi": ("STOI", ""),
    "leading_silence_s": ("Silence before", "s"),
    "longest_pause_s": ("Longest pause", "s"),
    "trailing_silence_s": ("Silence after", "s"),
    "speaking_rate": ("Rate", "words/min"),
    "loudness_lufs": ("Loudness", "LUFS"),
    "peak_dbfs": ("Peak", "dBFS"),
    "clipped_share": ("Clipped", "ratio"),
    "bandwidth_hz": ("Bandwidth", "Hz"),
    "pitch_range_semitones": ("Pitch range", "semitones"),
}
_IMPLIED = frozenset({"duration_s", "words", "characters", "seconds_per_character", "active_speech_s", "dc_offset"})
"""Said elsewhere on the page, or there for the metrics' sake; the Parquet file has all."""


def measure_texts(measures: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    """Name and value of each measure that was taken, those that listeners ask for first, unknown ones last."""
    known = [(label, value_text(name, unit, measures[name])) for name, (label, unit) in _SHOWN.items() if name in measures]
    rest = sorted(measures.keys() - _SHOWN.keys() - _IMPLIED)
    return (*known, *((metric_label(name), value_text(name, "", measures[name])) for name in rest))
