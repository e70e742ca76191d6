"""The suites of expectations as the repository keeps them: ``suites/manifest.yaml`` and ``suites/audio.yaml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from models.types import Record
from pipelines.validate.limits import Severity

SUITES = ("manifest", "audio")
_FOLDER = Path(__file__).parent / "suites"


class Expectation(Record):
    """One check, as Great Expectations runs it and as a person reads it."""

    name: str
    """What results and ``validation.severity`` call it."""
    type: Literal[
        "expect_column_values_to_be_null",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_in_set",
    ]
    column: str
    severity: Severity
    """An error stops, a warning is recorded."""
    description: str
    """What is expected, in a sentence."""
    remedy: str
    """What to do where it is not so."""
    min: str | float | None = None
    """A number, or the field of `pipelines.validate.limits.ValidationLimits` that has it."""
    max: str | float | None = None
    set: str | None = None
    """The field of the limits that lists what is allowed."""
    show: str = "{value}"
    """Words for one unexpected value."""


class Suite(Record):
    """The expectations about one table, which has the suite's name."""

    name: str
    expectations: tuple[Expectation, ...]


@cache
def read_suite(name: str) -> Suite:
    """Read a suite of the repository."""
    return Suite.model_validate(yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


@cache
def expectation_names() -> tuple[str, ...]:
    """Names of all expectations of all suites."""
    return tuple(expectation.name for name in SUITES for expectation in read_suite(name).expectations)
