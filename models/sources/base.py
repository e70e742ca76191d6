"""What every source is given and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from models.card import Files

MAX_FILE_BYTES = 16 * 1024**3
"""Larger than any weights file that one GPU can use; stops what unpacks or downloads without end."""
CHUNK_BYTES = 1024**2

Progress = Callable[[str], None]
"""Told in short lines what is going on."""
Artifacts = Callable[[str, Path], Path]
"""Downloads an MLflow URI's artifacts below a folder and returns where they lie; raises a `LabError` if it cannot."""


class Unavailable(Exception):  # noqa: N818 - an answer of a source, not yet an error: the next one may have it
    """This source cannot give the weights; the text says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a source is to deliver, where to, and what may help it."""

    files: Files
    """File name → sha256, None where it is not known."""
    into: Path
    """An empty folder with the sub-folders that the names need."""
    scratch: Path
    """A folder on the same file system for what is not kept; of `hub` and `http` it outlives a killed fetch."""
    say: Progress
    """Told what is going on."""
    fetch_other: Callable[[str], Path]
    """Fetches another card's weights and returns their folder."""
    artifacts: Artifacts | None = None
    """Reads MLflow's artifacts; None where MLflow is not set up."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a source says of what it delivered."""

    origin: str
    """Where it came from, for people; names the commit where a branch was asked for."""
    stated: dict[str, str] = field(default_factory=dict)
    """File name → sha256 that the source itself states; the files are held to it as well."""


def first_line(error: Exception) -> str:
    """The first line of an error's text, without its full stop."""
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
