"""The marker beside verified weights: what they are, where they came from, and whether they are still the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from models.audio import file_sha256
from models.card import ModelCard, Sha256, WeightSource
from models.errors import WeightsError
from models.types import Record

MARKER = ".complete.json"


class MarkedFile(Record):
    """One verified file."""

    sha256: Sha256
    size: int
    mtime_ns: int
    """With the size, what tells without reading that a file is untouched."""


class Marker(Record):
    """What was verified and published."""

    source: str
    """Where the files came from, for people."""
    origin: str = ""
    """The source as the card had it, where the card holds no digest that tells one model's files from another's."""
    files: dict[str, MarkedFile]

    @property
    def sha256(self) -> dict[str, str]:
        """File name → sha256."""
        return {name: entry.sha256 for name, entry in self.files.items()}

    def belongs_to(self, card: ModelCard) -> bool:
        """Say whether these are files that the card names."""
        return any(self._from(card, source) for source in card.weights.sources)

    def _from(self, card: ModelCard, source: WeightSource) -> bool:
        files = card.weights.files_of(source)
        alike = files.keys() == self.files.keys() and all(
            digest in (None, self.files[name].sha256) for name, digest in files.items()
        )
        return alike and (None not in files.values() or self.origin == origin_of(source))


def origin_of(source: WeightSource) -> str:
    """Write a source down, so that it is known again."""
    return source.model_dump_json(exclude_defaults=True)


def read_marker(card: ModelCard, folder: Path) -> Marker:
    """Read the marker of a card's weights.

    Raises:
        WeightsError: There is none, it cannot be read, or the card names other weights now.
    """
    path = folder / MARKER
    try:
        marker = Marker.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise WeightsError(f"The weights of {card.name} are not here.", how_to_fetch(card)) from error
    except ValidationError as error:
        raise WeightsError(f"{path} cannot be read.", how_to_fetch(card)) from error
    if not marker.belongs_to(card):
        raise WeightsError(f"The weights in {folder} are not the ones that the card {card.name} names.", how_to_fetch(card))
    return marker


def mark(folder: Path, digests: Mapping[str, str], source: str, origin: str) -> None:
    """Write the marker of verified files into their folder."""
    files = {}
    for name, digest in digests.items():
        stat = (folder / name).stat()
        files[name] = MarkedFile(sha256=digest, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
    marker = Marker(source=source, origin=origin, files=files)
    (folder / MARKER).write_text(marker.model_dump_json(indent=2), encoding="utf-8")


def check_unchanged(card: ModelCard, folder: Path, marker: Marker) -> None:
    """Hold the files to their marker; one whose size and time are the marker's is not read again.

    Raises:
        WeightsError: One is missing or has changed.
    """
    touched = False
    for name, entry in marker.files.items():
        path = folder / name
        if not path.is_file():
            raise WeightsError(f"The weights of {card.name} have lost {name} in {folder}.", how_to_fetch(card))
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (entry.size, entry.mtime_ns):
            continue
        digest = file_sha256(path)
        if digest != entry.sha256:
            raise WeightsError(
                f"The weights of {card.name} have changed on disk: {path}: expected sha256 {entry.sha256}, got {digest}.",
                how_to_fetch(card),
            )
        touched = True
    if touched:  # a copied cache has new times: note them, or every start would read all weights again
        _refresh(folder, marker)


def how_to_fetch(card: ModelCard) -> str:
    """The remedy for weights that are not here."""
    return f"Run: modellab models fetch {card.name}"


def _refresh(folder: Path, marker: Marker) -> None:
    entries = {
        name: entry.model_copy(update={"mtime_ns": (folder / name).stat().st_mtime_ns})
        for name, entry in marker.files.items()
    }
    fresh = marker.model_copy(update={"files": entries})
    temporary = folder / f"{MARKER}.{os.getpid()}"
    try:
        temporary.write_text(fresh.model_dump_json(indent=2), encoding="utf-8")
        temporary.replace(folder / MARKER)
    except OSError:  # a cache that may only be read works too, only slower
        temporary.unlink(missing_ok=True)
