"""The fitted map from an engine's probability to how often such words are right.

It needs nothing but the records of `models`, for a service carries it and imports little.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right

from pydantic import Field, model_validator

from models.types import Record


class CalibrationMap(Record):
    """A monotone map from an engine's probability to how often such words are right.

    Plain numbers and no array library, so that a service can carry it.
    """

    x: tuple[float, ...] = Field(min_length=1)
    """Probabilities at the knots, strictly rising."""
    y: tuple[float, ...]
    """Calibrated values at the knots, in [0, 1], never falling."""
    n: int
    """Words that it was fitted on."""
    fitted_on: str
    """Digest of those words' probabilities and outcomes."""

    @model_validator(mode="after")
    def _check(self) -> CalibrationMap:
        rising = all(a < b for a, b in itertools.pairwise(self.x))
        monotone = all(a <= b for a, b in itertools.pairwise(self.y))
        within = all(0.0 <= value <= 1.0 for value in (*self.x, *self.y))
        if len(self.x) != len(self.y) or not (rising and monotone and within):
            raise ValueError("knots must be as many in x and y, in [0, 1], x strictly rising and y never falling")
        return self

    def apply(self, probability: float) -> float:
        """Map one probability: linear between knots, constant beyond the outer ones."""
        after = bisect_right(self.x, probability)
        if after == 0:
            return self.y[0]
        if after == len(self.x):
            return self.y[-1]
        left, right = self.x[after - 1], self.x[after]
        share = (probability - left) / (right - left)
        return self.y[after - 1] + share * (self.y[after] - self.y[after - 1])
