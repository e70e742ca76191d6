"""Calibrated confidence: is a word with probability 0.9 right nine times in ten, and a map that makes it so.

Everything here starts from the engine's own word probabilities, compared with whether the alignment found the word
right. Where an engine gives none, there is nothing, and nothing is made up. Deleted words have no probability, so
confidence says how far to trust what was written, never how much was missed.

Expected calibration error: Guo et al. 2017, "On Calibration of Modern Neural Networks", with bins of equal mass
(Nixon et al. 2019), since most words of a good model share one bin of equal width. The map: isotonic regression
(Zadrozny & Elkan 2002), fitted on other speakers than those it is judged on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.calibration_map import CalibrationMap
from models.types import Record
from pipelines.outcomes import WordOutcomes, word_outcomes
from pipelines.scores import BoolArray, FloatArray

__all__ = [
    "CalibrationMap",
    "CalibrationReport",
    "ReliabilityBin",
    "WordOutcomes",
    "calibration_report",
    "cross_fitted",
    "expected_calibration_error",
    "fit_map",
    "reliability_table",
    "wilson_interval",
    "word_outcomes",
]

DEFAULT_BINS = 15
DEFAULT_FOLDS = 5
MIN_WORDS = 100
"""Words below which no map is fitted: it would repeat the noise of a few."""


class ReliabilityBin(Record):
    """One bin of a reliability diagram."""

    count: int
    """Words in it."""
    mean_confidence: float
    """Mean of their probabilities."""
    accuracy: float
    """Share of them that is right."""
    ci_low: float
    """Lower end of Wilson's interval of the accuracy; words count as independent, which is optimistic."""
    ci_high: float
    """Upper end of it."""


class CalibrationReport(Record):
    """How far a model's confidence can be trusted, as it is and mapped."""

    words: int
    """Words it rests on; 0 where the engine gives no probabilities."""
    utterances: int
    """Utterances they come from."""
    skipped: int
    """Utterances left out, see `WordOutcomes.skipped`."""
    ece: float | None
    """Expected calibration error as the engine gives it; None without words."""
    ece_calibrated: float | None
    """The same after a map that was fitted on other speakers; None where that is not possible."""
    reliability: tuple[ReliabilityBin, ...]
    """As the engine gives it."""
    reliability_calibrated: tuple[ReliabilityBin, ...]
    """After a map that was fitted on other speakers."""
    map: CalibrationMap | None
    """Fitted on all words, for the service; None where there are too few."""
    note: str | None
    """Why something is None."""


def reliability_table(
    probability: FloatArray, correct: BoolArray, bins: int = DEFAULT_BINS, level: float = 0.95
) -> tuple[ReliabilityBin, ...]:
    """Bin words by probability, with about as many in each bin, and give the accuracy of each its interval.

    Args:
        probability: (m,) in [0, 1].
        correct: (m,).
        bins: At most so many. Words of equal probability are never parted, so there may be fewer.
        level: Of Wilson's (1927) interval.

    Returns:
        Bins by rising probability; none without words.
    """
    return tuple(
        ReliabilityBin(
            count=len(members),
            mean_confidence=float(probability[members].mean()),
            accuracy=float(correct[members].mean()),
            ci_low=low,
            ci_high=high,
        )
        for members in _equal_mass(probability, bins)
        for low, high in [wilson_interval(int(correct[members].sum()), len(members), level)]
    )


