"""The two tables that the suites are about, in an SQLite file: one row a line, one row a recording.

A column holds NULL where nothing is wrong, or where nothing can be said. Great Expectations asks the database, so that
memory does not grow with the corpus.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from models.audio import duration_fault
from pipelines.corpus import CorpusConfig, digest_of_rows, digest_row
from pipelines.prompts import Prompt, prompt_digest
from pipelines.scripts import split_unspaced
from pipelines.types import Utterance
from pipelines.validate.facts import NAME, Facts
from pipelines.validate.languages import foreign_characters
from pipelines.validate.limits import ValidationLimits
from pipelines.validate.lines import Line, Lines
from pipelines.validate.store import FactsStore, stamp_of

MANIFEST_COLUMNS = (
    *("label", "id", "line_fault", "missing", "empty_text", "foreign_script", "foreign_letters", "words_per_second"),
    *("text_of_speaker", "licence_missing", "licence", "shared_speaker", "speaker_unknown"),
)
AUDIO_COLUMNS = (
    *("label", "decode_fault", "not_finite", "duration_fault", "rate_fault", "loudest_dbfs", "silent", "clipped"),
    *("dc_offset", "duration_s", "content", "in_other_corpus"),
)
NUMBERS = frozenset({"words_per_second", "not_finite", "loudest_dbfs", "silent", "clipped", "dc_offset", "duration_s"})
RATE_TAGS = ("sample_rate", "sample_rate_hz", "sampling_rate")
BATCH_ROWS = 1000
UNKNOWN = ("", "unknown")
CHARACTERS_A_WORD = 2
"""In scripts without spaces, so many characters are taken for a word's time."""


@dataclass
class Contents:
    """What a corpus holds, counted while its tables were filled."""

    lines: int = 0
    recordings: int = 0
    seconds: float = 0.0
    """As decoded."""
    speakers: set[str] = field(default_factory=set)
    digest: str = ""
    """As in an evaluation's fingerprint; empty where a line or a recording cannot be used."""


@dataclass(frozen=True)
class Context:
    """What lines are judged by."""

    config: CorpusConfig
    limits: ValidationLimits
    store: FactsStore
    apart: Mapping[str, str]
    """Speaker → the corpus that this one must be kept apart from, and that has him too."""


def fill(path: Path, lines: Lines, context: Context) -> Contents:
    """Write both tables into a new SQLite file.

    Args:
        path: The file; it must not exist.
        lines: The corpus.
        context: What its lines are judged by.
    """
    contents = Contents()
    rows: list[str] = []
    prompts: list[Prompt] = []
    with _database(path) as database:
        for table, columns in (("manifest", MANIFEST_COLUMNS), ("audio", AUDIO_COLUMNS)):
            typed = ", ".join(f"{name} {'real' if name in NUMBERS else 'text'}" for name in columns)
            database.execute(f"create table {table} ({typed})")
        source = lines()
        while batch := list(islice(source, BATCH_ROWS)):
            manifest, audio = [], []
            for line in batch:
                facts = _facts(line, context.store)
                manifest.append(manifest_row(line, context))
                contents.lines += 1
                if line.row is not None:
                    contents.speakers.add(line.row.speaker)
                if isinstance(line.row, Prompt):
                    prompts.append(line.row)
                elif line.row is not None and facts is not None:
                    audio.append(audio_row(line, line.row, facts))
                    contents.recordings += 1
                    contents.seconds += facts.duration_s
                    rows.append(digest_row(line.row, facts.sha256))
            _insert(database, "manifest", MANIFEST_COLUMNS, manifest)
            _insert(database, "audio", AUDIO_COLUMNS, audio)
    if len(prompts) == contents.lines:
        contents.digest = prompt_digest(prompts)
    elif len(rows) == contents.lines:
        contents.digest = digest_of_rows(rows)
    return contents


