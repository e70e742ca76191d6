import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.stats.bootstrap import (
    bootstrap_interval,
    grouped_intervals,
    quantile_interval,
    rule_of_three,
)
from pipelines.stats.resampling import aggregate, studentise


def wer(sums):
    return sums[..., 0] / sums[..., 1]


def wil(sums):
    """Word information lost, of hits, reference words and hypothesis words."""
    return 1.0 - sums[..., 0] ** 2 / (sums[..., 1] * sums[..., 2])


def corpus(speakers=8, utterances=5, seed=0):
    rng = np.random.default_rng(seed)
    n = speakers * utterances
    words = rng.integers(3, 15, n).astype(float)
    return np.stack([rng.binomial(words.astype(int), 0.2).astype(float), words], 1), np.arange(n) // utterances


def test_the_value_is_a_ratio_of_sums():
    sums = np.array([[1.0, 10.0], [0.0, 2.0], [3.0, 8.0], [1.0, 5.0], [0.0, 5.0]])
    interval = bootstrap_interval(sums, np.arange(5), wer)
    assert interval.value == 5 / 30
    assert (interval.n, interval.blocks, interval.level) == (5, 5, 0.95)
    assert interval.low <= interval.value <= interval.high


def test_equal_inputs_give_equal_results_and_another_seed_others():
    sums, blocks = corpus(speakers=20)
    sums[:, 0] = sums[:, 0] ** 3  # skewed, or Student's t decides both ends
    assert bootstrap_interval(sums, blocks, wer) == bootstrap_interval(sums, blocks, wer)
    assert bootstrap_interval(sums, blocks, wer) != bootstrap_interval(sums, blocks, wer, seed=1)


def test_the_standard_error_is_that_of_a_mean_where_all_blocks_weigh_the_same():
    values = np.array([1.0, 4.0, 2.0, 7.0, 3.0, 3.0])
    result = studentise(np.stack([values, np.ones(6)], 1), wer)
    assert result.value == pytest.approx(values.mean())
    assert result.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(6), rel=1e-6)


def test_a_block_that_outweighs_the_others_widens_as_the_jackknife_says():
    per_block = np.array([[5.0, 100.0], [1.0, 4.0], [0.0, 5.0], [1.0, 6.0], [2.0, 5.0], [0.0, 4.0]])
    without = wer(per_block.sum(0) - per_block)
    jackknife = math.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum())
    shares = (per_block[:, 0] - wer(per_block.sum(0)) * per_block[:, 1]) / per_block[:, 1].sum()
    assert jackknife > 1.2 * math.sqrt(6 / 5 * (shares**2).sum())
    assert studentise(per_block, wer).standard_error == pytest.approx(jackknife)


def test_resamples_agree_with_a_plain_bootstrap_t():
    """The same by loops: draw blocks, linearise the ratio, divide."""
    sums, blocks = corpus(speakers=12)
    per_block = aggregate(sums, blocks)
    quick = studentise(per_block, wer, resamples=4000)
    rng, slow = np.random.default_rng(5), []
    for _ in range(4000):
        drawn = per_block[rng.integers(0, 12, 12)]
        ratio = drawn[:, 0].sum() / drawn[:, 1].sum()
        residual = (drawn[:, 0] - ratio * drawn[:, 1]) / drawn[:, 1].sum()
        slow.append((ratio - quick.value) / math.sqrt(12 / 11 * (residual**2).sum()))
    quantiles = [0.025, 0.16, 0.5, 0.84, 0.975]
    assert np.quantile(quick.deviations, quantiles) == pytest.approx(np.quantile(slow, quantiles), abs=0.2)


def test_chunks_do_not_change_the_result(monkeypatch):
    sums, blocks = corpus()
    whole = bootstrap_interval(sums, blocks, wer, resamples=50)
    monkeypatch.setattr("pipelines.stats.resampling._CHUNK_ELEMENTS", 30)
    assert bootstrap_interval(sums, blocks, wer, resamples=50) == whole


