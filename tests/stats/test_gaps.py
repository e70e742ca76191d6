import numpy as np
import pytest

from pipelines.stats.gaps import gap
from pipelines.stats.paired import paired_difference


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


def test_the_gap_names_worst_and_best():
    a, b, blocks = pair(speakers=40, delta=0.3)
    sums, groups = np.concatenate([a, b, b]), np.repeat([2, 0, 1], len(a))
    blocks = np.concatenate([blocks, blocks, blocks + 40])
    result = gap(sums, blocks, groups, 3, wer)
    assert (result.worst, result.left_out, result.note) == (2, (), "")
    assert result.value == pytest.approx(wer(a.sum(0)) - wer(b.sum(0)))
    assert 0 < result.low < result.value < result.high


def test_a_gap_between_two_shared_groups_is_the_paired_difference_in_small():
    a, b, blocks = pair(speakers=40, delta=0.1)
    sums, groups = np.concatenate([a, b]), np.repeat([0, 1], len(a))
    result = gap(sums, np.tile(blocks, 2), groups, 2, wer)
    paired = paired_difference(a, b, blocks, wer)
    assert result.high - result.low == pytest.approx(paired.high - paired.low, rel=0.25)
    apart = gap(sums, np.concatenate([blocks, blocks + 40]), groups, 2, wer)
    assert apart.high - apart.low > 1.5 * (result.high - result.low)


def test_a_group_of_one_speaker_is_left_out_and_named():
    _, b, blocks = pair(speakers=12)
    groups = np.where(blocks == 0, 3, blocks % 2)
    result = gap(b, blocks, groups, 4, wer)
    assert result.left_out == (2, 3)
    assert result.note == "2 of 2 groups have few speakers"
    none = gap(b, blocks, np.zeros(len(b), dtype=int), 2, wer)
    assert (none.worst, none.left_out) == (-1, (1,))
    assert not none.high < 1
    assert none.note == "fewer than two groups have two speakers"


def test_a_small_group_without_errors_keeps_the_gap_open():
    _, b, blocks = pair(speakers=40)
    groups = np.where(blocks < 20, 0, 1)
    few = gap(b, blocks, groups, 2, wer)
    perfect = b * [0, 1]
    small = np.concatenate([b, perfect[:10]])
    result = gap(small, np.append(blocks, 40 + np.arange(10)), np.append(groups, np.full(10, 2)), 3, wer)
    assert result.high > few.high + 0.1


def test_ten_equal_groups_show_a_gap_by_chance_and_no_lower_bound(simulated):
    drawn = simulated(400, 150, seed=11, utterances=6)
    gaps = [gap(corpus, drawn.blocks, drawn.blocks % 10, 10, wer) for corpus in drawn.baseline]
    print(f"gap of ten equal groups: mean {np.mean([g.value for g in gaps]):.3f}")
    assert np.mean([g.value for g in gaps]) > 0.03
    assert np.mean([g.low > 0 for g in gaps]) <= 0.025 + 0.016
