"""What a validation found: the record that is kept, printed, and linked from evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from models.types import Record
from pipelines.home import Home
from pipelines.validate.limits import Severity, ValidationLimits

RESULT = "validation.json"
PAGE = "validation.html"


class Example(Record):
    """One unexpected value."""

    id: str
    """The utterance, or the line that cannot be read."""
    found: str
    """What was found there."""


class ExpectationResult(Record):
    """One expectation, as it came out."""

    name: str
    suite: str
    severity: Severity
    success: bool
    checked: int
    """Values that it asked about."""
    unexpected: int
    """How many were not as expected."""
    examples: tuple[Example, ...]
    """The first few of them."""
    description: str
    remedy: str

    @property
    def sentence(self) -> str:
        """What is wrong, where, and what to do."""
        shown = "; ".join(f"{example.id}: {example.found.rstrip('.')}" for example in self.examples)
        more = f" (and {self.unexpected - len(self.examples)} more)" if self.unexpected > len(self.examples) else ""
        return f"{self.name}: {self.unexpected} of {self.checked}: {shown}{more}. {self.remedy}"


class Validation(Record):
    """One validation of one corpus. `corpus validate --json` prints it."""

    corpus: str
    valid: bool
    """Whether no expectation of severity error failed."""
    errors: int
    """Expectations of severity error that failed."""
    warnings: int
    """Expectations of severity warning that failed."""
    expectations: tuple[ExpectationResult, ...]
    utterances: int
    """Lines of the manifest."""
    minutes: float
    """Of audio that decodes."""
    speakers: int
    digest: str
    """Of the corpus, as in an evaluation's fingerprint; empty where a part of it cannot be used."""
    data_version: str
    """DVC's hash of ``data/``, with ``+modified`` where the working tree differs."""
    measured: int
    """Recordings that were decoded in this run."""
    reused: int
    """Recordings that have not changed since they were measured."""
    limits: ValidationLimits
    page: str
    """Path of the Data Docs page."""
    created_at: str
    """ISO 8601, UTC."""

    @property
    def failed(self) -> tuple[ExpectationResult, ...]:
        """What came out not as expected, errors first."""
        return tuple(sorted((e for e in self.expectations if not e.success), key=lambda e: e.severity))

    @property
    def verdict(self) -> str:
        """``valid``, ``valid with warnings`` or ``invalid``."""
        return "invalid" if not self.valid else "valid with warnings" if self.warnings else "valid"


def validations_of(home: Home, corpus: str) -> Iterator[Validation]:
    """Give the kept validations of a corpus, the newest first; what another version wrote is passed over."""
    paths = sorted((home.validations / corpus).glob(f"*/{RESULT}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            yield Validation.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (ValidationError, ValueError, OSError):
            continue


def newest_validation(home: Home, corpus: str, digest: str, data_version: str) -> Validation | None:
    """Find the newest validation of exactly this data: by the corpus's digest, or by the data version if it is clean.

    The digest of an evaluation of a part of a corpus is that part's; the data version then says that it is the same data.
    """
    for validation in validations_of(home, corpus):
        clean = "+" not in data_version and data_version not in ("", "untracked")
        if validation.digest == digest or (clean and validation.data_version == data_version):
            return validation
    return None


def folder_of(home: Home, corpus: str, run: str) -> Path:
    """Where one validation is kept."""
    return home.validations / corpus / run
