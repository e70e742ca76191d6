"""What was measured before: facts by a file's digest, and the digest of each file by its place, size and time.

An unchanged file is not even read again; the same bytes at another place are hashed and not decoded. One SQLite file, so
that a killed run keeps every batch that it committed, and nothing needs to be held in memory.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from models.errors import StateError
from pipelines.validate.facts import FACTS_VERSION, Facts

Stamp = tuple[int, int, int]
"""Size, time of change in ns, inode: what tells that a file is the one that was read."""


class Measured(NamedTuple):
    """One file that was read."""

    path: Path
    stamp: Stamp
    sha256: str
    facts: Facts | None
    """None where the store has the facts of these bytes already."""


_COLUMNS = tuple(Facts.model_fields)
_SCHEMA = f"""
create table if not exists facts (version text, {", ".join(_COLUMNS)}, primary key (version, sha256)) without rowid;
create table if not exists seen (path text primary key, size integer, changed_ns integer, inode integer, sha256 text)
without rowid;
"""
BUSY_S = 60.0
"""Patience with another process that writes."""


def stamp_of(path: Path) -> Stamp:
    """Look at a file without reading it.

    Raises:
        OSError: It is not there, or is no ordinary file: opening a pipe would wait for ever.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path} is no file")
    return status.st_size, status.st_mtime_ns, status.st_ino


class FactsStore:
    """The facts of one home."""

    def __init__(self, path: Path) -> None:
        """Open the file, and make it if it is not there.

        Raises:
            StateError: It cannot be made or is no such file.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, timeout=BUSY_S)
            self._database.executescript(f"pragma journal_mode = wal; pragma synchronous = normal; {_SCHEMA}")
        except sqlite3.Error as error:
            raise StateError(
                f"The measures of recordings in {path} cannot be used ({error}).",
                "Delete the file; recordings are then measured again.",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def digest_of(self, path: Path, stamp: Stamp) -> str | None:
        """Digest of a file that has not changed since it was read; None if it has, or never was."""
        found = self._database.execute(
            "select sha256 from seen where path = ? and size = ? and changed_ns = ? and inode = ?", (str(path), *stamp)
        ).fetchone()
        return None if found is None else str(found[0])

    def has(self, sha256: str) -> bool:
        """Whether these bytes were measured by this version."""
        query = "select 1 from facts where version = ? and sha256 = ?"
        return self._database.execute(query, (FACTS_VERSION, sha256)).fetchone() is not None

    def facts(self, sha256: str) -> Facts:
        """Facts of bytes that were measured.

        Raises:
            KeyError: They were not.
        """
        query = f"select {', '.join(_COLUMNS)} from facts where version = ? and sha256 = ?"  # noqa: S608
        found = self._database.execute(query, (FACTS_VERSION, sha256)).fetchone()
        if found is None:
            raise KeyError(sha256)
        return Facts.model_construct(**dict(zip(_COLUMNS, found, strict=True)))

    def add(self, measured: Sequence[Measured]) -> None:
        """Keep a batch, whole or not at all."""
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        with self._database:
            self._database.executemany(
                f"insert or replace into facts values ({marks})",  # noqa: S608
                [(FACTS_VERSION, *(getattr(m.facts, name) for name in _COLUMNS)) for m in measured if m.facts],
            )
        self.remember((m.path, m.stamp, m.sha256) for m in measured)

    def remember(self, seen: Iterable[tuple[Path, Stamp, str]]) -> None:
        """Note which bytes lie where."""
        with self._database:
            self._database.executemany(
                "insert or replace into seen values (?, ?, ?, ?, ?)",
                ((str(path), *stamp, sha256) for path, stamp, sha256 in seen),
            )
