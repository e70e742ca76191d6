"""A store of records that are computed once, ever: shards in Parquet, written whole or not at all.

A killed run loses at most the shard in flight. Any number of processes may write at once: names are unique and a file
appears by an atomic rename.
"""

from __future__ import annotations

import contextlib
import io
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from models.errors import StateError
from models.types import Record
from pipelines.home import write_atomically

R = TypeVar("R", bound=Record)

ABANDONED_S = 3600.0
"""A shard is written in milliseconds: a temporary file this old has no writer any more."""


class ShardStore(Generic[R]):
    """Records of one kind in one folder, by their keys."""

    def __init__(
        self,
        folder: Path,
        record: type[R],
        column: str,
        names: tuple[str, ...],
        key_of: Callable[[R], tuple[str, ...]],
    ) -> None:
        """Open the store; nothing is read yet.

        Args:
            folder: Where its shards lie; made when something is added.
            record: What is kept.
            column: The column that holds the record as JSON.
            names: The columns that hold the parts of its key.
            key_of: The key of a record, a part a column.
        """
        self._folder = folder
        self._record = record
        self._column = column
        self._names = names
        self._key_of = key_of

    def load(self, keys: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], R]:
        """Read those of the keys that are there.

        Raises:
            StateError: A shard cannot be read; it is named.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = set(keys)
        self._sweep()
        found: dict[tuple[str, ...], R] = {}
        for path in sorted(self._folder.glob("*.parquet")) if wanted else []:
            try:
                columns = pq.ParquetFile(path).read(columns=[*self._names, self._column])
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(path, error) from error
            for *key, text in zip(*(column.to_pylist() for column in columns.itercolumns()), strict=True):
                if tuple(key) in wanted:
                    found[tuple(key)] = self._read(text, path)
        return found

    def add(self, records: Sequence[R]) -> None:
        """Write one shard, whole or not at all.

        Raises:
            StateError: The disk is full or not writable; nothing of the shard is left behind.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not records:
            return
        keys = zip(*(self._key_of(record) for record in records), strict=True)
        columns: dict[str, list[str]] = {name: list(parts) for name, parts in zip(self._names, keys, strict=True)}
        columns[self._column] = [record.model_dump_json() for record in records]
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer, compression="zstd")
        try:
            write_atomically(self._folder / f"{uuid.uuid4().hex}.parquet", buffer.getvalue())
        except OSError as error:
            raise StateError(
                f"Results cannot be written to {self._folder} ({error.strerror or error}).",
                "Free some space or mend the rights; what was finished before is kept.",
            ) from error

    def _sweep(self) -> None:
        """Remove what writers left that were killed while they wrote: a name with a dot in front, no longer touched."""
        for path in self._folder.glob(".*"):
            with contextlib.suppress(OSError):  # its writer, or another sweep, was first
                if time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()

    def _read(self, text: str, path: Path) -> R:
        try:
            return self._record.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise _unreadable(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _unreadable(path: Path, why: object) -> StateError:
    return StateError(f"The shard {path} cannot be read ({why}).", "Delete the file; what it held is then computed again.")
