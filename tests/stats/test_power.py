import math
from dataclasses import replace

import numpy as np
import pytest

from pipelines.stats.paired import paired_difference
from pipelines.stats.power import (
    Spread,
    assumed_spread,
    blocks_needed,
    minimum_detectable_difference,
    paired_spread,
    utterances_needed,
)


def wer(sums):
    return sums[..., 0] / sums[..., 1]


def passes(drawn, margin, resamples=400):
    return [
        paired_difference(a, b, drawn.blocks, wer, resamples=resamples).high < margin
        for a, b in zip(drawn.candidate, drawn.baseline, strict=True)
    ]


def test_at_the_planned_size_a_harmless_candidate_passes_four_times_in_five(simulated):
    margin, passed, sizes = 0.012, [], []
    pilots = simulated(120, 40, seed=1)
    for pilot in range(120):
        spread = paired_spread(pilots.candidate[pilot], pilots.baseline[pilot], pilots.blocks, wer)
        speakers = blocks_needed(spread, margin)
        sizes.append(speakers)
        passed += passes(simulated(4, speakers, seed=100 + pilot), margin)
    print(f"harmless at the planned {np.mean(sizes):.0f} speakers: {np.mean(passed):.1%} of {len(passed)} pass")
    assert np.mean(passed) >= 0.80
    assert np.mean(passed) <= 0.95  # a plan that asks for far too much is wrong as well


def test_the_smallest_detectable_difference_is_a_margin_that_a_harmless_candidate_passes(simulated):
    pilots, passed = simulated(60, 40, seed=2), []
    for pilot in range(60):
        spread = paired_spread(pilots.candidate[pilot], pilots.baseline[pilot], pilots.blocks, wer)
        passed += passes(simulated(10, 40, seed=200 + pilot), minimum_detectable_difference(spread))
    print(f"harmless with the smallest detectable difference as margin: {np.mean(passed):.1%} pass")
    assert 0.80 <= np.mean(passed) <= 0.95


def test_a_regression_of_the_smallest_detectable_difference_is_seen(simulated):
    """Harm is found a little less often than it is planned for: a worse system also varies more."""
    pilots, found = simulated(60, 40, seed=2), []
    for pilot in range(60):
        spread = paired_spread(pilots.candidate[pilot], pilots.baseline[pilot], pilots.blocks, wer)
        drawn = simulated(10, 40, seed=300 + pilot, delta=minimum_detectable_difference(spread))
        found += [
            paired_difference(a, b, drawn.blocks, wer, resamples=400).low > 0
            for a, b in zip(drawn.candidate, drawn.baseline, strict=True)
        ]
    print(f"a regression of the smallest detectable difference is found in {np.mean(found):.1%}")
    assert 0.75 <= np.mean(found) <= 0.95


def test_one_system_and_the_right_correlation_plan_like_a_pair(simulated):
    drawn = simulated(200, 40, seed=3)
    per_speaker = [(np.add.reduceat(x, np.arange(0, 800, 20))) for x in np.concatenate([drawn.baseline, drawn.candidate])]
    residual = [s[:, 0] - wer(s.sum(0)) * s[:, 1] for s in per_speaker]
    correlation = np.mean([np.corrcoef(residual[i], residual[i + 200])[0, 1] for i in range(200)])
    pairs = [paired_spread(a, b, drawn.blocks, wer).deviation for a, b in zip(drawn.candidate, drawn.baseline, strict=True)]
    alone = [assumed_spread(b, drawn.blocks, wer, correlation=correlation).deviation for b in drawn.baseline]
    print(f"correlation over speakers {correlation:.2f}")
    assert np.mean(alone) == pytest.approx(np.mean(pairs), rel=0.1)
    # What is assumed without a pair asks for more data, not less.
    assumed = [assumed_spread(b, drawn.blocks, wer).deviation for b in drawn.baseline]
    assert np.mean(assumed) > np.mean(pairs)


SPREAD = Spread(deviation=0.05, blocks=40, utterances=800, freedom=39, paired=True)


def test_by_hand():
    # (1.05 * t(0.975, 39) + t(0.8, 39)) * 0.05 / sqrt(40); the median of chi-squared is all but its mean.
    plain = minimum_detectable_difference(SPREAD, assurance=0.5)
    assert plain == pytest.approx((1.05 * 2.0227 + 0.8511) * 0.05 / math.sqrt(40), rel=0.01)
    assert minimum_detectable_difference(SPREAD) > plain


def test_plan_and_smallest_difference_are_inverse():
    for margin in (0.005, 0.01, 0.03):
        blocks = blocks_needed(SPREAD, margin)
        assert minimum_detectable_difference(SPREAD, blocks=blocks) <= margin
        assert minimum_detectable_difference(SPREAD, blocks=blocks - 1) > margin
        assert utterances_needed(SPREAD, margin) == 20 * blocks


def test_what_asks_for_more_data():
    blocks = blocks_needed(SPREAD, 0.02)
    assert blocks_needed(SPREAD, 0.01) > 3.5 * blocks
    assert blocks_needed(SPREAD, 0.02, power=0.9) > blocks
    assert blocks_needed(SPREAD, 0.02, alpha=0.05) < blocks
    assert blocks_needed(SPREAD, 0.02, true_difference=0.01) > 3.5 * blocks
    assert blocks_needed(SPREAD, 0.02, assurance=0.99) > blocks


def test_what_cannot_be_planned():
    with pytest.raises(ValueError, match=r"true difference below the margin of 0.01, found 0.01"):
        blocks_needed(SPREAD, 0.01, true_difference=0.01)
    with pytest.raises(ValueError, match=r"found 1\.0"):
        assumed_spread(np.ones((4, 2)), np.arange(4), wer, correlation=1.0)
    flat = assumed_spread(np.stack([np.zeros(40), np.full(40, 9.0)], 1), np.arange(40) // 4, wer)
    assert math.isnan(flat.deviation)
    assert math.isnan(minimum_detectable_difference(flat))
    assert blocks_needed(flat, 0.01) is None
    assert utterances_needed(flat, 0.01) is None
    one = assumed_spread(np.ones((4, 2)), np.zeros(4, dtype=int), wer)
    assert minimum_detectable_difference(one) == math.inf
    assert blocks_needed(replace(SPREAD, deviation=1e3), 1e-7) is None


def test_more_utterances_of_the_same_speakers_do_not_stand_in_for_speakers(simulated):
    few = simulated(1, 20, seed=4, utterances=50)
    same = np.repeat(few.baseline[0], 4, axis=0)
    once = assumed_spread(few.baseline[0], few.blocks, wer)
    again = assumed_spread(same, np.repeat(few.blocks, 4), wer)
    assert again.blocks == once.blocks
    assert minimum_detectable_difference(again) == pytest.approx(minimum_detectable_difference(once))