def test_joining_very_many_blocks_keeps_value_error_and_interval(monkeypatch):
    rng = np.random.default_rng(3)
    rate = rng.lognormal(-2.5, 1.0, 4000)
    words = rng.integers(3, 15, 4000).astype(float)
    sums = np.stack([rng.poisson(rate * words).astype(float), words], 1)
    whole = bootstrap_interval(sums, np.arange(4000), wer, resamples=2000)  # is itself joined, in twos
    monkeypatch.setattr("pipelines.stats.resampling.MOST_DRAWN", 10_000)
    exact = bootstrap_interval(sums, np.arange(4000), wer, resamples=2000)
    assert whole != exact
    assert (whole.value, whole.n, whole.blocks) == (exact.value, 4000, 4000)
    width = exact.high - exact.low
    assert (whole.low, whole.high) == pytest.approx((exact.low, exact.high), abs=0.05 * width)


def test_any_function_of_sums():
    sums, blocks = corpus()
    hits = sums[:, 1] - sums[:, 0]
    interval = bootstrap_interval(np.stack([hits, sums[:, 1], sums[:, 1] + 1], 1), blocks, wil, limits=(0, 1))
    assert 0 < interval.low < interval.value < interval.high < 1


def test_speakers_not_utterances_are_what_varies():
    """Ten utterances of each speaker that all fail alike say no more than one of them."""
    errors = np.array([0.0, 1, 5, 2, 3, 0, 4, 1, 2, 6])
    once = np.stack([errors, np.full(10, 10.0)], 1)
    alone = bootstrap_interval(once, np.arange(10), wer)
    repeated = bootstrap_interval(np.repeat(once, 10, axis=0), np.repeat(np.arange(10), 10), wer)
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=1e-6)
    pretended = bootstrap_interval(np.repeat(once, 10, axis=0), np.arange(100), wer)
    assert pretended.high - pretended.low < 0.5 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("speakers", "note"),
    [
        (0, "no utterances"),
        (1, "1 speaker: how speakers differ cannot be seen, so there is no interval"),
        (2, "2 speakers: too few to resample, widened by Student's t with 1 degree of freedom"),
        (3, "3 speakers: too few to resample, widened by Student's t with 2 degrees of freedom"),
        (6, "6 speakers: few, so the interval may cover less than its level says"),
        (10, ""),
    ],
)
def test_few_speakers_say_so(speakers, note):
    sums, blocks = corpus(speakers)
    interval = bootstrap_interval(sums, blocks, wer)
    assert interval.note == note
    assert math.isnan(interval.low) == math.isnan(interval.high) == (speakers < 2)


def test_fewer_speakers_widen():
    sums, blocks = corpus(speakers=40, utterances=20)
    widths = [
        interval.high - interval.low
        for interval in (bootstrap_interval(sums[blocks < k], blocks[blocks < k], wer) for k in (3, 6, 40))
    ]
    assert widths[0] > widths[1] > widths[2]


