"""Metrics of synthesised audio, over the measures that `pipelines.speech` takes of each recording.

Only what has a better and a worse direction is a metric. Loudness, pace and duration have none: twice as fast is as wrong
as half as fast. But a voice should be consistent in them, so their spread over prompts is a metric: a loop or an early stop
in some recordings makes these long or short for their texts. The measures themselves stay with each recording.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.measure import Draft, function_of_sums, metric, ratio
from pipelines.scores import BoolArray, FloatArray, ScoreTable

MOS = (1.0, 5.0)
"""Range of the scale that listeners vote on (ITU-T P.800)."""


def mean_of(name: str) -> Callable[[ScoreTable], Draft]:
    """Make the mean of a measure over the recordings that have it."""

    def compute(table: ScoreTable) -> Draft:
        return ratio(sum=table.measured(name), recordings=np.ones(len(table)))

    return compute


def having(name: str) -> Callable[[ScoreTable], BoolArray]:
    """Make the rows of a table that have a measure."""

    def rows(table: ScoreTable) -> BoolArray:
        return np.isfinite(table.measured(name))

    return rows


@metric(unit="MOS", higher_is_better=True, rows=having("dnsmos_overall"), limits=MOS, failure=None, tasks=("tts",))
def dnsmos_overall(table: ScoreTable) -> Draft:
    """Overall quality on P.835's scale, as DNSMOS predicts listeners' votes (Reddy et al. 2022)."""
    return mean_of("dnsmos_overall")(table)


@metric(unit="MOS", higher_is_better=True, rows=having("dnsmos_signal"), limits=MOS, failure=None, tasks=("tts",))
def dnsmos_signal(table: ScoreTable) -> Draft:
    """Quality of the speech itself on P.835's scale, as DNSMOS predicts it (Reddy et al. 2022)."""
    return mean_of("dnsmos_signal")(table)


@metric(unit="MOS", higher_is_better=True, rows=having("dnsmos_background"), limits=MOS, failure=None, tasks=("tts",))
def dnsmos_background(table: ScoreTable) -> Draft:
    """How little the background intrudes on P.835's scale, as DNSMOS predicts it (Reddy et al. 2022)."""
    return mean_of("dnsmos_background")(table)


@metric(unit="MOS", higher_is_better=True, rows=having("dnsmos_p808"), limits=MOS, failure=None, tasks=("tts",))
def dnsmos_p808(table: ScoreTable) -> Draft:
    """Overall quality on P.808's scale, as the first DNSMOS predicts it (Reddy et al. 2021); it hears a missing treble."""
    return mean_of("dnsmos_p808")(table)


@metric(unit="MOS", higher_is_better=True, rows=having("plcmos"), limits=MOS, failure=None, tasks=("tts",))
def plcmos(table: ScoreTable) -> Draft:
    """Quality of speech that may have breaks in it, as PLCMOS predicts listeners' votes (Diener et al. 2023).

    It was trained on lost packets and what was put in their place, and hears clipping, to which DNSMOS overall is deaf.
    """
    return mean_of("plcmos")(table)


@metric(unit="ratio", higher_is_better=False, limits=(0.0, 1.0), tasks=("tts",))
def silent_share(table: ScoreTable) -> Draft:
    """Share of prompts answered without any speech: no audio, or none that ITU-T P.56 finds active."""
    with_speech = table.measured("active_speech_s") > 0
    return ratio(silent=~with_speech, recordings=np.ones(len(table)))


@metric(unit="ratio", higher_is_better=False, rows=having("clipped_share"), limits=(0.0, 1.0), failure=None, tasks=("tts",))
def clipped_share(table: ScoreTable) -> Draft:
    """Share of the time that is clipped: 3 or more samples in a row at the recording's highest or lowest level."""
    duration_s = table.measured("duration_s")
    return ratio(clipped_s=table.measured("clipped_share") * duration_s, audio_s=duration_s)


