import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.calibration import (
    CalibrationMap,
    WordOutcomes,
    calibration_report,
    cross_fitted,
    expected_calibration_error,
    fit_map,
    reliability_table,
    wilson_interval,
    word_outcomes,
)
from tests.pipelines.factories import make_score, make_transcript


def simulated(words: int = 6000, speakers: int = 20, seed: int = 0) -> WordOutcomes:
    """An overconfident model: a word of probability p is right with p squared."""
    rng = np.random.default_rng(seed)
    probability = rng.uniform(0.2, 1.0, words)
    correct = rng.uniform(size=words) < probability**2
    return WordOutcomes(probability, correct, rng.integers(0, speakers, words), utterances=500, skipped=3)


def outcomes(hypothesis: str, probabilities: list[float | None], reference: str, normalizer: str = "basic") -> WordOutcomes:
    score = make_score(reference, hypothesis, normalizer=normalizer)
    return word_outcomes([score], [make_transcript(hypothesis, probabilities)], np.array([0]))


def test_a_word_is_right_where_the_alignment_says_so() -> None:
    found = outcomes("The cat, sat up!", [0.9, 0.8, 0.7, 0.6], "the bat sat")
    assert found.probability.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert found.correct.tolist() == [True, False, True, False]
    assert (found.utterances, found.skipped) == (1, 0)


def test_a_word_that_becomes_several_shares_its_probability() -> None:
    found = outcomes("I can't, um, go", [0.9, 0.5, 0.3, 0.8], "i can go", "whisper-english")
    assert found.probability.tolist() == [0.9, 0.5, 0.5, 0.8]
    assert found.correct.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("hypothesis", "probabilities", "normalizer"),
    [
        ("three one one", [0.9, 0.9, 0.9], "whisper-english"),  # "311" is no word's form
        ("a b", [0.9, None], "basic"),  # a word without a probability
        ("a b", [], "basic"),  # an engine without word probabilities
    ],
)
def test_utterances_that_cannot_be_matched_are_counted_as_skipped(
    hypothesis: str, probabilities: list[float | None], normalizer: str
) -> None:
    found = outcomes(hypothesis, probabilities, "a b", normalizer)
    assert (len(found), found.utterances, found.skipped) == (0, 0, 1)


def test_an_empty_answer_is_neither_used_nor_skipped() -> None:
    found = outcomes("", [], "a b")
    assert (len(found), found.skipped) == (0, 0)


def test_words_invented_on_non_speech_are_wrong() -> None:
    assert outcomes("thank you", [0.9, 0.8], "").correct.tolist() == [False, False]


def test_bins_have_equal_mass_and_part_no_ties() -> None:
    table = reliability_table(np.linspace(0, 1, 100), np.ones(100, dtype=np.bool_), bins=4)
    assert [bin_.count for bin_ in table] == [25, 25, 25, 25]
    ties = reliability_table(np.array([0.5] * 90 + [0.9] * 10), np.ones(100, dtype=np.bool_), bins=4)
    assert [bin_.count for bin_ in ties] == [90, 10]


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.9] * 10 + [0.6] * 10)
    correct = np.array([True] * 7 + [False] * 3 + [True] * 6 + [False] * 4)
    table = reliability_table(probability, correct, bins=2)
    assert [(round(b.mean_confidence, 6), b.accuracy) for b in table] == [(0.6, 0.6), (0.9, 0.7)]
    assert expected_calibration_error(table) == pytest.approx(0.1)


def test_wilson_interval_of_the_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_an_overconfident_model_is_found_and_mended_on_other_speakers() -> None:
    report = calibration_report(simulated())
    assert report.ece is not None
    assert report.ece > 0.12
    assert report.ece_calibrated is not None
    assert report.ece_calibrated < 0.03
    assert report.map is not None
    assert report.map.apply(0.7) == pytest.approx(0.49, abs=0.06)
    assert (report.words, report.utterances, report.skipped, report.note) == (6000, 500, 3, None)


def test_a_calibrated_word_never_saw_its_own_speaker() -> None:
    # Each speaker's words are all right or all wrong, at random: nothing learnt from others can help.
    rng = np.random.default_rng(1)
    block = np.repeat(np.arange(40), 25)
    correct = np.repeat(rng.integers(0, 2, 40).astype(np.bool_), 25)
    probability = np.repeat(rng.uniform(size=40), 25)
    calibrated = cross_fitted(WordOutcomes(probability, correct, block, 40, 0))
    assert calibrated is not None
    own = fit_map(probability, correct)
    fitted = np.array([own.apply(p) for p in probability])
    assert np.mean((calibrated - correct) ** 2) > np.mean((fitted - correct) ** 2)


def test_without_words_everything_is_none_and_says_so() -> None:
    report = calibration_report(outcomes("", [], "a b"))
    assert (report.words, report.ece, report.ece_calibrated, report.map) == (0, None, None, None)
    assert report.reliability == ()
    assert report.note == "the engine gave no word probabilities that could be used"


def test_few_words_are_described_but_not_mapped() -> None:
    report = calibration_report(simulated(words=50))
    assert report.ece is not None
    assert report.map is None
    assert report.note == "50 words: no map is fitted below 100"


def test_one_speaker_gives_a_map_but_no_claim_about_others() -> None:
    report = calibration_report(simulated(words=500, speakers=1))
    assert report.map is not None
    assert report.ece_calibrated is None
    assert report.note is not None


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60))
def test_a_map_never_falls_stays_in_range_and_survives_json(words: list[tuple[float, bool]]) -> None:
    fitted = fit_map(np.array([p for p, _ in words]), np.array([c for _, c in words]))
    values = [fitted.apply(p) for p in np.linspace(0, 1, 101)]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert all(0.0 <= v <= 1.0 for v in values)
    assert CalibrationMap.model_validate_json(fitted.model_dump_json()) == fitted
    assert values == pytest.approx(np.interp(np.linspace(0, 1, 101), fitted.x, fitted.y).tolist())


def test_a_fitted_map_preserves_the_share_of_right_words() -> None:
    found = simulated(words=2000)
    fitted = fit_map(found.probability, found.correct)
    assert np.mean([fitted.apply(p) for p in found.probability]) == pytest.approx(found.correct.mean(), abs=1e-9)


def test_the_digest_says_what_a_map_was_fitted_on() -> None:
    one, other = simulated(words=200), simulated(words=200, seed=1)
    assert fit_map(one.probability, one.correct).fitted_on == fit_map(one.probability, one.correct).fitted_on
    assert fit_map(one.probability, one.correct).fitted_on != fit_map(other.probability, other.correct).fitted_on


@pytest.mark.parametrize(
    ("x", "y"), [((0.5, 0.4), (0.1, 0.2)), ((0.4, 0.5), (0.2, 0.1)), ((0.1,), (0.1, 0.2)), ((), ()), ((0.1,), (1.5,))]
)
def test_a_map_that_is_none_is_refused(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        CalibrationMap(x=x, y=y, n=1, fitted_on="")
