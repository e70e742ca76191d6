"""What a reader of a layout gives for each recording, and what is told to all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import CorpusError
from models.types import Record

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus"})
LINE_CHARACTERS = 1 << 20
"""A line of a list beyond this is refused."""
TAG_CHARACTERS = 100
"""A longer value is no slice."""
SPEAKER_KEYS = ("speaker", "speaker_id", "speaker_name", "client_id", "spk")
LANGUAGE_KEYS = ("language", "lang", "locale")
LICENCE_KEYS = ("license", "licence")
TEXT_KEYS = ("transcription", "text", "sentence", "transcript", "normalized_text", "raw_text")
NO_SLICES = frozenset(
    {"file_name", "path", "id", "source", "duration", "up_votes", "down_votes", "sentence_id", "sentence_domain", "segment"}
)
"""Columns that are read otherwise, or that would make a slice a line."""


class SourceOptions(Record):
    """What a user says of a folder that it does not say itself."""

    layout: str | None = None
    """One of `pipelines.ingest.layouts.LAYOUTS`, instead of looking."""
    split: str | None = None
    """Which list of several, such as Common Voice's ``test``."""
    text: str | None = None
    """Column of the text in a table."""
    audio: Path | None = None
    """Folder outside the source that its paths may lead into."""
    language: str | None = None
    """Of lines that name none."""
    speaker: str | None = None
    """Of lines that name none."""
    source: str | None = None
    """Of lines that name none."""
    tags: dict[str, str] = {}
    """For every line."""


@dataclass(frozen=True)
class Found:
    """One recording, or one prompt, of a source."""

    number: int
    """Counted from 1 in the order of the source."""
    audio: str | None = None
    """Its file, as the source names it: absolute, or relative to `base`; None for a prompt."""
    base: Path | None = None
    """Folder that a relative name is relative to."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Keys of a manifest's line."""
    fault: str | None = None
    """Why it cannot be read."""


def read_list(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines of a list with their numbers, empty ones left out.

    Raises:
        CorpusError: A line is longer than any list's.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        number = 0
        while line := file.readline(LINE_CHARACTERS + 1):
            number += 1
            if len(line) > LINE_CHARACTERS:
                raise CorpusError(
                    f"{path.name} has a line of more than {LINE_CHARACTERS} characters (line {number}).",
                    "This is no list of recordings; look at the file.",
                )
            if line.strip():
                yield number, line.rstrip("\n")


def files_below(folder: Path) -> Iterator[Path]:
    """Give the files below a folder in a fixed order; hidden folders and links to folders are not entered."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            yield Path(here) / name


def row_data(row: Mapping[str, Any], text_key: str) -> dict[str, Any]:
    """Make a manifest's keys of a table's row: text, speaker, language, licence, source, and the rest as tags."""
    data: dict[str, Any] = {"text": _plain(row.get(text_key))}
    for key, names in (("speaker", SPEAKER_KEYS), ("language", LANGUAGE_KEYS), ("license", LICENCE_KEYS)):
        value = next((row[name] for name in names if row.get(name)), None)
        if value is not None:
            data[key] = str(value)
    for key in ("id", "source"):
        if row.get(key):
            data[key] = str(row[key])
    if row.get("duration"):
        data["duration"] = row["duration"]
    used = {text_key, *SPEAKER_KEYS, *LANGUAGE_KEYS, *LICENCE_KEYS, *TEXT_KEYS, *NO_SLICES}
    rest = {
        key: _plain(value) for key, value in row.items() if key and key not in used and not isinstance(value, list | dict)
    }
    data["tags"] = {key: value for key, value in rest.items() if value and len(value) <= TAG_CHARACTERS}
    return data


def text_column(columns: Mapping[str, Any] | list[str], wanted: str | None, where: str) -> str:
    """Choose the column of the text.

    Raises:
        CorpusError: There is none of the usual names, or not the one asked for.
    """
    for name in (wanted,) if wanted else TEXT_KEYS:
        if name in columns:
            return name
    looked = wanted or ", ".join(TEXT_KEYS)
    raise CorpusError(
        f"{where} has no column with the text (looked for {looked}; it has {', '.join(map(str, columns))}).",
        "Name the column with --text.",
    )


def _plain(value: object) -> str:
    return "" if value is None else str(value).strip()
