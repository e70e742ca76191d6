"""Does a 95% interval hold the truth 95 times in 100? Simulated, seeded, through the public functions."""

import math

import numpy as np
import pytest
from scipy import stats

from pipelines.stats.bootstrap import bootstrap_interval, quantile_interval
from pipelines.stats.gaps import gap
from pipelines.stats.paired import paired_difference

CORPORA = 2000  # Monte Carlo error of a coverage: half a point
RESAMPLES = 500

POPULATIONS = {
    "even": {},
    "uneven speakers": {"uneven": True},
    "few errors": {"wer": 0.02, "utterances": 5, "spread": 0.8},
}
VERY_SKEWED = {"spread": 1.0, "utterances": 5, "overdispersion": 6.0}


def wer(sums):
    return sums[..., 0] / sums[..., 1]


def coverage(drawn, truth, resamples=RESAMPLES):
    intervals = [bootstrap_interval(sums, drawn.blocks, wer, resamples=resamples) for sums in drawn.baseline]
    return np.mean([i.low <= truth <= i.high for i in intervals]), intervals


@pytest.mark.parametrize("population", POPULATIONS)
def test_40_speakers_cover_between_93_and_97_percent(simulated, population):
    options = POPULATIONS[population]
    drawn = simulated(CORPORA, 40, seed=1, **options)
    covered, intervals = coverage(drawn, options.get("wer", 0.08))
    print(f"coverage, 40 speakers, {population}: {covered:.1%}")
    assert 0.93 <= covered <= 0.97
    assert not any(i.note for i in intervals)


@pytest.mark.parametrize("population", POPULATIONS)
def test_6_speakers_cover_at_least_88_percent_and_are_flagged(simulated, population):
    options = POPULATIONS[population]
    drawn = simulated(CORPORA, 6, seed=2, **options)
    covered, intervals = coverage(drawn, options.get("wer", 0.08))
    print(f"coverage, 6 speakers, {population}: {covered:.1%}")
    assert covered >= 0.88
    assert all(i.note.startswith("6 speakers") for i in intervals)


def test_6_very_uneven_speakers_are_flagged_and_still_beat_the_percentile_interval(simulated):
    drawn = simulated(CORPORA, 6, seed=3, **VERY_SKEWED)
    covered, intervals = coverage(drawn, 0.08)
    # Hesterberg's expanded percentile interval of the same corpora, the usual choice.
    sums = np.stack([np.add.reduceat(corpus, np.arange(0, 30, 5)) for corpus in drawn.baseline])
    weights = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=RESAMPLES)
    resampled = wer(np.einsum("bk,ckj->cbj", weights, sums, optimize=True))
    tail = stats.norm.cdf(-stats.t.ppf(0.975, 5) * math.sqrt(6 / 5))
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=1)
    percentile = np.mean((low <= 0.08) & (high >= 0.08))
    print(f"coverage, 6 speakers, very uneven: {covered:.1%}; expanded percentile {percentile:.1%}")
    assert covered >= 0.83
    assert covered > percentile + 0.08
    assert all(i.note for i in intervals)


@pytest.mark.parametrize(("speakers", "lowest", "highest"), [(40, 0.93, 0.97), (6, 0.88, 0.985), (3, 0.88, 1.0)])
def test_paired_differences_cover(simulated, speakers, lowest, highest):
    drawn = simulated(CORPORA, speakers, seed=4, delta=0.01)
    intervals = [
        paired_difference(a, b, drawn.blocks, wer, resamples=RESAMPLES)
        for a, b in zip(drawn.candidate, drawn.baseline, strict=True)
    ]
    covered = np.mean([i.low <= 0.01 <= i.high for i in intervals])
    print(f"coverage, difference, {speakers} speakers: {covered:.1%}")
    assert lowest <= covered <= highest


@pytest.mark.parametrize(("speakers", "level", "most"), [(40, 0.95, 0.025), (40, 0.90, 0.05), (6, 0.95, 0.025)])
def test_a_true_regression_at_the_margin_rarely_passes(simulated, speakers, level, most):
    margin = 0.01
    drawn = simulated(CORPORA, speakers, seed=5, delta=margin)
    passed = np.mean(
        [
            paired_difference(a, b, drawn.blocks, wer, level=level, resamples=RESAMPLES).high < margin
            for a, b in zip(drawn.candidate, drawn.baseline, strict=True)
        ]
    )
    print(f"regression at the margin, {speakers} speakers, level {level}: {passed:.2%} pass")
    assert passed <= most + 2 * math.sqrt(most / CORPORA)
    assert passed > most / 20  # one that never passes anything would be right too, and useless


@pytest.mark.parametrize(("n", "speakers", "least"), [(400, None, 0.94), (400, 40, 0.93), (400, 8, 0.88)])
def test_latency_quantiles_cover(n, speakers, least):
    rng = np.random.default_rng(6)
    own = 0.3 if speakers else 0.0
    truth = math.exp(math.hypot(0.5, own) * stats.norm.ppf(0.95))
    blocks = np.arange(n) * speakers // n if speakers else None
    hits = []
    for _ in range(600):
        seconds = np.exp(0.5 * rng.standard_normal(n))
        if blocks is not None:
            seconds *= np.exp(own * rng.standard_normal(speakers))[blocks]
        interval = quantile_interval(seconds, 0.95, blocks)
        hits.append(interval.low <= truth <= interval.high)
    print(f"coverage, 95% quantile, {speakers} speakers: {np.mean(hits):.1%}")
    assert np.mean(hits) >= least


def test_the_gap_holds_the_true_gap_though_the_pair_is_picked_from_the_data(simulated):
    drawn = simulated(600, 60, seed=7, utterances=8, spread=0.3)
    groups = drawn.blocks // 20  # three groups that are the same but for the first, 40% worse
    scale = np.where(groups == 0, 1.4, 1.0)
    rng = np.random.default_rng(8)
    gaps = [gap(np.stack([rng.poisson(c[:, 0] * scale), c[:, 1]], 1), drawn.blocks, groups, 3, wer) for c in drawn.baseline]
    truth = 0.08 * 0.4
    print(f"gap: mean {np.mean([g.value for g in gaps]):.4f}, true {truth:.4f}")
    assert np.mean([g.low > truth for g in gaps]) <= 0.025 + 0.013
    assert np.mean([g.high < truth for g in gaps]) <= 0.025 + 0.013
    assert np.mean([g.worst == 0 for g in gaps]) > 0.6
