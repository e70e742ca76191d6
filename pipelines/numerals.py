"""How numbers are written in sentences that people read."""

from __future__ import annotations

import math
from decimal import Decimal


def significant(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """Round to significant digits and write it out: 1600, never 1.6e+03, and no more digits than are meant."""
    if not math.isfinite(value):
        return f"{value:+g}" if signed else f"{value:g}"
    return format(Decimal(f"{value:.{digits}g}"), "+f" if signed else "f")
