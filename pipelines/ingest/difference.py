"""What an update changes, for a person to read before it is committed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from models.types import Record
from pipelines.prompts import Prompt
from pipelines.types import Utterance

SHOWN = 10
"""Ids that are named of each kind."""


class Version(Record):
    """One version of a corpus, in numbers."""

    utterances: int
    minutes: float
    speakers: int


class Difference(Record):
    """A corpus before and after an update."""

    before: Version
    after: Version
    added: int
    removed: int
    changed: int
    """Ids in both, of which the recording, the text or anything that is sliced by differs."""
    added_ids: tuple[str, ...]
    """The first few."""
    removed_ids: tuple[str, ...]
    changed_ids: tuple[str, ...]
    """With what changed in each: ``call-7 (audio, text)``."""
    new_speakers: tuple[str, ...]
    gone_speakers: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both are the same."""
        return not (self.added or self.removed or self.changed)

    def lines(self) -> list[str]:
        """Say it to a person."""
        out = [
            f"utterances {self.before.utterances} → {self.after.utterances}, minutes {self.before.minutes:.1f} → "
            f"{self.after.minutes:.1f}, speakers {self.before.speakers} → {self.after.speakers}"
        ]
        for word, count, ids in (
            ("added", self.added, self.added_ids),
            ("removed", self.removed, self.removed_ids),
            ("changed", self.changed, self.changed_ids),
            ("new speakers", len(self.new_speakers), self.new_speakers[:SHOWN]),
            ("speakers gone", len(self.gone_speakers), self.gone_speakers[:SHOWN]),
        ):
            if count:
                more = ", …" if count > len(ids) else ""
                out.append(f"{word} {count}: {', '.join(ids)}{more}")
        return out


class Inventory:
    """What a version holds: a few bytes an utterance, so that two of 200,000 fit in memory."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.parts: dict[str, tuple[bytes, bytes, bytes]] = {}
        """Id → digests of recording, text, and the rest."""
        self.seconds = 0.0
        self.speakers: set[str] = set()

    def add(self, row: Utterance | Prompt, audio_sha256: str) -> None:
        """Take one line."""
        rest = json.dumps([row.language, row.speaker, row.license, row.source, sorted(row.tags.items())])
        text = json.dumps([row.text, row.spoken]) if isinstance(row, Prompt) else row.text
        self.parts[row.id] = (_short(audio_sha256), _short(text), _short(rest))
        self.seconds += row.duration if isinstance(row, Utterance) else 0
        self.speakers.add(row.speaker)

    @property
    def version(self) -> Version:
        """The numbers."""
        return Version(utterances=len(self.parts), minutes=round(self.seconds / 60, 2), speakers=len(self.speakers))


def _short(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]


def difference(before: Inventory, after: Inventory) -> Difference:
    """Compare two versions."""
    old, new = before.parts, after.parts
    added = [name for name in new if name not in old]
    removed = [name for name in old if name not in new]
    changed = [name for name in new if name in old and new[name] != old[name]]
    return Difference(
        before=before.version,
        after=after.version,
        added=len(added),
        removed=len(removed),
        changed=len(changed),
        added_ids=tuple(added[:SHOWN]),
        removed_ids=tuple(removed[:SHOWN]),
        changed_ids=tuple(f"{name} ({', '.join(_differing(old[name], new[name]))})" for name in changed[:SHOWN]),
        new_speakers=tuple(sorted(after.speakers - before.speakers)),
        gone_speakers=tuple(sorted(before.speakers - after.speakers)),
    )


def _differing(old: Iterable[bytes], new: Iterable[bytes]) -> list[str]:
    names = ("audio", "text", "tags, speaker, language or licence")
    return [name for name, a, b in zip(names, old, new, strict=True) if a != b]
