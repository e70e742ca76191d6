"""How long intervals of a large corpus take: ``python benchmarks/bootstrap_100k.py``.

100,000 utterances, 5 tags of 10 values each (50 slices), 1,000 resamples: every slice's word error rate and every slice's
difference of two systems. Then a quarter of it, for the cost must be linear, and the worst case in which no utterance has
a speaker and each is a block of its own.
"""

import resource
import sys
import time

import numpy as np

from pipelines.stats.bootstrap import bootstrap_interval, grouped_intervals
from pipelines.stats.gaps import gap
from pipelines.stats.paired import paired_difference

UTTERANCES = 100_000
TAGS, VALUES = 5, 10
RESAMPLES = 1_000
LIMIT_S, LIMIT_MIB = 60.0, 2048.0


def word_error_rate(sums):
    return sums[..., 0] / sums[..., 1]


def difference(sums):
    return word_error_rate(sums[..., :2]) - word_error_rate(sums[..., 2:])


def measure(utterances: int, speakers: int) -> float:
    rng = np.random.default_rng(1)
    words = rng.integers(3, 25, utterances).astype(float)
    blocks = rng.permutation(np.arange(utterances) % speakers)
    rate = 0.1 * np.exp(0.5 * rng.standard_normal(speakers))[blocks]
    a, b = (np.stack([rng.poisson(rate * words).astype(float), words], 1) for _ in range(2))
    tags = rng.integers(0, VALUES, (TAGS, utterances))

    start = time.perf_counter()
    overall = bootstrap_interval(b, blocks, word_error_rate, resamples=RESAMPLES)
    change = paired_difference(a, b, blocks, word_error_rate, resamples=RESAMPLES)
    both = np.concatenate([a, b], axis=1)
    slices = 0
    for groups in tags:
        slices += len(grouped_intervals(b, blocks, groups, VALUES, word_error_rate, resamples=RESAMPLES))
        grouped_intervals(both, blocks, groups, VALUES, difference, resamples=RESAMPLES, limits=(-np.inf, np.inf))
        gap(b, blocks, groups, VALUES, word_error_rate)
    seconds = time.perf_counter() - start
    print(
        f"{utterances:>7} utterances, {speakers:>6} blocks, {slices} slices: {seconds:6.2f} s   "
        f"WER {overall.value:.4f} [{overall.low:.4f}, {overall.high:.4f}]   "
        f"change {change.delta:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
    )
    return seconds


def main() -> int:
    measure(1_000, 50)  # warms the imports of scipy up
    quarter = measure(UTTERANCES // 4, UTTERANCES // 100)
    whole = measure(UTTERANCES, UTTERANCES // 25)
    worst = measure(UTTERANCES, UTTERANCES)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"four times the utterances and blocks: {whole / quarter:.1f} times the time; peak {peak_mib:.0f} MiB")
    return int(max(whole, worst) > LIMIT_S or peak_mib > LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main())
