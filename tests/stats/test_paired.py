import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.stats.bootstrap import bootstrap_interval
from pipelines.stats.paired import paired_difference, paired_ratio


def wer(sums):
    return sums[..., 0] / sums[..., 1]


def pair(speakers=12, seed=0, delta=0.0, utterances=10):
    """Two systems' errors and words, sharing how hard each speaker is; words differ in count by utterance."""
    rng = np.random.default_rng(seed)
    n = speakers * utterances
    blocks = np.arange(n) // utterances
    words = rng.integers(5, 15, n).astype(float)
    rate = 0.15 * np.exp(0.8 * rng.standard_normal(speakers))[blocks]
    a, b = rng.poisson(words * (rate + delta)), rng.poisson(words * rate)
    return np.stack([a, words], 1).astype(float), np.stack([b, words], 1).astype(float), blocks


def test_the_difference_is_candidate_minus_baseline():
    a, b, blocks = pair(delta=0.05)
    result = paired_difference(a, b, blocks, wer)
    assert result.delta == pytest.approx(wer(a.sum(0)) - wer(b.sum(0)))
    assert result.low < result.delta < result.high
    assert (result.n, result.blocks, result.margin) == (120, 12, 0)


def test_what_a_hard_speaker_costs_both_cancels():
    a, b, blocks = pair(speakers=30)
    difference = paired_difference(a, b, blocks, wer)
    alone = bootstrap_interval(b, blocks, wer)
    assert difference.high - difference.low < 0.6 * (alone.high - alone.low)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("speakers", [4, 8, 40])
def test_p_values_turn_the_interval_round(speakers, seed):
    a, b, blocks = pair(speakers=speakers, seed=seed)
    first = paired_difference(a, b, blocks, wer)
    for side, margin in (("high", first.high), ("low", first.low)):
        for nudge, significant in ((1e-6, side == "high"), (-1e-6, side == "low")):
            result = paired_difference(a, b, blocks, wer, margin=margin + nudge)
            p = result.p_noninferior if side == "high" else result.p_harm
            assert p == pytest.approx(0.025, abs=0.002)
            assert (p < 0.0265) >= significant


def test_harm_and_benefit_are_told_apart():
    worse, base, blocks = pair(speakers=40, delta=0.05)
    harm = paired_difference(worse, base, blocks, wer, margin=0.01)
    assert harm.low > 0.01
    assert harm.p_harm < 0.01 < 0.9 < harm.p_noninferior
    benefit = paired_difference(base, worse, blocks, wer, margin=0.01)
    assert benefit.high < 0
    assert benefit.p_noninferior < 0.01 < 0.9 < benefit.p_harm


def test_the_number_of_resamples_does_not_bound_the_p_value_of_a_plain_harm():
    """Else no slice of fifty could fail after Holm with a thousand resamples."""
    worse, base, blocks = pair(speakers=60, delta=0.3)
    assert paired_difference(worse, base, blocks, wer, resamples=200).p_harm < 1e-4


def test_identical_output_is_no_certainty():
    a, _, blocks = pair(speakers=20)
    result = paired_difference(a, a, blocks, wer, margin=0.02)
    reach = 1 - 0.025 ** (1 / 200)
    assert (result.delta, result.low, result.high) == (0, pytest.approx(-reach), pytest.approx(reach))
    assert result.p_noninferior == pytest.approx(0.98**200)
    assert (result.p_noninferior < 0.025) == (result.high < 0.02)
    assert result.p_harm == 1
    assert "rule of three on 200 utterances" in result.note


@pytest.mark.parametrize(("speakers", "start"), [(1, "1 speaker: "), (3, "3 speakers: "), (6, "6 speakers: ")])
def test_few_speakers_say_so_and_one_decides_nothing(speakers, start):
    a, b, blocks = pair(speakers=speakers)
    result = paired_difference(a, b, blocks, wer, margin=1.0)
    assert result.note.startswith(start)
    decided = (result.high < 1.0, result.low > 1.0, result.p_harm < 0.5, result.p_noninferior < 0.5)
    assert any(decided) == (speakers > 1)


def test_nothing_decides_nothing():
    for a, blocks in ((np.zeros((0, 2)), np.zeros(0, dtype=int)), (np.zeros((8, 2)), np.arange(8))):
        result = paired_difference(a, a, blocks, wer, margin=1.0)
        assert result.note in ("no utterances", "undefined on these utterances")
        assert math.isnan(result.delta)
        assert not result.high < 1.0
        assert not result.p_noninferior < 0.05


def test_different_utterances_are_refused():
    a, b, blocks = pair()
    with pytest.raises(ValueError, match="same utterances and columns twice"):
        paired_difference(a, b[1:], blocks, wer)


def timings(n=60, factor=1.3, seed=0):
    rng = np.random.default_rng(seed)
    audio = rng.uniform(2, 20, n)
    slow = rng.lognormal(0, 0.2, n)  # what makes one recording slow makes it so for both
    b = 0.1 * audio * slow * rng.lognormal(0, 0.05, n)
    return np.stack([b * factor * rng.lognormal(0, 0.05, n), audio], 1), np.stack([b, audio], 1)


def test_a_ratio_of_times():
    a, b = timings()
    result = paired_ratio(a, b, np.arange(60), wer, margin=1.2)
    assert result.delta == pytest.approx(a[:, 0].sum() / b[:, 0].sum())
    assert 1.2 < result.low < result.delta < result.high < 1.4
    assert result.p_harm < 0.01 < result.p_noninferior


def test_a_ratio_and_its_inverse_have_inverse_intervals():
    a, b = timings()
    one, other = paired_ratio(a, b, np.arange(60), wer), paired_ratio(b, a, np.arange(60), wer)
    assert (one.delta, one.low, one.high) == pytest.approx((1 / other.delta, 1 / other.high, 1 / other.low), rel=1e-6)


def test_ratios_cover():
    hits = []
    for seed in range(800):
        a, b = timings(n=20, seed=seed)
        result = paired_ratio(a, b, np.arange(20), wer, resamples=300)
        hits.append(result.low <= 1.3 * math.exp(0.05**2 / 2) <= result.high)
    assert 0.93 <= np.mean(hits) <= 0.975


def test_a_ratio_that_is_nothing_or_the_same_everywhere_has_no_interval():
    a, b = timings()
    same = paired_ratio(b * [1.5, 1], b, np.arange(60), wer)
    assert same.delta == pytest.approx(1.5)
    assert math.isnan(same.high)
    assert same.note == "the ratio is the same for every speaker: no interval can be had"
    assert paired_ratio(a * [0, 1], b, np.arange(60), wer).note == "undefined on these utterances"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.randoms())
def test_order_does_not_matter_and_swapping_mirrors(seed, speakers, random):
    a, b, blocks = pair(speakers=speakers, seed=seed, utterances=4)
    order = np.array(random.sample(range(len(a)), len(a)))
    one = paired_difference(a, b, blocks, wer, resamples=100, margin=0.01)
    other = paired_difference(a[order], b[order], blocks[order], wer, resamples=100, margin=0.01)
    mirrored = paired_difference(b, a, blocks, wer, resamples=100, margin=-0.01)
    assert (other.low, other.high, other.p_harm) == pytest.approx((one.low, one.high, one.p_harm), rel=1e-6)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((one.low, one.high), rel=1e-6)
    assert mirrored.p_noninferior == pytest.approx(one.p_harm)
