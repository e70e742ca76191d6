"""`modellab corpus validate`: measure what changed, fill the tables, run the suites, keep the result and its page."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models.errors import CorpusError, unknown_name
from pipelines.corpus import CorpusConfig, corpus_folder, list_corpora, read_config
from pipelines.dataversion import data_version
from pipelines.home import Home, write_atomically
from pipelines.lab import Lab
from pipelines.progress import listener
from pipelines.validate.limits import ValidationLimits, read_limits
from pipelines.validate.lines import Lines, is_prompts, lines_of
from pipelines.validate.measure import Counts, measure_missing
from pipelines.validate.result import PAGE, RESULT, Validation, folder_of
from pipelines.validate.store import FactsStore
from pipelines.validate.tables import Contents, Context, fill, mark_shared, speakers_of


@dataclass(frozen=True)
class Subject:
    """A corpus to be validated: one under ``data/``, or one that is about to be added."""

    name: str
    config: CorpusConfig
    lines: Lines
    count: int
    """Lines there are, for progress."""
    measured: Counts | None = None
    """What was measured of its recordings just now; None to measure them."""


def facts_path(home: Home) -> Path:
    """Where the measures of recordings are kept."""
    return home.validations / "facts.sqlite"


def validate_corpus(lab: Lab, name: str) -> Validation:
    """Validate a corpus under ``data/``, or one by its path.

    Raises:
        CorpusError: It does not exist, or its ``corpus.yaml`` is wrong.
        PolicyError: The limits are wrong.
        StateError: Great Expectations is missing, or the home cannot be written.
    """
    folder = corpus_folder(name, lab.data)
    config = read_config(folder)
    lines = lines_of(folder, config)
    return validate(lab, Subject(folder.name, config, lines, sum(1 for _ in lines())))


def validate(lab: Lab, subject: Subject) -> Validation:
    """Validate what is described; see `validate_corpus`."""
    limits = read_limits(lab.params, subject.config)
    apart = _apart(lab, subject)
    say = listener.get().say
    with FactsStore(facts_path(lab.home)) as store, tempfile.TemporaryDirectory(prefix="modellab-validate-") as scratch:
        counts = subject.measured or Counts()
        if subject.measured is None and not is_prompts(subject.config):
            counts = measure_lines(lab, subject.lines, store, f"{subject.name}: recordings", subject.count)
        database = Path(scratch) / "tables.sqlite"
        contents = fill(database, subject.lines, Context(subject.config, limits, store, apart))
        if not is_prompts(subject.config):
            _compare_with_others(lab, subject, store, database)
        say(f"{subject.name}: {contents.lines} lines held to the suites")
        return _conclude(lab, subject, limits, counts, contents, database)


def measure_lines(lab: Lab, lines: Lines, store: FactsStore, what: str, total: int) -> Counts:
    """Measure the recordings of these lines that were not measured before."""
    paths = (line.audio for line in lines() if line.audio is not None)
    return measure_missing(paths, store, lab.layout.workers, what, total)


def _compare_with_others(lab: Lab, subject: Subject, store: FactsStore, database: Path) -> None:
    others: dict[str, Lines] = {}
    for name in list_corpora(lab.data):
        folder = lab.data / name
        config = read_config(folder)
        if name != subject.name and not is_prompts(config):
            others[name] = lines_of(folder, config)
            total = sum(1 for _ in others[name]())
            measure_lines(lab, others[name], store, f"{name}: recordings, for comparison", total)
    mark_shared(database, others, store)


def _apart(lab: Lab, subject: Subject) -> Mapping[str, str]:
    """Speaker → corpus, of the corpora that this one must be kept apart from."""
    speakers: dict[str, str] = {}
    for name in subject.config.apart_from:
        known = [other for other in list_corpora(lab.data) if other != subject.name]
        if name not in known:
            message, remedy = unknown_name("corpus", name, known)
            raise CorpusError(f"apart_from of {subject.name}: {message}", remedy)
        folder = lab.data / name
        speakers |= dict.fromkeys(speakers_of(lines_of(folder, read_config(folder))), name)
    return speakers


def _conclude(
    lab: Lab, subject: Subject, limits: ValidationLimits, counts: Counts, contents: Contents, database: Path
) -> Validation:
    from pipelines.validate.page import render_page
    from pipelines.validate.run import run_suites

    if not contents.lines:
        raise CorpusError(f"{subject.name} has no utterances.", "Add at least one line to its manifest.")
    suites = ["manifest"] if is_prompts(subject.config) else ["manifest", "audio"]
    checked = run_suites(database, suites, limits, subject.name)
    results = tuple(result for suite in checked for result in suite.results)
    failed = [result.severity for result in results if not result.success]
    now = datetime.now(UTC)
    folder = folder_of(lab.home, subject.name, f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}")
    validation = Validation(
        corpus=subject.name,
        valid="error" not in failed,
        errors=failed.count("error"),
        warnings=failed.count("warning"),
        expectations=results,
        utterances=contents.lines,
        minutes=round(contents.seconds / 60, 2),
        speakers=len(contents.speakers),
        digest=contents.digest,
        data_version=data_version(lab.project),
        measured=counts.measured,
        reused=counts.reused,
        limits=limits,
        page=str(folder / PAGE),
        created_at=now.isoformat(timespec="seconds"),
    )
    write_atomically(folder / PAGE, render_page(validation, [suite.native for suite in checked]))
    write_atomically(folder / RESULT, validation.model_dump_json(indent=2))
    return validation
