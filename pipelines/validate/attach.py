"""Linking an evaluation to the validation of exactly its data: the page is laid beside the report, and so into MLflow."""

from __future__ import annotations

from pathlib import Path

from pipelines.home import Home, write_atomically
from pipelines.types import Evaluation
from pipelines.validate.result import newest_validation

NOT_VALIDATED = "not validated"


def page_name(corpus: str) -> str:
    """Name of the page of a corpus beside a report."""
    return f"validation-{corpus}.html"


def with_validations(home: Home, evaluation: Evaluation, folder: Path) -> Evaluation:
    """Say of each corpus of an evaluation what its newest validation found, and copy the page.

    Args:
        home: Where validations are kept.
        evaluation: What was evaluated.
        folder: Where its report will be.
    """
    found: dict[str, str] = {}
    for corpus, digest in evaluation.fingerprint.corpora.items():
        validation = newest_validation(home, corpus, digest, evaluation.data_version)
        if validation is None or not (page := Path(validation.page)).is_file():
            found[corpus] = NOT_VALIDATED
            continue
        found[corpus] = validation.verdict
        write_atomically(folder / page_name(corpus), page.read_bytes())
    return evaluation.model_copy(update={"validations": found})
