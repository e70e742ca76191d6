"""Corpora: a folder with ``manifest.jsonl`` and a short ``corpus.yaml``, read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import ValidationError

from models.errors import CorpusError, unknown_name
from models.types import Record, Task
from pipelines.manifest import MANIFEST, S, Sliceable, json_object, read_lines, record_of
from pipelines.normalize import find_normalizer
from pipelines.types import Utterance

CONFIG = "corpus.yaml"
DERIVED = Path("results", "corpora")
"""Where corpora made from others lie, relative to the project: outside ``data/``, all of which is one output of DVC."""
VOICE_KEYS = frozenset({"spoken", "reference_audio_filepath"})
"""Keys of a line that are about voices alone."""


class NormalizerRule(Record):
    """Names the normalizer of the utterances whose tags (or language, speaker) all match."""

    when: dict[str, str]
    use: str


class NormalizerChoice(Record):
    """Which normalizer each utterance of a corpus goes through."""

    default: str
    rules: tuple[NormalizerRule, ...] = ()

    def of(self, utterance: Sliceable) -> str:
        """Name of the preset for one utterance: the first matching rule's, else the default."""
        facets = slice_facets(utterance)
        for rule in self.rules:
            if all(facets.get(key) == value for key, value in rule.when.items()):
                return rule.use
        return self.default


class CorpusConfig(Record):
    """``corpus.yaml``."""

    name: str = ""
    tasks: tuple[Task, ...] = ("asr",)
    normalizer: NormalizerChoice | str = "basic"
    licence: str = "unknown"
    description: str = ""
    apart_from: tuple[str, ...] = ()
    """Corpora that must not share speakers with this one, such as what a model was trained on."""
    validation: dict[str, Any] = {}
    """What differs for this corpus from ``validation`` in ``params.yaml``; see `pipelines.validate.limits`."""

    @property
    def normalizers(self) -> NormalizerChoice:
        """The choice, also where the file gives just a name."""
        if isinstance(self.normalizer, str):
            return NormalizerChoice(default=self.normalizer)
        return self.normalizer


@dataclass(frozen=True)
class Corpus:
    """One corpus in memory: its settings and its manifest, no audio."""

    folder: Path
    config: CorpusConfig
    utterances: tuple[Utterance, ...]

    @property
    def name(self) -> str:
        """Name of the corpus: its folder's."""
        return self.folder.name

    def audio_path(self, utterance: Utterance) -> Path:
        """Absolute path of a recording."""
        return self.folder / utterance.audio_filepath


def slice_facets(utterance: Sliceable) -> dict[str, str]:
    """Everything an utterance can be sliced by: its tags, language and speaker."""
    return {**utterance.tags, "language": utterance.language, "speaker": utterance.speaker}


def list_corpora(data: Path) -> list[str]:
    """Names of the corpora under ``data/``, sorted."""
    if not data.is_dir():
        return []
    # A folder with a dot in front is a corpus that is being put together.
    return sorted(child.name for child in data.iterdir() if child.name[0] != "." and (child / MANIFEST).is_file())


def find_corpus(name: str, data: Path, slices: Sequence[tuple[str, str]] = ()) -> Corpus:
    """Read the corpus of this name under ``data/``, or of this path; of a slice, its utterances only.

    Raises:
        CorpusError: It does not exist, cannot be read, holds prompts instead of recordings, or the slice is empty.
    """
    folder = corpus_folder(name, data)
    corpus = read_corpus(folder, slices)
    if slices and not corpus.utterances:
        select(read_corpus(folder).utterances, slices)  # says which key or value does not occur, and what there is
    return corpus


def corpus_folder(name: str, data: Path) -> Path:
    """Find the folder of a corpus by its name under ``data/``, else among the derived ones, or by its path.

    Raises:
        CorpusError: It does not exist.
    """
    folder = data / name
    if "/" in name or name.startswith("."):
        folder = Path(name).expanduser().resolve()
        if not (folder / MANIFEST).is_file():
            raise CorpusError(f"The folder {name} has no {MANIFEST}.", "See docs/corpora.md for a corpus's layout.")
    elif not (folder / MANIFEST).is_file():
        derived = data.parent / DERIVED
        if (derived / name / MANIFEST).is_file():
            return derived / name
        available = [*list_corpora(data), *list_corpora(derived)]
        message, remedy = unknown_name("corpus", name, available)
        if not available:
            remedy = f"{data} holds no corpora: run `dvc pull` first."
        raise CorpusError(message, remedy)
    return folder


def corpus_tasks(folder: Path) -> tuple[Task, ...]:
    """Say what a corpus is for, without reading its manifest."""
    return read_config(folder).tasks


