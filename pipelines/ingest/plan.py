"""From what a source names to lines of a manifest, and to the place that each recording gets in the corpus's folder."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.corpus import VOICE_KEYS, CorpusConfig
from pipelines.ingest.found import Found, SourceOptions
from pipelines.ingest.layouts import Source
from pipelines.manifest import record_of
from pipelines.prompts import Prompt
from pipelines.types import Utterance
from pipelines.validate.facts import Facts
from pipelines.validate.lines import Line, Lines
from pipelines.validate.store import FactsStore, stamp_of

AUDIO_FOLDER = "audio"
REFERENCE_KEY = "reference_audio_filepath"
NAME_BYTES = 255
"""What file systems allow."""


@dataclass(frozen=True)
class Planned:
    """One line of the corpus to be, and where its recording comes from."""

    line: Line
    """`Line.audio` is the file in the source."""
    target: str | None = None
    """Place in the corpus's folder; None for prompts, and where the line cannot be read."""
    voice: Mapping[str, Any] = field(default_factory=dict)
    """What the line says to voices, beside its recording."""
    reference: Path | None = None
    """A recording of the speaker whom a voice should sound like, in the source."""
    reference_target: str | None = None
    """Its place in the corpus's folder."""

    @property
    def files(self) -> Iterator[tuple[Path, str]]:
        """What is brought along: files of the source, and their places."""
        if self.line.audio is not None and self.target is not None:
            yield self.line.audio, self.target
        if self.reference is not None and self.reference_target is not None:
            yield self.reference, self.reference_target


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
        reference, place = self._reference(data)
        if found.audio is None:
            return Planned(Line(found.number, record_of(data, Prompt)), reference=reference, reference_target=place)
        audio, relative = self._inside(found.base, found.audio)
        target = _placed(relative)
        data["audio_filepath"] = str(target)
        data.setdefault("id", str(relative.with_suffix("")))
        if "duration" not in data:
            facts = self._facts(audio)
            # Zero where it cannot be told: what is wrong with the file is told by the suites, and nothing is written.
            data["duration"] = 0.0 if facts is None else round(facts.duration_s, 3)
        voice = {key: data.pop(key) for key in VOICE_KEYS if key in data}
        line = Line(found.number, record_of(data, Utterance), audio=audio)
        return Planned(line, str(target), voice, reference, place)

    def _reference(self, data: dict[str, Any]) -> tuple[Path | None, str | None]:
        """Resolve the recording of a speaker, where the line names one, and give it its place."""
        name = data.get(REFERENCE_KEY)
        if name is None:
            return None, None
        path, relative = self._inside(self._source.root, str(name))
        if not path.is_file():
            raise ValueError(f"{REFERENCE_KEY} {name!r} is not there")
        data[REFERENCE_KEY] = str(_placed(relative))
        return path, data[REFERENCE_KEY]

    def _with_options(self, given: Any) -> dict[str, Any]:
        data = dict(given)
        for key in ("language", "speaker", "source"):
            value = getattr(self._options, key)
            if value is not None and not data.get(key):
                data[key] = value
        if self._options.tags:
            data["tags"] = {**(data.get("tags") or {}), **self._options.tags}
        return data

    def _inside(self, base: Path | None, name: str) -> tuple[Path, PurePosixPath]:
        """Resolve a recording's path, which must stay in the source whatever it is made of."""
        assert base is not None
        if (why := _bad_name(name)) is not None:
            raise ValueError(f"the path {name!r} {why}")
        path = (base / name).resolve()
        for root in self._roots:
            if path.is_relative_to(root) and path != root:
                return path, PurePosixPath(path.relative_to(root))
        raise ValueError(f"the path {name!r} leaves the folder {self._source.root.name}; allow another folder with --audio")

    def _facts(self, audio: Path) -> Facts | None:
        if self._store is None:
            return None
        try:
            digest = self._store.digest_of(audio, stamp_of(audio))
            return None if digest is None else self._store.facts(digest)
        except (OSError, KeyError):
            return None


def _placed(relative: PurePosixPath) -> PurePosixPath:
    return relative if relative.parts[0] == AUDIO_FOLDER else PurePosixPath(AUDIO_FOLDER) / relative


def _bad_name(name: str) -> str | None:
    """Say why a path is not taken over; None if it can be."""
    if not name:
        return "is empty"
    if any(unicodedata.category(char) in ("Cc", "Cs", "Cf") or char == "\\" for char in name):
        return "has control characters, backslashes, or bytes that are no UTF-8"
    if any(len(part.encode()) > NAME_BYTES for part in PurePosixPath(name).parts):
        return f"has a name of more than {NAME_BYTES} bytes"
    return None


def manifest_line(planned: Planned) -> str:
    """Write a line of a manifest, without what has its default."""
    row = planned.line.row
    assert row is not None
    data = row.model_dump(exclude_defaults=True)
    ordered = {key: data[key] for key in type(row).model_fields if key in data}
    return json.dumps({**ordered, **planned.voice}, ensure_ascii=False) + "\n"
