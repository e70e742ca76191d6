"""Speech-like error counts with a known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Corpora:
    """Many corpora of equal make, drawn from one population."""

    baseline: Array
    """(corpora, n, 2): errors and words of each utterance."""
    candidate: Array
    blocks: NDArray[np.int64]
    """(n,)"""


def simulate(
    corpora: int,
    speakers: int,
    *,
    seed: int,
    wer: float = 0.08,
    delta: float = 0.0,
    spread: float = 0.5,
    utterances: int = 20,
    overdispersion: float = 3.0,
    words: float = 10.0,
    uneven: bool = False,
    own: float = 0.3,
) -> Corpora:
    """Draw speakers with lognormal error rates and utterances of Poisson length with gamma-Poisson errors.

    The expected word error rate is `wer` for the baseline and ``wer + delta`` for the candidate. Speakers and hard
    utterances are shared by both, and each system has a liking of its own for each speaker (`own`).
    """
    rng = np.random.default_rng(seed)
    sizes = 1 + rng.geometric(1.0 / utterances, speakers) if uneven else np.full(speakers, utterances)
    blocks = np.repeat(np.arange(speakers), sizes)

    def lognormal(scale: float) -> Array:
        return np.exp(scale * rng.standard_normal((corpora, speakers)) - scale**2 / 2)[:, blocks]

    rate = wer * lognormal(spread)
    length = 1.0 + rng.poisson(words - 1.0, rate.shape)
    expected = rate * length * rng.gamma(1.0 / overdispersion, overdispersion, rate.shape)
    errors_b = rng.poisson(expected * lognormal(own))
    errors_a = rng.poisson(expected * lognormal(own) * (1.0 + delta / wer))
    return Corpora(np.stack([errors_b, length], -1), np.stack([errors_a, length], -1), blocks)


@pytest.fixture(scope="session")
def simulated() -> Callable[..., Corpora]:
    return simulate