@metric(unit="ratio", higher_is_better=False, rows=having("dc_offset"), limits=(0.0, 1.0), failure=None, tasks=("tts",))
def dc_offset(table: ScoreTable) -> Draft:
    """Mean distance of a recording's mean from zero, full scale being 1."""
    return mean_of("dc_offset")(table)


@metric(unit="Hz", higher_is_better=True, rows=having("bandwidth_hz"), failure=None, tasks=("tts",))
def bandwidth(table: ScoreTable) -> Draft:
    """Mean frequency below which 99.9% of the power lies (spectral roll-off); noise raises it too."""
    return mean_of("bandwidth_hz")(table)


@metric(unit="s", higher_is_better=False, rows=having("leading_silence_s"), failure=None, tasks=("tts",))
def leading_silence(table: ScoreTable) -> Draft:
    """Mean silence before the speech: what a listener waits after the first audio. Silence as in ITU-T P.56."""
    return mean_of("leading_silence_s")(table)


@metric(unit="s", higher_is_better=False, rows=having("trailing_silence_s"), failure=None, tasks=("tts",))
def trailing_silence(table: ScoreTable) -> Draft:
    """Mean silence after the speech; a voice that does not find its end runs on. Silence as in ITU-T P.56."""
    return mean_of("trailing_silence_s")(table)


@metric(unit="s", higher_is_better=False, rows=having("longest_pause_s"), failure=None, tasks=("tts",))
def longest_pause(table: ScoreTable) -> Draft:
    """Mean of the longest silence within the speech of a recording. Silence as in ITU-T P.56."""
    return mean_of("longest_pause_s")(table)


@metric(unit="semitones", higher_is_better=True, rows=having("pitch_range_semitones"), failure=None, tasks=("tts",))
def pitch_range(table: ScoreTable) -> Draft:
    """Mean range of the pitch, 5th to 95th percentile (Hirst 2011); a fall is a voice gone monotonous.

    A rise is not proof of better prosody: compare a voice with itself or its like.
    """
    return mean_of("pitch_range_semitones")(table)


@metric(unit="LU", higher_is_better=False, rows=having("loudness_lufs"), failure=None, tasks=("tts",))
def loudness_spread(table: ScoreTable) -> Draft:
    """Standard deviation of the loudness over prompts (ITU-R BS.1770): a voice should not be loud here and faint there."""
    return _spread(table.measured("loudness_lufs"))


@metric(unit="ratio", higher_is_better=False, rows=having("seconds_per_character"), failure=None, tasks=("tts",))
def duration_spread(table: ScoreTable) -> Draft:
    """Standard deviation over prompts of ln(seconds per character): about the relative spread of pace.

    A recording of half or twice the length that its text needs lies 0.69 off the rest: an early stop, a loop, or
    silence without end.
    """
    return _spread(np.log(table.measured("seconds_per_character")))


@metric(unit="ratio", higher_is_better=True, rows=having("stoi"), limits=(-1.0, 1.0), failure=None, tasks=("tts",))
def stoi(table: ScoreTable) -> Draft:
    """Mean short-time objective intelligibility against the undisturbed signal, where there is one (Taal et al. 2011)."""
    return mean_of("stoi")(table)


@metric(
    unit="ratio", higher_is_better=True, rows=having("speaker_similarity"), limits=(0.0, 1.0), failure=None, tasks=("tts",)
)
def speaker_similarity(table: ScoreTable) -> Draft:
    """Mean likeness to the speaker of the prompt's reference, where there is one: cosine of embeddings (Wan et al. 2018)."""
    return mean_of("speaker_similarity")(table)


def _spread(values: FloatArray) -> Draft:
    return function_of_sums(_standard_deviation, sum=values, squares=values**2, recordings=np.ones(len(values)))


def _standard_deviation(sums: FloatArray) -> FloatArray:
    total, squares, n = sums[..., 0], sums[..., 1], np.where(sums[..., 2] > 0, sums[..., 2], np.nan)
    # Rounding can leave a variance of nothing a hair below zero.
    return np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
