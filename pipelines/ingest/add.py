"""`modellab corpus add`: from a folder of any known layout to a validated, versioned corpus under ``data/``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import yaml
from filelock import FileLock, Timeout

from models.errors import CorpusError, StateError
from models.types import Record
from pipelines.corpus import CONFIG, CorpusConfig, list_corpora, read_config
from pipelines.ingest.difference import Difference, Inventory, difference
from pipelines.ingest.found import SourceOptions
from pipelines.ingest.layouts import Source, find_source
from pipelines.ingest.plan import Plan
from pipelines.ingest.staging import open_staging, prune, publish, stage_recordings, staging_folder, write_manifest
from pipelines.lab import Lab
from pipelines.manifest import MANIFEST
from pipelines.progress import listener
from pipelines.validate.check import Subject, facts_path, measure_lines, validate
from pipelines.validate.lines import Line, Lines, is_prompts, lines_of
from pipelines.validate.measure import Counts
from pipelines.validate.result import Validation
from pipelines.validate.store import FactsStore, stamp_of
from pipelines.versions import commit, git_steps, is_versioned, track

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
REMEMBERED = 1000
"""Places of recordings written to the store at a time."""


class AddRequest(Record):
    """What to add, as typed on the command line."""

    folder: Path
    name: str
    options: SourceOptions = SourceOptions()
    settings: dict[str, object] = {}
    """Fields of ``corpus.yaml``: licence, description, normalizer, apart_from."""
    link: bool = False
    """Links instead of copies."""
    update: bool = False
    """A new version of a corpus that is there."""
    dry_run: bool = False
    """Find and validate only."""
    commit: bool = False
    """Do the git step as well."""


class Added(Record):
    """What came of it. `corpus add --json` prints it."""

    corpus: str
    status: Literal["added", "updated", "unchanged", "refused", "checked"]
    """refused: the validation found errors; checked: a dry run."""
    layout: str
    evidence: str
    """What told the layout."""
    validation: Validation | None
    difference: Difference | None
    """Of an update."""
    data_version: str | None
    """The new version; None where there is none, or the project is not under DVC."""
    git: tuple[str, ...]
    """What is left to do, as commands."""
    commit: str | None
    """The commit, where one was asked for."""
    detectable: float | None = None
    """Smallest difference in word error rate that it can detect, as a ratio; None for prompts and too few speakers."""
    power: str = ""
    """The same in a sentence, with what it rests on."""


def add_corpus(lab: Lab, request: AddRequest) -> Added:
    """Add a corpus, or make a new version of one.

    Nothing appears under ``data/`` before the whole of it is there and valid. Killed at any moment, the same command goes
    on: recordings that were measured or copied are not measured or copied again.

    Raises:
        CorpusError: The layout is not known or not clear, the name cannot be used, or the corpus is there already.
        StateError: The disk, DVC or git refuses.
    """
    target = _target(lab, request)
    source = find_source(request.folder.expanduser(), request.options)
    listener.get().say(f"{request.folder} is {source.layout}: {source.evidence}")
    config = _settings(request, source, target)
    with _alone(lab, request.name), FactsStore(facts_path(lab.home)) as store:
        plan = Plan(source, request.options, config, store)
        count = sum(1 for _ in plan.rows())
        counts = Counts() if source.prompts else measure_lines(lab, plan.lines, store, "recordings read", count)
        there = (target / MANIFEST).is_file()
        changes = _changes(lab, target, plan, store, config) if there else None
        if changes is not None and changes.is_empty and not _settings_differ(target, config):
            return _finish(lab, request, source, None, changes, "unchanged")
        if there and not request.update and not request.dry_run:
            assert changes is not None
            raise CorpusError(
                f"There is a corpus {request.name} already, and it differs ({'; '.join(changes.lines())}).",
                "Choose another name, or make a new version of it with --update.",
            )
        validation = validate(lab, Subject(request.name, config, plan.lines, count, counts))
        if not validation.valid:
            return _answer(request, source, validation, changes, "refused")
        if request.dry_run:
            return _answer(request, source, validation, changes, "checked")
        _put(lab, request, source, plan, config, store, count, target)
        added = _finish(lab, request, source, validation, changes, "updated" if there else "added")
        _remember(plan, target, store)
        return added if source.prompts else _with_power(lab, added)


def _with_power(lab: Lab, added: Added) -> Added:
    """Say what the corpus can tell, before anyone relies on it."""
    from pipelines.policy import read_policy
    from pipelines.power import corpus_power

    report = corpus_power(lab.data / added.corpus, lab.home, read_policy(lab.params))
    if report.detectable is None:
        told = f"With {report.speakers} speakers nothing can be planned: add recordings of more people."
    else:
        told = (
            f"With {report.recordings} recordings of speech by {report.speakers} speakers it can detect a difference of "
            f"{100 * report.detectable:.2g} points of WER (power {100 * report.power:.0f}%), planned from {report.basis}."
        )
    return added.model_copy(update={"detectable": report.detectable, "power": told})


def _target(lab: Lab, request: AddRequest) -> Path:
    if not _NAME.fullmatch(request.name):
        raise CorpusError(
            f"{request.name!r} cannot be a corpus's name.",
            "Use up to 100 letters, digits, dots, underscores and hyphens, a letter or digit first.",
        )
    target = lab.data / request.name
    if request.update and not (target / MANIFEST).is_file():
        there = ", ".join(list_corpora(lab.data)) or "none"
        raise CorpusError(f"There is no corpus {request.name} to update.", f"Leave --update out, or name one of: {there}.")
    if target.exists() and not (target / MANIFEST).is_file():
        raise CorpusError(f"data/{request.name} is there and is no corpus.", "Choose another name, or move it away.")
    if target.resolve() == request.folder.expanduser().resolve():
        raise CorpusError(
            f"{request.folder} lies under data/ already.", "It can be used as it is: see `modellab corpus validate`."
        )
    return target


def _settings(request: AddRequest, source: Source, target: Path) -> CorpusConfig:
    """The corpus's settings: what is typed, else the source's own file, else what the version before had."""
    base: dict[str, object] = {}
    if (source.root / CONFIG).is_file():
        base = read_config(source.root, anywhere=True).model_dump(exclude_defaults=True)
    elif (target / CONFIG).is_file():
        base = read_config(target).model_dump(exclude_defaults=True)
    if source.prompts:
        base["tasks"] = ("tts",)
    return CorpusConfig.model_validate({**base, **request.settings, "name": request.name})


@contextmanager
def _alone(lab: Lab, name: str) -> Iterator[None]:
    """Keep two additions of one name apart."""
    folder = lab.home.root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"adding-{name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise StateError(f"Another process is adding {name}.", "Wait for it, or end it.") from error


def _changes(lab: Lab, target: Path, plan: Plan, store: FactsStore, config: CorpusConfig) -> Difference:
    old_lines = lines_of(target, read_config(target))
    if not is_prompts(config):
        measure_lines(lab, old_lines, store, "recordings of the version before", sum(1 for _ in old_lines()))
    return difference(_inventory(old_lines, store), _inventory(plan.lines, store))


def _inventory(lines: Lines, store: FactsStore) -> Inventory:
    inventory = Inventory()
    for line in lines():
        if line.row is not None:
            inventory.add(line.row, _digest(line, store))
    return inventory


def _digest(line: Line, store: FactsStore) -> str:
    if line.audio is None:
        return ""
    try:
        return store.digest_of(line.audio, stamp_of(line.audio)) or ""
    except OSError:
        return ""


def _settings_differ(target: Path, config: CorpusConfig) -> bool:
    return read_config(target) != config


def _put(
    lab: Lab,
    request: AddRequest,
    source: Source,
    plan: Plan,
    config: CorpusConfig,
    store: FactsStore,
    count: int,
    target: Path,
) -> None:
    staging = staging_folder(lab.data, request.name)
    identity = json.dumps([str(source.root), source.layout, request.link, request.options.model_dump(mode="json")])
    open_staging(staging, identity)
    kept = stage_recordings(staging, plan, store, link=request.link, total=count)
    write_manifest(staging, plan)
    document = config.model_dump(mode="json", exclude_defaults=True)
    (staging / CONFIG).write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    prune(staging, {*kept, MANIFEST, CONFIG, ".source"})
    publish(staging, target)


def _remember(plan: Plan, target: Path, store: FactsStore) -> None:
    """Note where the recordings lie now, so that the next validation reads none of them."""
    seen = []
    for planned in plan.rows():
        if planned.target is None or not (digest := _digest(planned.line, store)):
            continue
        path = target / planned.target
        seen.append((path, stamp_of(path), digest))
        if len(seen) >= REMEMBERED:
            store.remember(seen)
            seen = []
    store.remember(seen)


def _finish(
    lab: Lab,
    request: AddRequest,
    source: Source,
    validation: Validation | None,
    changes: Difference | None,
    status: Literal["added", "updated", "unchanged"],
) -> Added:
    """Make it a version, and do or tell the git step; also for what an earlier, killed run had put in place."""
    if request.dry_run or not is_versioned(lab.project):
        return _answer(request, source, validation, changes, status)
    version = track(lab.project)
    message = f"{'Update' if status == 'updated' else 'Add'} the corpus {request.name}"
    made = commit(lab.project, message) if request.commit else None
    left = () if made else git_steps(lab.project, message)
    return _answer(request, source, validation, changes, status, version, left, made)


def _answer(
    request: AddRequest,
    source: Source,
    validation: Validation | None,
    changes: Difference | None,
    status: Literal["added", "updated", "unchanged", "refused", "checked"],
    version: str | None = None,
    git: tuple[str, ...] = (),
    made: str | None = None,
) -> Added:
    return Added(
        corpus=request.name,
        status=status,
        layout=source.layout,
        evidence=source.evidence,
        validation=validation,
        difference=changes,
        data_version=version,
        git=git,
        commit=made,
    )