def mark_shared(path: Path, others: Mapping[str, Lines], store: FactsStore) -> None:
    """Mark the recordings that other corpora have too, by what they sound like."""
    with _database(path) as database:
        database.execute("create temporary table elsewhere (content text primary key, place text) without rowid")
        for name, lines in others.items():
            heard = ((facts.content, f"also {name}/{line.label}") for line in lines() if (facts := _facts(line, store)))
            while batch := list(islice(heard, BATCH_ROWS)):
                database.executemany("insert or ignore into elsewhere values (?, ?)", batch)
        database.execute(
            "update audio set in_other_corpus = (select place from elsewhere where elsewhere.content = audio.content)"
        )


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction, and close it."""
    with closing(sqlite3.connect(path)) as database:
        # Scratch: it is filled, asked and deleted within one run.
        database.execute("pragma synchronous = off")
        with database:
            database.execute("begin")
            yield database


def _insert(database: sqlite3.Connection, table: str, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    query = f"insert into {table} values ({', '.join('?' * len(columns))})"  # noqa: S608
    database.executemany(query, ([row.get(name) for name in columns] for row in rows))


def _facts(line: Line, store: FactsStore) -> Facts | None:
    if line.audio is None:
        return None
    try:
        digest = store.digest_of(line.audio, stamp_of(line.audio))
        return None if digest is None else store.facts(digest)
    except (OSError, KeyError):
        return None


def manifest_row(line: Line, context: Context) -> dict[str, Any]:
    """What the suite ``manifest`` asks about one line."""
    row = line.row
    if row is None:
        return {"label": line.label, "line_fault": line.fault}
    spoken = row.reference if isinstance(row, Prompt) else row.text
    script, letters = foreign_characters(spoken, row.language)
    licence = row.license if row.license not in UNKNOWN else context.config.licence
    silent = not row.text.strip()
    unknown = row.speaker in UNKNOWN and not silent and isinstance(row, Utterance)
    return {
        "label": row.id,
        "id": row.id,
        "missing": _missing(line),
        "empty_text": _empty_text(row, context.limits),
        "foreign_script": _shown(script, row.language),
        "foreign_letters": _shown(letters, row.language),
        "words_per_second": _words_per_second(row),
        "text_of_speaker": None if silent else f"{row.speaker}: {row.text.strip()}",
        "licence_missing": "no licence" if licence in UNKNOWN else None,
        "licence": None if licence in UNKNOWN else licence.partition(" (")[0].strip(),
        "shared_speaker": (where := context.apart.get(row.speaker)) and f"{row.speaker} is also in {where}",
        "speaker_unknown": "no speaker" if unknown else None,
    }


def _missing(line: Line) -> str | None:
    if line.audio is None or line.audio.is_file():
        return None
    assert isinstance(line.row, Utterance)
    return f"{line.row.audio_filepath} is not there"


def _empty_text(row: Utterance | Prompt, limits: ValidationLimits) -> str | None:
    if row.text.strip() or isinstance(row, Prompt) or set(row.tags.values()) & set(limits.nonspeech):
        return None
    return "empty text, and no tag says non-speech"


def _shown(characters: str, language: str) -> str | None:
    if not characters:
        return None
    shown = " ".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in characters[:10])
    return f"{shown} in a text of language {language}"


def _words_per_second(row: Utterance | Prompt) -> float | None:
    if isinstance(row, Prompt) or not row.text.strip() or not row.duration:
        return None
    words, spread = len(row.text.split()), len(split_unspaced(row.text).split())
    return (words if words == spread else spread / CHARACTERS_A_WORD) / row.duration


def audio_row(line: Line, row: Utterance, facts: Facts) -> dict[str, Any]:
    """What the suite ``audio`` asks about one recording."""
    name = Path(row.audio_filepath).name
    if facts.fault is not None:
        return {"label": line.label, "decode_fault": facts.fault.replace(NAME, name)}
    speech = bool(row.text.strip())
    return {
        "label": line.label,
        "not_finite": facts.not_finite,
        "duration_fault": duration_fault(name, row.duration, facts.duration_s),
        "rate_fault": _rate_fault(name, row, facts),
        "loudest_dbfs": facts.loudest_dbfs if speech else None,
        "silent": facts.silent if speech else None,
        "clipped": facts.clipped,
        "dc_offset": facts.dc_offset,
        "duration_s": facts.duration_s,
        "content": facts.content,
    }


def _rate_fault(name: str, row: Utterance, facts: Facts) -> str | None:
    for key in RATE_TAGS:
        declared = row.tags.get(key)
        if declared is not None and declared.removesuffix(".0") != str(facts.rate_hz):
            return f"{name} has {facts.rate_hz} Hz and its line declares {key} {declared}"
    return None


def speakers_of(lines: Lines) -> Iterator[str]:
    """Speakers that a corpus names."""
    return (line.row.speaker for line in lines() if line.row is not None and line.row.speaker not in (*UNKNOWN, "none"))
