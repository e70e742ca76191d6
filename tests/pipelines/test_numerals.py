import math

import pytest

from pipelines.numerals import significant


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (1623.4, 2, False, "1600"),
        (-1054.0, 3, True, "-1050"),
        (0.0896, 3, True, "+0.0896"),
        (2.0, 3, False, "2"),
        (5.0, 3, True, "+5"),
        (0.00001234, 3, False, "0.0000123"),
        (0.0, 3, True, "+0"),
        (math.inf, 3, True, "+inf"),
    ],
)
def test_numbers_are_rounded_and_written_out(value: float, digits: int, signed: bool, text: str) -> None:
    assert significant(value, digits, signed=signed) == text