def test_no_error_at_all_is_no_certainty():
    sums = np.stack([np.zeros(100), np.full(100, 8.0)], 1)
    interval = bootstrap_interval(sums, np.arange(100) // 5, wer)
    assert (interval.value, interval.low) == (0, 0)
    assert interval.high == pytest.approx(1 - 0.05**0.01)
    assert interval.note == "no variation in 100 utterances: bounded by the rule of three, as if they were independent"


def test_all_wrong_is_no_certainty_either():
    sums = np.stack([np.full(100, 8.0), np.full(100, 8.0)], 1)
    interval = bootstrap_interval(sums, np.arange(100) // 5, wer, limits=(0, 1))
    assert (interval.low, interval.high) == (pytest.approx(0.05**0.01), 1)


def test_without_a_failure_size_no_variation_has_no_interval():
    sums = np.stack([np.full(100, 4.0), np.full(100, 8.0)], 1)
    interval = bootstrap_interval(sums, np.arange(100) // 5, wer, failure=None)
    assert interval.value == 0.5
    assert math.isnan(interval.low)
    assert interval.note == "all speakers score the same: no interval can be had"


def test_one_error_in_a_thousand_words_bounds_like_an_event_seen_once():
    """Poisson's exact upper bound for one event is 5.6 of them; resamples without it must not send ours to infinity."""
    sums = np.stack([np.zeros(100), np.full(100, 10.0)], 1)
    sums[17, 0] = 1
    interval = bootstrap_interval(sums, np.arange(100), wer)
    assert 0.003 < interval.high < 0.008
    assert interval.low == 0


def test_undefined_is_not_a_number_and_says_so():
    interval = bootstrap_interval(np.zeros((4, 2)), np.arange(4), wer)
    assert math.isnan(interval.value)
    assert math.isnan(interval.high)
    assert interval.note == "undefined on these utterances"


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"found \(3, 2\) and \(2,\)"):
        bootstrap_interval(np.ones((3, 2)), np.arange(2), wer)


def test_a_group_has_the_interval_of_its_utterances_alone():
    sums, blocks = corpus(speakers=30, utterances=6)
    groups = np.random.default_rng(1).integers(-1, 3, len(sums))
    intervals = grouped_intervals(sums, blocks, groups, 4, wer)
    for group in range(3):
        alone = bootstrap_interval(sums[groups == group], blocks[groups == group], wer)
        assert intervals[group] == alone
    assert (intervals[3].n, intervals[3].note) == (0, "no utterances")


@pytest.mark.parametrize(("n", "bound"), [(0, 1.0), (1, 0.95), (30, 0.0950), (300, 0.00994)])
def test_rule_of_three(n, bound):
    assert rule_of_three(n, 0.95) == pytest.approx(bound, abs=5e-5)


def test_a_quantile_is_bounded_by_order_statistics():
    interval = quantile_interval(np.arange(1.0, 102.0), 0.5)
    # The binomial ranks of the median of 101: 41 and 61 of them.
    assert interval.value == 51
    assert interval.low == pytest.approx(41, abs=1)
    assert interval.high == pytest.approx(61, abs=1)


def test_a_high_quantile_of_few_values_says_that_it_is_open_above():
    interval = quantile_interval(np.arange(20.0), 0.95)
    assert interval.note == "20 values cannot bound this quantile from above; the largest value stands in"
    assert interval.high == 19


def test_quantiles_of_few_blocks_widen_and_leave_out_what_was_not_timed():
    seconds = np.random.default_rng(0).exponential(size=400)
    seconds[::4] = np.nan
    blocks = np.arange(400) // 80
    seconds *= 1 + blocks
    alone, blocked = quantile_interval(seconds, 0.5), quantile_interval(seconds, 0.5, blocks)
    assert (alone.n, blocked.n, blocked.blocks) == (300, 300, 5)
    assert blocked.high - blocked.low > 1.5 * (alone.high - alone.low)
    assert blocked.note == "5 speakers: few, treat the interval with care"
    assert math.isnan(quantile_interval(np.array([np.nan]), 0.5).value)
    assert quantile_interval(seconds, 0.5, np.zeros(400, dtype=int)).note.startswith("1 speaker")


tables = st.integers(0, 2**32 - 1).map(lambda seed: corpus(speakers=seed % 12 + 1, seed=seed))


@settings(max_examples=40, deadline=None)
@given(tables, st.randoms())
def test_the_order_of_utterances_does_not_matter(table, random):
    sums, blocks = table
    order = np.array(random.sample(range(len(sums)), len(sums)))
    one, other = (bootstrap_interval(sums[rows], blocks[rows], wer, resamples=100) for rows in (np.arange(len(sums)), order))
    assert (one.low, one.high) == pytest.approx((other.low, other.high), nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(tables, st.floats(0.01, 1000))
def test_the_unit_of_the_sums_does_not_matter_and_that_of_the_value_scales(table, scale):
    sums, blocks = table
    one = bootstrap_interval(sums, blocks, wer, resamples=100)
    same = bootstrap_interval(sums * scale, blocks, wer, resamples=100)
    assert (same.low, same.high) == pytest.approx((one.low, one.high), rel=1e-5, nan_ok=True)
    if len(set(wer(aggregate(sums, blocks)))) > 1:
        scaled = bootstrap_interval(sums * [scale, 1], blocks, wer, resamples=100)
        assert (scaled.low, scaled.high) == pytest.approx((one.low * scale, one.high * scale), rel=1e-5, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(tables, st.sampled_from([0.5, 0.8, 0.9]))
def test_a_higher_level_is_wider(table, level):
    narrow, wide = (bootstrap_interval(*table, wer, resamples=100, level=each) for each in (level, 0.95))
    assert math.isnan(wide.low) or (wide.low <= narrow.low and narrow.high <= wide.high)
