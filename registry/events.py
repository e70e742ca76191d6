"""Events: what happened to a model, each one bound to the one before by its digest.

``hash`` is the sha256 of the event's canonical JSON without ``hash``, and ``previous`` is the hash of the event before: who
changes, inserts, removes or reorders an event breaks the chain there. Who can write the whole table can also compute a whole
new chain; against that `modellab registry verify --head` holds the history to a head that was noted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import Field

from models.types import Record, Task

Origin = Literal["option", "environment", "header", "form", "card", "schedule"]
"""Where the name of who acted came from: ``--by``, ``MODELLAB_USER``, a proxy's header, a form of Prefect's interface; or
nobody did: the ``stage`` of a card, a schedule."""

StateKind = Literal[
    "bootstrap", "promotion", "archiving", "request", "rejection", "approval", "release", "rollback", "release-failed"
]
"""Kinds that `registry.lifecycle` writes, after it has checked that they may be."""
STATE_KINDS: tuple[str, ...] = get_args(StateKind)

FIRST = "0" * 64
"""``previous`` of the first event."""


class Entry(Record):
    """What is to be written: an event without its place in the chain."""

    kind: str = Field(pattern=r"^[a-z][a-z-]{1,39}$")
    """What happened: one of `STATE_KINDS`, or a word of yours, such as ``regression``."""
    task: Task
    """``asr``, ``tts``."""
    model: str
    """Name of the card."""
    version: str = ""
    """Fingerprint of the model; empty where it is not known."""
    from_stage: str = ""
    """Stage before; empty where nothing moved."""
    to_stage: str = ""
    """Stage after; empty where nothing moved."""
    actor: str
    """Who did it."""
    origin: Origin
    """How we know."""
    reason: str = ""
    """Why, in their words."""
    details: dict[str, Any] = {}
    """Evidence and the like: anything that JSON holds."""


class Event(Entry):
    """One line of the history."""

    seq: int
    """1, 2, 3 …; nobody else can take a number that was taken."""
    at: str
    """When, ISO 8601 in UTC with microseconds; never before the event before."""
    previous: str
    """`hash` of the event before."""
    hash: str
    """sha256 of all of the above, 64 hex digits."""

    @property
    def computed_hash(self) -> str:
        """What `hash` is if nothing was altered."""
        body = self.model_dump(mode="json", exclude={"hash"})
        return hashlib.sha256(canonical(body).encode()).hexdigest()


class Fault(Record):
    """One event that is not as it was written."""

    seq: int
    """Its number."""
    fault: str
    """What is wrong with it."""


def canonical(value: Any) -> str:
    """JSON that is always the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def chained(entry: Entry, last: Event | None, at: str) -> Event:
    """Put an entry at the end of the chain."""
    event = Event(
        **entry.model_dump(),
        seq=last.seq + 1 if last else 1,
        at=max(at, last.at) if last else at,
        previous=last.hash if last else FIRST,
        hash="",
    )
    return event.model_copy(update={"hash": event.computed_hash})


def faults(events: Sequence[Event], head: tuple[int, str] | None = None) -> list[Fault]:
    """Say which events were altered, removed or added.

    Args:
        events: All of them, in order.
        head: Number and digest of an event that was noted elsewhere; None if nothing was noted.
    """
    found: list[Fault] = []
    before: Event | None = None
    for event in events:
        expected_seq = before.seq + 1 if before else 1
        if event.seq != expected_seq:
            gone = f"{expected_seq}" if event.seq == expected_seq + 1 else f"{expected_seq} to {event.seq - 1}"
            found.append(Fault(seq=event.seq, fault=f"event {gone} before it is gone"))
        elif event.previous != (before.hash if before else FIRST):
            found.append(Fault(seq=event.seq, fault="it does not follow the event before it as that is now"))
        if event.computed_hash != event.hash:
            found.append(Fault(seq=event.seq, fault="its content is not what was written: it was altered"))
        before = event
    if head is not None:
        known = next((event for event in events if event.seq == head[0]), None)
        if known is None:
            found.append(Fault(seq=head[0], fault=f"it is gone: the history ends at {events[-1].seq if events else 0}"))
        elif not head[1] or not known.hash.startswith(head[1]):
            found.append(Fault(seq=head[0], fault="it is not the event whose digest was noted: the chain was made anew"))
    return found
