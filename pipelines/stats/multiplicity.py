"""Many slices at once: which claims of harm survive, and what the gate asks of a pass.

The policy:

- **Fail** is a claim of harm, made once per slice, and with fifty slices one in twenty would be "harmed" by chance. A
  slice fails only where its p value of harm, adjusted by Holm over all slices of the rule, is at most alpha. The chance of
  even one false failure then stays at alpha, whatever the slices share.
- **Pass** needs every slice: each one's non-inferiority bound at the unadjusted alpha. Asking for all of them is an
  intersection-union test (Berger 1982), whose chance to let a harmed slice through is at most alpha without any
  correction; adjusting would only make releases harder.
- In between is **inconclusive**.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.stats.resampling import FloatArray


@dataclass(frozen=True, slots=True)
class HolmResult:
    """Adjusted p values and what they decide, in the order of the input."""

    adjusted: tuple[float, ...]
    """Smallest family-wise level at which each hypothesis is rejected; NaN where the p value was."""
    rejected: tuple[bool, ...]
    """Whether the harm is claimed at `alpha`."""
    alpha: float
    hypotheses: int
    """How many the correction is for; those without a p value count, for they were asked about too."""


def holm(p_values: Sequence[float] | FloatArray, alpha: float = 0.05) -> HolmResult:
    """Adjust p values by Holm's step-down procedure (1979, "A simple sequentially rejective multiple test procedure").

    Controls the chance of one or more false rejections at alpha under any dependence, and rejects all that Bonferroni
    rejects.

    Args:
        p_values: one a hypothesis. NaN, a comparison that could not be made, is never rejected.
        alpha: family-wise level.

    Raises:
        ValueError: for a p value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"Expected p values between 0 and 1, found {p[(p < 0) | (p > 1)].tolist()}.")
    order = np.argsort(p, kind="stable")  # NaN last
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return HolmResult(
        adjusted=tuple(float(value) for value in adjusted),
        rejected=tuple(bool(value <= alpha) for value in adjusted),
        alpha=alpha,
        hypotheses=len(p),
    )
