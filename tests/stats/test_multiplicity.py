import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.stats.multiplicity import holm


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # the same as R's p.adjust(p, "holm")
        ([0.04, 0.01], [0.04, 0.02]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
    ],
)
def test_adjusted(p, adjusted):
    result = holm(p)
    assert result.adjusted == pytest.approx(adjusted)
    assert result.rejected == tuple(value <= 0.05 for value in result.adjusted)
    assert result.hypotheses == len(p)


def test_a_comparison_that_could_not_be_made_is_no_harm_but_counts():
    result = holm([0.02, float("nan"), 0.5])
    assert result.adjusted[0] == pytest.approx(0.06)
    assert np.isnan(result.adjusted[1])
    assert result.rejected == (False, False, False)


def test_not_a_probability_is_refused():
    with pytest.raises(ValueError, match=r"between 0 and 1, found \[1.2\]"):
        holm([0.1, 1.2])


def test_fifty_harmless_slices_fail_falsely_at_most_as_often_as_the_level_says():
    p = np.random.default_rng(1).uniform(size=(4000, 50))
    false = np.mean([any(holm(row).rejected) for row in p])
    assert false <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 4000)
    assert false > 0.03
    assert np.mean([(row <= 0.05).any() for row in p]) > 0.9  # what it protects from


def test_slices_that_share_speakers_keep_the_level_too():
    rng = np.random.default_rng(2)
    shared = rng.standard_normal((4000, 1))
    p = stats.norm.sf(0.8 * shared + 0.6 * rng.standard_normal((4000, 20)))
    assert np.mean([any(holm(row).rejected) for row in p]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 4000)


@given(st.lists(st.floats(0, 1), max_size=20), st.randoms())
def test_adjusting_keeps_order_never_lowers_and_ignores_the_order_of_slices(p, random):
    adjusted = np.array(holm(p).adjusted)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, np.array(p) * max(len(p), 1)) + 1e-12).all()  # at least as strong as Bonferroni
    order = random.sample(range(len(p)), len(p))
    assert list(holm([p[i] for i in order]).adjusted) == [adjusted[i] for i in order]
    ranked = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[ranked]) >= 0).all()
