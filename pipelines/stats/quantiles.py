"""How many observations an interval of a quantile needs."""

from __future__ import annotations

import math


def blocks_for_quantile(q: float, level: float) -> int:
    """Count the blocks of which the largest, or the smallest, bounds a quantile at a two-sided level.

    All n lie on one side of the q-quantile with probability ``max(q, 1 - q) ** n``: with fewer blocks than this no resample
    can see beyond it. For the 95th percentile at level 0.95 these are 72, for the median 6.
    """
    return math.ceil(math.log((1 - level) / 2) / math.log(max(q, 1 - q)))
