import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.stats.matched_pairs import ErrorSlots, mapsswe, utterance_pairs


def utterance(text):
    """Write an utterance as its words (``.`` right, ``x`` wrong) with ``+`` for an inserted word."""
    wrong, insertions = [], [0]
    for mark in text:
        if mark == "+":
            insertions[-1] += 1
        else:
            wrong.append(mark == "x")
            insertions.append(0)
    return ErrorSlots.of(wrong, insertions)


@pytest.mark.parametrize(
    ("a", "b", "differences"),
    [
        ("....", "....", []),
        ("x...", "....", [1]),
        ("...x", "....", [1]),
        ("x..x", "....", [1, 1]),  # two right words part segments
        ("x.x.", "....", [2]),  # one does not
        ("x..x", ".x..", [1]),  # right in one system only is not right
        ("x..x", "..x.", [1]),
        ("x....", "...x.", [1, -1]),
        ("x.+.x", "....", [3]),  # an insertion breaks the run of right words
        ("x..+.", "....", [1, 1]),  # and starts a segment of its own after two of them
        ("....++", "....", [2]),
        ("++....", "....", [2]),
        ("++....", "....+", [2, -1]),
        ("++", "", [2]),  # an empty reference
        ("", "", []),
        ("xxxx", "xxxx", [0]),  # errors in both are a segment though they cancel
    ],
)
def test_segments(a, b, differences):
    result = mapsswe([utterance(a)], [utterance(b)])
    assert result.segments == len(differences)
    assert result.mean * result.segments == pytest.approx(sum(differences))
    if len(differences) > 1:
        assert result.variance == pytest.approx(np.var(differences, ddof=1))


@pytest.mark.parametrize(("min_good", "segments"), [(1, 3), (2, 2), (3, 1)])
def test_more_right_words_between_make_fewer_segments(min_good, segments):
    assert mapsswe([utterance("x.x..x...")], [utterance("." * 9)], min_good=min_good).segments == segments


def test_segments_never_join_utterances():
    assert mapsswe([utterance(".x"), utterance("x.")], [utterance(".."), utterance("..")]).segments == 2


def test_z_and_p_by_hand():
    # Differences 1, 1, 0, 2: mean 1, variance 2/3, Z = 1 / sqrt(2/3/4), two-tailed normal.
    a = [utterance(text) for text in ("x", "x", "x", "xx")]
    b = [utterance(text) for text in (".", ".", "x", "..")]
    result = mapsswe(a, b)
    assert (result.errors_a, result.errors_b) == (5, 1)
    assert result.mean == 1
    assert result.variance == pytest.approx(2 / 3)
    assert result.z == pytest.approx(2.449490, abs=1e-6)
    assert result.p_value == pytest.approx(0.014306, abs=1e-6)


def test_whole_utterances_count_also_without_errors():
    a, b = [utterance("x"), utterance(".")], [utterance("."), utterance(".")]
    assert utterance_pairs(a, b).segments == 2
    assert utterance_pairs(a, b).mean == 0.5
    assert mapsswe(a, b).segments == 1


@pytest.mark.parametrize("test", [mapsswe, utterance_pairs])
def test_nothing_to_compare_is_no_difference(test):
    for a, b in (([], []), ([utterance("...")], [utterance("...")])):
        assert (test(a, b).z, test(a, b).p_value, test(a, b).mean) == (0, 1, 0)


def test_different_references_are_refused():
    with pytest.raises(ValueError, match="Utterance 1: expected the same reference, found 2 and 3 words"):
        mapsswe([utterance("."), utterance("..")], [utterance("."), utterance("...")])
    with pytest.raises(ValueError, match="same utterances twice, found 1 and 0"):
        mapsswe([utterance(".")], [])
    with pytest.raises(ValueError, match="Expected 3 insertion slots for 2 words, found 1"):
        ErrorSlots.of([True, False], [0])


texts = st.lists(st.tuples(st.text(".x+", max_size=12), st.text("+", max_size=2)), max_size=6)


@given(texts, st.randoms())
def test_swapping_systems_flips_the_sign_and_segments_keep_every_error(pairs, random):
    a = [utterance(text) for text, _ in pairs]
    # The other system: same reference words, another pattern of errors.
    marks = ["".join(random.choice(".x") for mark in text if mark != "+") + extra for text, extra in pairs]
    b = [utterance(mark) for mark in marks]
    one, other = mapsswe(a, b), mapsswe(b, a)
    assert one.segments == other.segments
    assert one.z == pytest.approx(-other.z)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.mean * one.segments == pytest.approx(one.errors_a - one.errors_b)
    assert one.errors_a == sum(text.count("x") + text.count("+") for text, _ in pairs)
