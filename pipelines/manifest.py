"""Manifests: one JSON object a line, read as records; what is wrong is told with its line and field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from models.errors import CorpusError
from models.types import Record

MANIFEST = "manifest.jsonl"
FAULTS_SHOWN = 5


class Sliceable(Protocol):
    """What utterances and prompts share."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def language(self) -> str: ...  # noqa: D102
    @property
    def speaker(self) -> str: ...  # noqa: D102
    @property
    def tags(self) -> dict[str, str]: ...  # noqa: D102


S = TypeVar("S", bound=Sliceable)
R = TypeVar("R", bound=Record)


def read_lines(path: Path, parse: Callable[[str], S], keep: Callable[[S], bool] | None = None) -> tuple[S, ...]:
    """Read a manifest, a record a line; empty lines are passed over.

    Args:
        path: The manifest.
        parse: Makes a record of a line; what it raises as ValueError is told with the line's number.
        keep: Says which records to keep, so that a slice of a large corpus costs the memory of the slice; None for all.

    Raises:
        CorpusError: A line is broken, an id occurs twice, or there is none. Up to five faults are named.
    """
    name = f"{path.parent.name}/{path.name}"
    records: list[S] = []
    faults: list[str] = []
    first_line: dict[str, int] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = parse(line)
            except ValueError as error:
                faults.append(f"line {number}: {error}")
                continue
            if record.id in first_line:
                faults.append(f"line {number}: id {record.id!r} is already on line {first_line[record.id]}")
                continue
            first_line[record.id] = number
            if keep is None or keep(record):
                records.append(record)
    if faults:
        more = f" (and {len(faults) - FAULTS_SHOWN} more)" if len(faults) > FAULTS_SHOWN else ""
        raise CorpusError(
            f"{name} has {len(faults)} bad line(s): {'; '.join(faults[:FAULTS_SHOWN])}{more}.",
            "Mend these lines; nothing was evaluated.",
        )
    if not first_line:
        raise CorpusError(f"{name} has no utterances.", "Add at least one line.")
    return tuple(records)


def json_object(line: str) -> dict[str, Any]:
    """Read one line as a JSON object.

    Raises:
        ValueError: It is none.
    """
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(data, dict):
        raise ValueError(f"a JSON object is expected, found {type(data).__name__}")
    return data


def record_of(data: Mapping[str, Any], kind: type[R]) -> R:
    """Make a record of a line's keys; see `pipelines.corpus.parse_line` for what becomes of other tools' keys.

    Raises:
        ValueError: A field is missing or wrong; it is named, with what was found.
    """
    try:
        return kind.model_validate(_with_defaults(data, set(kind.model_fields)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']} (found {first.get('input')!r})") from error


def _with_defaults(data: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    out = {key: value for key, value in data.items() if key in known}
    extra = {key: value for key, value in data.items() if key not in known}
    if extra.pop("offset", 0):
        raise ValueError("offset is not supported; cut the recording into files of their own")
    if "lang" in extra:
        out.setdefault("language", extra.pop("lang"))
    if "audio_filepath" in out and "id" not in out:
        path = PurePosixPath(str(out["audio_filepath"]))
        out["id"] = str(path.with_suffix("") if path.name else path)
    tags = {key: str(value) for key, value in extra.items() if isinstance(value, str | int | float | bool)}
    declared = out.setdefault("tags", {})
    if isinstance(declared, dict):  # anything else is refused with the rest of the line
        out["tags"] = {**tags, **declared}
    return out
