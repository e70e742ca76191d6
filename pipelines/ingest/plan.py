"""From what a source names to lines of a manifest, and to the place that each recording gets in the corpus's folder."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.corpus import CorpusConfig
from pipelines.ingest.found import Found, SourceOptions
from pipelines.ingest.layouts import Source
from pipelines.manifest import record_of
from pipelines.prompts import Prompt
from pipelines.types import Utterance
from pipelines.validate.facts import Facts
from pipelines.validate.lines import Line, Lines
from pipelines.validate.store import FactsStore, stamp_of

AUDIO_FOLDER = "audio"
NAME_BYTES = 255
"""What file systems allow."""


@dataclass(frozen=True)
class Planned:
    """One line of the corpus to be, and where its recording comes from."""

    line: Line
    """`Line.audio` is the file in the source."""
    target: str | None = None
    """Place in the corpus's folder; None for prompts, and where the line cannot be read."""


class Plan:
    """The lines of a source, read anew each time, so that they need not be held in memory."""

    def __init__(self, source: Source, options: SourceOptions, config: CorpusConfig, store: FactsStore | None) -> None:
        """Take the source; nothing is read yet.

        Args:
            source: What was found.
            options: What the user says of it.
            config: The corpus's settings.
            store: Measures of recordings, for durations that the source does not declare.
        """
        self._source = source
        self._options = options
        self._config = config
        self._store = store
        allowed = [source.root, *([options.audio.resolve()] if options.audio else [])]
        self._roots = tuple(allowed)

    def rows(self) -> Iterator[Planned]:
        """Give the lines."""
        for found in self._source.read():
            try:
                yield self._planned(found)
            except ValueError as error:
                yield Planned(Line(found.number, None, str(error)))

    @property
    def lines(self) -> Lines:
        """The lines, as validation takes them."""
        return lambda: (planned.line for planned in self.rows())

    def _planned(self, found: Found) -> Planned:
        if found.fault is not None:
            raise ValueError(found.fault)
        data = self._with_options(found.data)
        if found.audio is None:
            return Planned(Line(found.number, record_of(data, Prompt)))
        audio, relative = self._inside(found)
        target = relative if relative.parts[0] == AUDIO_FOLDER else PurePosixPath(AUDIO_FOLDER) / relative
        data["audio_filepath"] = str(target)
        data.setdefault("id", str(relative.with_suffix("")))
        if "duration" not in data:
            facts = self._facts(audio)
            # Zero where it cannot be told: what is wrong with the file is told by the suites, and nothing is written.
            data["duration"] = 0.0 if facts is None else round(facts.duration_s, 3)
        return Planned(Line(found.number, record_of(_spared(data), Utterance), audio=audio), str(target))

    def _with_options(self, given: Any) -> dict[str, Any]:
        data = dict(given)
        for key in ("language", "speaker", "source"):
            value = getattr(self._options, key)
            if value is not None and not data.get(key):
                data[key] = value
        if self._options.tags:
            data["tags"] = {**(data.get("tags") or {}), **self._options.tags}
        return data

    def _inside(self, found: Found) -> tuple[Path, PurePosixPath]:
        """Resolve a recording's path, which must stay in the source whatever it is made of."""
        assert found.audio is not None and found.base is not None
        if (why := _bad_name(found.audio)) is not None:
            raise ValueError(f"the path {found.audio!r} {why}")
        path = (found.base / found.audio).resolve()
        for root in self._roots:
            if path.is_relative_to(root) and path != root:
                # Named as the source names it where that stays inside, so that links within it keep their names.
                return path, PurePosixPath(path.relative_to(root))
        raise ValueError(
            f"the path {found.audio!r} leaves the folder {self._source.root.name}; allow another folder with --audio"
        )

    def _facts(self, audio: Path) -> Facts | None:
        if self._store is None:
            return None
        try:
            digest = self._store.digest_of(audio, stamp_of(audio))
            return None if digest is None else self._store.facts(digest)
        except (OSError, KeyError):
            return None


def _spared(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is written for voices, as `pipelines.corpus.utterance_of` does."""
    return {key: value for key, value in data.items() if key != "spoken"}


def _bad_name(name: str) -> str | None:
    """Say why a path is not taken over; None if it can be."""
    if not name:
        return "is empty"
    if any(unicodedata.category(char) in ("Cc", "Cs", "Cf") or char == "\\" for char in name):
        return "has control characters, backslashes, or bytes that are no UTF-8"
    if any(len(part.encode()) > NAME_BYTES for part in PurePosixPath(name).parts):
        return f"has a name of more than {NAME_BYTES} bytes"
    return None


def manifest_line(row: Utterance | Prompt) -> str:
    """Write a line of a manifest, without what has its default."""
    data = row.model_dump(exclude_defaults=True)
    order = list(type(row).model_fields)
    return json.dumps({key: data[key] for key in order if key in data}, ensure_ascii=False) + "\n"
