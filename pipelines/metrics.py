"""Error rates and speed, and the register of all metrics.

An empty reference enters no error rate: there is nothing to divide by. What a model writes there is judged by the
metrics of invented words (`pipelines.harms`). See docs/metrics.md.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from models.errors import CorpusError, unknown_name
from models.types import Task
from pipelines import harms as _harms  # noqa: F401 - registers its metrics
from pipelines import speech_metrics as _speech_metrics  # noqa: F401
from pipelines.measure import (
    REGISTRY,
    Draft,
    Measurement,
    Metric,
    Quantile,
    ScoringNothing,
    Sums,
    evaluate_metric,
    fresh,
    function_of_sums,
    metric,
    quantile,
    ratio,
)
from pipelines.scores import BoolArray, FloatArray, ScoreTable
from pipelines.variants import VariantNotes, variant_notes

__all__ = [
    "METRICS",
    "Measurement",
    "Metric",
    "Quantile",
    "ScoringNothing",
    "Sums",
    "evaluate_metric",
    "find_metric",
    "metric",
]

SHARE = (0.0, 1.0)
"""Range of a share."""
BOTH: tuple[Task, ...] = ("asr", "tts")


@metric(unit="ratio", higher_is_better=False)
def wer(table: ScoreTable) -> Draft:
    """Word error rate: substitutions, deletions and insertions over reference words; above 1 is possible."""
    return ratio(
        errors=table.word_errors,
        reference_words=table.word_reference,
        substitutions=table.word_substitutions,
        deletions=table.word_deletions,
        insertions=table.word_insertions,
    )


@metric(unit="ratio", higher_is_better=False)
def cer(table: ScoreTable) -> Draft:
    """Character error rate: errors over reference characters, the space between words being one."""
    return ratio(errors=table.char_errors, reference_characters=table.char_reference)


@metric(unit="ratio", higher_is_better=False, tasks=("tts",))
def roundtrip_wer(table: ScoreTable) -> Draft:
    """Word error rate of what the reference recogniser heard in the synthesis, against what should be said.

    It holds the recogniser's own errors too: two voices are compared by the same recogniser, which the fingerprint names.
    """
    return wer.compute(table)


@metric(unit="ratio", higher_is_better=False, tasks=("tts",))
def roundtrip_cer(table: ScoreTable) -> Draft:
    """Character error rate of what the reference recogniser heard in the synthesis; see `roundtrip_wer`."""
    return cer.compute(table)


@metric(unit="ratio", higher_is_better=False, limits=SHARE)
def mer(table: ScoreTable) -> Draft:
    """Match error rate: errors over aligned pairs (hits and errors), so at most 1 (Morris, Maier & Green 2004)."""
    return ratio(errors=table.word_errors, pairs=table.word_hits + table.word_errors)


def _information_lost(sums: FloatArray) -> FloatArray:
    hits, reference, hypothesis = sums[..., 0], sums[..., 1], sums[..., 2]
    # Nothing written while something was said loses everything; nothing said has no information to lose.
    preserved = np.where(hypothesis > 0, hits**2 / np.where(hypothesis > 0, reference * hypothesis, 1.0), 0.0)
    return np.where(reference > 0, 1.0 - preserved, np.nan)


@metric(unit="ratio", higher_is_better=False, limits=SHARE)
def wil(table: ScoreTable) -> Draft:
    """Word information lost: 1 - H² / (N · P), hits over reference and over hypothesis words (Morris et al. 2004)."""
    return function_of_sums(
        _information_lost,
        hits=table.word_hits,
        reference_words=table.word_reference,
        hypothesis_words=table.word_hypothesis,
    )


@metric(unit="ratio", higher_is_better=False, limits=SHARE)
def sentence_error_rate(table: ScoreTable) -> Draft:
    """Share of utterances with at least one word error."""
    return ratio(wrong=table.word_errors > 0, utterances=_ones(table))


@metric(unit="ratio", higher_is_better=False, limits=SHARE)
def substitution_rate(table: ScoreTable) -> Draft:
    """Words written wrong over reference words: a part of the word error rate."""
    return ratio(substitutions=table.word_substitutions, reference_words=table.word_reference)


@metric(unit="ratio", higher_is_better=False, limits=SHARE)
def deletion_rate(table: ScoreTable) -> Draft:
    """Words left out over reference words: a part of the word error rate."""
    return ratio(deletions=table.word_deletions, reference_words=table.word_reference)


@metric(unit="ratio", higher_is_better=False)
def insertion_rate(table: ScoreTable) -> Draft:
    """Words added over reference words: a part of the word error rate."""
    return ratio(insertions=table.word_insertions, reference_words=table.word_reference)


@metric(unit="ratio", higher_is_better=False)
def wer_variants_forgiven(table: ScoreTable) -> Draft:
    """Word error rate if compound and number variants counted as right ("fire fox", "1455"); beside `wer`, not for it.

    The difference to `wer` is what spelling conventions cost, and what another normalizer might settle.
    """
    clean = VariantNotes()
    notes = [
        variant_notes(
            score.normalized_reference.split(), score.normalized_hypothesis.split(), score.alignment, score.language
        )
        if score.words.errors and score.is_speech
        else clean
        for score in table.scores
    ]
    forgiven = np.array([note.forgiven_errors for note in notes], dtype=np.float64)
    return ratio(
        errors=table.word_errors - forgiven,
        reference_words=table.word_reference,
        compound_variants=np.array([note.count("compound") for note in notes], dtype=np.float64),
        number_variants=np.array([note.count("number") for note in notes], dtype=np.float64),
    )


@metric(unit="ratio", higher_is_better=False, rows=fresh, failure=None, tasks=BOTH)
def rtf(table: ScoreTable) -> Draft:
    """Real-time factor: seconds of inference over seconds of audio, of predictions computed in this run only."""
    return ratio(inference_s=table.inference_s, audio_s=table.audio_s)


@metric(unit="s", higher_is_better=False, rows=fresh, failure=None, tasks=BOTH)
def latency_p50(table: ScoreTable) -> Draft:
    """Median time of one inference, of predictions computed in this run only."""
    return quantile(table.inference_s, TIMED_QUANTILES["latency_p50"])


@metric(unit="s", higher_is_better=False, rows=fresh, failure=None, tasks=BOTH)
def latency_p95(table: ScoreTable) -> Draft:
    """95th percentile of the time of one inference, of predictions computed in this run only."""
    return quantile(table.inference_s, TIMED_QUANTILES["latency_p95"])


def _spoken_now(table: ScoreTable) -> BoolArray:
    return np.isfinite(table.first_audio_s)


@metric(unit="s", higher_is_better=False, rows=_spoken_now, failure=None, tasks=("tts",))
def first_audio_p50(table: ScoreTable) -> Draft:
    """Median time until the first audio of a synthesis is there; the whole synthesis where an engine does not stream."""
    return quantile(table.first_audio_s, TIMED_QUANTILES["first_audio_p50"])


METRICS = MappingProxyType(REGISTRY)
"""All metrics by name."""

TIMED_QUANTILES = MappingProxyType({"latency_p50": 0.50, "latency_p95": 0.95, "first_audio_p50": 0.50})
"""Metrics of fresh inference that are quantiles, and which."""

TIMED = ("rtf", *TIMED_QUANTILES)
"""Metrics of fresh inference."""

MACHINE_METRICS = ("load_time", "peak_memory")
"""Metrics of the process rather than of utterances; `pipelines.evaluate` measures them."""


def metrics_of(task: Task) -> dict[str, Metric]:
    """The metrics of one task's evaluations, by name."""
    return {name: metric for name, metric in METRICS.items() if task in metric.tasks}


def find_metric(name: str) -> Metric:
    """Find a metric by its name.

    Raises:
        CorpusError: When there is none of that name; the message lists what there is.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise CorpusError(*unknown_name("metric", name, METRICS)) from None


def _ones(table: ScoreTable) -> FloatArray:
    return np.ones(len(table))
