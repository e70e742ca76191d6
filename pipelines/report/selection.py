"""Which recordings, prompts and slices a page shows, and in which order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.report.measures import MOS
from pipelines.scores import UtteranceScore
from pipelines.types import Evaluation, MetricResult

HEADLINE_METRICS = ("wer", "roundtrip_wer", "cer", "mos", "utmos", "bleu", "chrf")
"""The metric a page opens with: the first of these that was measured."""

SECOND_HEADLINES = ("dnsmos_overall",)
"""Metrics that stand beside it: a voice that is understood may still be no pleasure to hear."""

SHOWN_RECORDINGS = 12
"""Recordings, or prompts, with alignment and player on one page."""


def headline_metric(evaluation: Evaluation) -> str | None:
    """Name the metric a page opens with; None when the evaluation has no metrics at all."""
    known = [name for name in HEADLINE_METRICS if name in evaluation.metrics]
    return next(iter([*known, *evaluation.metrics]), None)


def headline_metrics(evaluation: Evaluation) -> list[str]:
    """Name all metrics that a page opens with."""
    first = headline_metric(evaluation)
    return [*([first] if first else []), *(name for name in SECOND_HEADLINES if name in evaluation.metrics)]


def word_error_rate(score: UtteranceScore) -> float | None:
    """Errors over reference words of one utterance; None for non-speech."""
    return score.words.errors / score.words.reference_length if score.is_speech else None


def slice_scores(scores: Iterable[UtteranceScore], name: str) -> list[UtteranceScore]:
    """Select the utterances of a ``key=value`` slice."""
    key, _, value = name.partition("=")
    return [score for score in scores if score.facets.get(key) == value]


def worst_recordings(scores: Sequence[UtteranceScore], limit: int = SHOWN_RECORDINGS) -> list[UtteranceScore]:
    """Rank speech recordings with errors by errors, then by word error rate, then by id."""
    wrong = [score for score in scores if score.is_speech and score.words.errors]
    return sorted(wrong, key=lambda s: (-s.words.errors, -(word_error_rate(s) or 0.0), s.id))[:limit]


def worst_prompts(scores: Sequence[UtteranceScore], limit: int = SHOWN_RECORDINGS) -> list[UtteranceScore]:
    """Rank prompts with words by errors, then by word error rate, then by predicted quality, the unmeasured last.

    Those without an error are there, too: what the recogniser understands may still sound bad.
    """
    spoken = [score for score in scores if score.is_speech]
    return sorted(
        spoken, key=lambda s: (-s.words.errors, -(word_error_rate(s) or 0.0), s.measures.get(MOS, math.inf), s.id)
    )[:limit]


def invented_words(scores: Sequence[UtteranceScore]) -> list[UtteranceScore]:
    """List the non-speech recordings on which words were heard, the most words first."""
    invented = [score for score in scores if not score.is_speech and score.words.insertions]
    return sorted(invented, key=lambda s: (-s.words.insertions, s.id))


@dataclass(frozen=True, slots=True)
class ScorePair:
    """One recording, as the candidate and as the baseline heard it."""

    candidate: UtteranceScore
    baseline: UtteranceScore

    @property
    def errors_delta(self) -> int:
        """Errors of the candidate minus those of the baseline."""
        return self.candidate.words.errors - self.baseline.words.errors

    @property
    def rate_delta(self) -> float:
        """Difference of the word error rates; on non-speech, of the invented words."""
        candidate, baseline = word_error_rate(self.candidate), word_error_rate(self.baseline)
        return float(self.errors_delta) if candidate is None or baseline is None else candidate - baseline

    @property
    def mos_delta(self) -> float | None:
        """Difference of the predicted quality of two syntheses; None where one was not measured."""
        ours, theirs = self.candidate.measures.get(MOS), self.baseline.measures.get(MOS)
        return None if ours is None or theirs is None else ours - theirs


def paired(candidate: Sequence[UtteranceScore], baseline: Sequence[UtteranceScore]) -> list[ScorePair]:
    """Join two sets of scores on the utterance, in the candidate's order; what only one has is left out."""
    theirs = {score.id: score for score in baseline}
    return [ScorePair(score, theirs[score.id]) for score in candidate if score.id in theirs]


def most_different(pairs: Iterable[ScorePair], limit: int = SHOWN_RECORDINGS) -> list[ScorePair]:
    """Rank the recordings on which the two differ, by errors, then by rate, then by id."""
    different = [pair for pair in pairs if pair.errors_delta]
    return sorted(different, key=lambda p: (-abs(p.errors_delta), -abs(p.rate_delta), p.candidate.id))[:limit]


def most_different_prompts(pairs: Iterable[ScorePair], limit: int = SHOWN_RECORDINGS) -> list[ScorePair]:
    """Rank prompts by the difference in errors, then in rate, then in predicted quality; equals are left out.

    Nothing at all is further from a bad reading than any other one, though both may count the same errors.
    """

    def sounds_apart(pair: ScorePair) -> float:
        only_one_spoke = (pair.candidate.audio_s > 0) != (pair.baseline.audio_s > 0)
        return math.inf if only_one_spoke else abs(pair.mos_delta or 0.0)

    different = [pair for pair in pairs if pair.errors_delta or sounds_apart(pair)]
    return sorted(different, key=lambda p: (-abs(p.errors_delta), -abs(p.rate_delta), -sounds_apart(p), p.candidate.id))[
        :limit
    ]


@dataclass(frozen=True, slots=True)
class SliceGroup:
    """The slices of one key, the worst first where that can be told."""

    key: str
    names: tuple[str, ...]
    left_out: int
    """Slices beyond the limit."""


def slice_groups(slices: Mapping[str, Mapping[str, MetricResult]], metric: str, limit_per_key: int = 10) -> list[SliceGroup]:
    """Group slices that measured `metric` by key, ranked from worst to best; at most `limit_per_key` a key."""
    by_key: dict[str, list[tuple[float, str]]] = {}
    for name, metrics in slices.items():
        result = metrics.get(metric)
        if result is not None and result.value is not None:
            rank = result.value if result.higher_is_better else -result.value
            by_key.setdefault(name.partition("=")[0], []).append((rank, name))
    return [
        SliceGroup(key, tuple(name for _, name in sorted(ranked)[:limit_per_key]), max(0, len(ranked) - limit_per_key))
        for key, ranked in by_key.items()
    ]