def read_corpus(folder: Path, slices: Sequence[tuple[str, str]] = ()) -> Corpus:
    """Read a corpus's settings and manifest.

    Args:
        folder: The corpus.
        slices: ``key=value`` pairs; only utterances that match all are kept in memory, and there may be none.

    Raises:
        CorpusError: A line is broken, an id occurs twice, a path leaves the folder, or the settings are wrong. Up to
            five faults are named with their lines.
    """
    config = read_config(folder)
    if config.tasks == ("tts",):
        raise CorpusError(f"{folder.name} holds prompts, not recordings.", "Name a corpus with the task asr.")

    def matches(utterance: Utterance) -> bool:
        facets = slice_facets(utterance)
        return all(facets.get(key) == value for key, value in slices)

    return Corpus(folder, config, read_lines(folder / MANIFEST, parse_line, matches if slices else None))


def parse_line(line: str) -> Utterance:
    """Read one line of a manifest.

    ``audio_filepath``, ``duration`` and ``text`` are NeMo's required keys. ``id`` defaults to the path without its
    ending and ``lang`` is taken for ``language``; other keys of plain values become tags, so that manifests made for
    other tools work as they are.

    Raises:
        ValueError: With what was found and what was expected.
    """
    return utterance_of(json_object(line))


def utterance_of(data: Mapping[str, Any]) -> Utterance:
    """Make an utterance of a line's keys; see `parse_line`."""
    # Written for voices (`pipelines.prompts`), where a corpus is for both tasks; as tags they would be a slice a line.
    utterance = record_of({key: value for key, value in data.items() if key not in VOICE_KEYS}, Utterance)
    if not utterance.duration:
        raise ValueError("duration: Input should be greater than 0 (found 0)")
    check_inside("audio_filepath", utterance.audio_filepath)
    return utterance


def check_inside(key: str, text: str) -> None:
    """Hold a path in a manifest to the corpus's folder.

    Raises:
        ValueError: It names no file, or leaves the folder.
    """
    path = PurePosixPath(text)
    if not path.name:
        raise ValueError(f"{key} {text!r} names no file")
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{key} {text!r} leaves the corpus's folder; give a path relative to it")


def read_config(folder: Path, *, anywhere: bool = False) -> CorpusConfig:
    """Read ``corpus.yaml``; without one, the defaults hold.

    Args:
        folder: The corpus.
        anywhere: Whether the folder may have another name than the corpus: it is about to be added.

    Raises:
        CorpusError: A field is wrong, or a normalizer does not exist.
    """
    path = folder / CONFIG
    if not path.is_file():
        return CorpusConfig(name=folder.name)
    try:
        config = CorpusConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise CorpusError(
            f"{folder.name}/{CONFIG} is wrong: {_first_fault(error)}.", "See docs/corpora.md for its fields."
        ) from error
    if not anywhere and config.name not in ("", folder.name):
        raise CorpusError(
            f"{folder.name}/{CONFIG} names the corpus {config.name!r}.",
            "Rename the folder, or correct the file.",
        )
    for preset in (config.normalizers.default, *(rule.use for rule in config.normalizers.rules)):
        try:
            find_normalizer(preset)
        except CorpusError as error:
            raise CorpusError(f"{folder.name}/{CONFIG}: {error.message}", error.remedy) from error
    return config


def _first_fault(error: yaml.YAMLError | ValidationError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return " ".join(str(error).split())


def parse_slice(text: str) -> tuple[str, str]:
    """Split ``key=value``.

    Raises:
        CorpusError: There is no ``=`` or a side is empty.
    """
    key, _, value = text.partition("=")
    if not key or not value:
        raise CorpusError(f"{text!r} is not a slice.", "Write it as key=value, for example domain=digits.")
    return key, value


def select(utterances: Iterable[S], slices: Sequence[tuple[str, str]]) -> list[S]:
    """Keep the utterances that match every ``key=value``.

    Raises:
        CorpusError: A key does not occur, or nothing is left; what there is is named.
    """
    kept = list(utterances)
    for key, value in slices:
        values = {facets[key] for utterance in kept if key in (facets := slice_facets(utterance))}
        if not values:
            keys = {name for utterance in kept for name in slice_facets(utterance)}
            raise CorpusError(*unknown_name("slice key", key, keys))
        if value not in values:
            raise CorpusError(*unknown_name(f"value of {key}", value, values))
        kept = [utterance for utterance in kept if slice_facets(utterance).get(key) == value]
    return kept


def corpus_digest(utterances: Iterable[Utterance], audio_sha256: Mapping[str, str]) -> str:
    """Digest of what an evaluation rests on: the audio's bytes and everything scored or sliced by.

    Independent of order, of file names and of corpora beside this one.
    """
    return digest_of_rows(digest_row(u, audio_sha256[u.id]) for u in utterances)


def digest_row(utterance: Utterance, audio_sha256: str) -> str:
    """What `corpus_digest` takes of one utterance."""
    u = utterance
    # What pairs a variant with its original is added only where there is something, so that old digests hold.
    pair = [u.variant_of] if u.variant_of else []
    row = [u.id, audio_sha256, u.text, u.language, u.speaker, sorted(u.tags.items()), *pair]
    return json.dumps(row, ensure_ascii=False)


def digest_of_rows(rows: Iterable[str]) -> str:
    """Digest of what `digest_row` gives for each utterance, in any order."""
    return hashlib.sha256("\n".join(sorted(rows)).encode("utf-8")).hexdigest()