def _equal_mass(probability: FloatArray, bins: int) -> list[NDArray[np.int64]]:
    """Row numbers of each bin, (bins) lists."""
    order = np.argsort(probability, kind="stable")
    ordered = probability[order]
    wanted = (np.arange(1, bins) * len(order)) // bins
    if not len(order):
        return []
    # Words of one probability belong together: each cut moves to the nearer end of the ties it falls among.
    first, last = (np.searchsorted(ordered, ordered[wanted], side) for side in ("left", "right"))
    cuts = np.unique(np.where(wanted - first < last - wanted, first, last))
    return [members for members in np.split(order, cuts) if len(members)]


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Give a share its interval, which holds for few trials and near 0 and 1 (Wilson 1927); n is at least 1."""
    from scipy.special import ndtri

    assert n > 0
    z = float(ndtri((1.0 + level) / 2.0))
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


def expected_calibration_error(table: Sequence[ReliabilityBin]) -> float | None:
    """Mean distance between confidence and accuracy over words, from their bins; None without words."""
    total = sum(bin_.count for bin_ in table)
    if total == 0:
        return None
    return sum(bin_.count * abs(bin_.mean_confidence - bin_.accuracy) for bin_ in table) / total


def fit_map(probability: FloatArray, correct: BoolArray) -> CalibrationMap:
    """Fit the monotone map by isotonic regression (pool adjacent violators), kept as the corners of its steps.

    Args:
        probability: (m,) in [0, 1], m at least 1.
        correct: (m,).
    """
    from scipy.optimize import isotonic_regression  # 0.2 s to import, and who only draws a report fits nothing

    assert len(probability) > 0
    digest = hashlib.sha256(np.ascontiguousarray(probability).tobytes() + np.packbits(correct).tobytes()).hexdigest()
    x, where, weights = np.unique(probability, return_inverse=True, return_counts=True)
    shares = np.bincount(where, weights=correct.astype(np.float64)) / weights
    y = np.clip(np.maximum.accumulate(isotonic_regression(shares, weights=weights).x), 0.0, 1.0)
    # Within a step only its ends matter.
    inner = np.concatenate([[False], (y[1:-1] == y[:-2]) & (y[1:-1] == y[2:]), [False]]) if len(x) > 2 else x < 0
    return CalibrationMap(x=tuple(x[~inner].tolist()), y=tuple(y[~inner].tolist()), n=len(probability), fitted_on=digest)


def cross_fitted(outcomes: WordOutcomes, folds: int = DEFAULT_FOLDS, seed: int = 0) -> FloatArray | None:
    """Calibrate each word by a map fitted on other speakers, (m,); None with fewer than two speakers."""
    codes = np.unique(outcomes.block)
    if len(codes) < 2:
        return None
    shuffled = np.random.default_rng(seed).permutation(codes)
    calibrated = np.empty(len(outcomes))
    for part in np.array_split(shuffled, min(folds, len(codes))):
        held_out = np.isin(outcomes.block, part)
        fitted = fit_map(outcomes.probability[~held_out], outcomes.correct[~held_out])
        calibrated[held_out] = np.interp(outcomes.probability[held_out], fitted.x, fitted.y)
    return calibrated


def calibration_report(outcomes: WordOutcomes, bins: int = DEFAULT_BINS) -> CalibrationReport:
    """Judge a model's confidence, and fit the map that a service can apply.

    The calibrated error is that of maps fitted on other speakers; judged on its own data a map would look
    perfect. Without words every value is None, and the note says so.
    """
    table = reliability_table(outcomes.probability, outcomes.correct, bins)
    report = CalibrationReport(
        words=len(outcomes),
        utterances=outcomes.utterances,
        skipped=outcomes.skipped,
        ece=expected_calibration_error(table),
        ece_calibrated=None,
        reliability=table,
        reliability_calibrated=(),
        map=None,
        note=None,
    )
    if len(outcomes) == 0:
        return report.model_copy(update={"note": "the engine gave no word probabilities that could be used"})
    if len(outcomes) < MIN_WORDS:
        return report.model_copy(update={"note": f"{len(outcomes)} words: no map is fitted below {MIN_WORDS}"})
    fitted = fit_map(outcomes.probability, outcomes.correct)
    calibrated = cross_fitted(outcomes)
    if calibrated is None:
        note = "1 speaker: how the map does on other speakers cannot be seen"
        return report.model_copy(update={"map": fitted, "note": note})
    after = reliability_table(calibrated, outcomes.correct, bins)
    return report.model_copy(
        update={
            "map": fitted,
            "ece_calibrated": expected_calibration_error(after),
            "reliability_calibrated": after,
        }
    )
