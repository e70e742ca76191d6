import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.harms import has_repetition_loop, longest_runs, stopped_early
from pipelines.metrics import evaluate_metric, find_metric
from tests.pipelines.factories import make_score, make_table

LETTERS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "loops"),
    [
        ("a", "no no no no", True),
        ("a", "no no no", False),
        ("no no no no", "no no no no", False),
        ("no no no no", "no no no no no", False),
        ("no no no no", "no no no no no no no no", True),
        ("", "thank you thank you thank you thank you", True),
        ("i am here", "i am here i am here i am here i am here", True),
        ("a", "one two three four five six " * 4, True),
        ("a", "one two three four five six seven " * 4, False),
        ("a", "we went home we stayed home we slept home we", False),
        ("a", "", False),
        ("three three three three one", "three three three three one", False),
    ],
)
def test_repetition_loops(reference: str, hypothesis: str, loops: bool) -> None:
    assert has_repetition_loop(reference.split(), hypothesis.split()) is loops


def test_runs_are_counted_in_whole_phrases() -> None:
    assert longest_runs(["a", "b", "a", "b", "a", "c"]) == {("a", "b"): 2, ("b", "a"): 2}
    assert longest_runs(["x", "x", "x", "y"]) == {("x",): 3}


@given(st.lists(st.sampled_from("ab"), max_size=16))
def test_runs_are_those_of_a_search_by_hand(words: list[str]) -> None:
    for phrase, repeats in longest_runs(words).items():
        text, wanted = " ".join(words) + " ", " ".join(phrase) + " "
        assert wanted * repeats in text
        assert wanted * (repeats + 1) not in text


@given(st.lists(st.sampled_from("ab"), max_size=20))
def test_who_repeats_what_was_said_does_not_loop(words: list[str]) -> None:
    assert not has_repetition_loop(words, words)


@pytest.mark.parametrize(
    ("kept", "of", "stopped"),
    [(20, 20, False), (15, 20, False), (14, 20, True), (0, 20, True), (5, 10, True), (6, 10, False), (0, 5, True)],
)
def test_early_stops(kept: int, of: int, stopped: bool) -> None:
    score = make_score(" ".join(LETTERS[:of]), " ".join(LETTERS[:kept]))
    assert stopped_early(score) is stopped


@pytest.mark.parametrize(
    ("hypothesis", "stopped"),
    [
        (LETTERS[10:], False),  # the beginning is missing, not the end
        (LETTERS[:3] + LETTERS[13:], False),  # the middle is missing
        ([*LETTERS[:8], "t"], True),  # a word paired by chance with the last
        ([*LETTERS[:10], *("x" * 10)], False),  # the end is wrong, not missing
    ],
)
def test_what_is_no_early_stop(hypothesis: list[str], stopped: bool) -> None:
    assert stopped_early(make_score(" ".join(LETTERS), " ".join(hypothesis))) is stopped


def test_shares_are_of_the_utterances_they_are_about() -> None:
    table = make_table(
        ("a b c d e f", "a b"),
        ("a b c d e f", "a b c d e f g h i j k l m"),
        ("a b c d e f", "a b c d e f"),
        ("a", "no no no no"),  # too short for a ratio of lengths, long enough to loop
        ("", "no no no no"),  # not speech
    )
    lengths = evaluate_metric(find_metric("length_ratio_outliers"), table)
    assert lengths.value == pytest.approx(2 / 3)
    assert lengths.n == 3
    assert (lengths.counts["too_long"], lengths.counts["too_short"]) == (1.0, 1.0)
    loops = evaluate_metric(find_metric("repetition_share"), table)
    assert (loops.value, loops.n) == (0.25, 4)
    stops = evaluate_metric(
        find_metric("early_stop_share"), make_table((" ".join(LETTERS), "a b"), ("a b c d e", "a b c d e"))
    )
    assert (stops.value, stops.n) == (0.5, 2)
