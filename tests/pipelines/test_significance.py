"""MAPSSWE on the lab's own alignments: the slots say where each system erred."""

from __future__ import annotations

import pytest

from pipelines.significance import error_slots, significance_tests
from tests.pipelines.factories import make_score


@pytest.mark.parametrize(
    ("reference", "hypothesis", "slots"),
    [
        ("a b c", "a b c", [0, 0, 0, 0, 0, 0, 0]),
        ("a b c", "a x c", [0, 0, 0, 1, 0, 0, 0]),
        ("a b c", "a c", [0, 0, 0, 1, 0, 0, 0]),
        ("a b c", "x y a b c", [2, 0, 0, 0, 0, 0, 0]),
        ("a b c", "a b c x", [0, 0, 0, 0, 0, 0, 1]),
        ("a b", "", [0, 1, 0, 1, 0]),
        ("a b", "a x b", [0, 0, 1, 0, 0]),
    ],
)
def test_slots(reference: str, hypothesis: str, slots: list[int]) -> None:
    assert error_slots(make_score(reference, hypothesis)).counts.tolist() == slots


def test_the_test_counts_what_the_alignment_counts() -> None:
    ours = [make_score("a b c d e f g h", "a b x d e f y h", id="1"), make_score("a b c", "a b c", id="2")]
    theirs = [make_score("a b c d e f g h", "a b c d e f g h", id="1"), make_score("a b c", "a z c", id="2")]
    tests = {test.test: test for test in significance_tests(ours, theirs)}
    segments = tests["MAPSSWE"]
    # c and g are parted by three words that both have right: two segments, and one more in the second utterance.
    assert (segments.n, segments.candidate_errors, segments.baseline_errors) == (3, 2, 1)
    assert tests["matched utterances"].n == 2


def test_non_speech_takes_no_part_and_nothing_gives_nothing() -> None:
    noise = make_score("", "you", id="1")
    assert significance_tests([noise], [noise]) == ()
    assert significance_tests([], []) == ()


def test_without_errors_there_is_nothing_to_test() -> None:
    scores = [make_score("a b c", "a b c", id=str(i)) for i in range(5)]
    assert significance_tests(scores, scores) == ()


def test_equal_models_do_not_differ() -> None:
    scores = [make_score("a b c", "a x c", id=str(i)) for i in range(5)]
    for test in significance_tests(scores, scores):
        assert (test.mean, test.z, test.p_value) == (0.0, 0.0, 1.0)
