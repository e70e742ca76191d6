"""The history: an append-only log of who did what to which model, when, and on what evidence.

It is the truth about stages. MLflow's aliases and tags are a copy of it (`registry.projection`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from models.errors import StateError
from pipelines.lab import Lab
from registry.database import COLUMNS, EVENTS, Database, database_uri
from registry.events import STATE_KINDS, Entry, Event, chained

if TYPE_CHECKING:
    from sqlalchemy import Connection

Decide = Callable[[Sequence[Event]], Entry]
At = Callable[[str], None]
"""Told each step's name as it is reached; tests end the process there."""


def unobserved(step: str) -> None:
    """Listen to nothing."""


class History:
    """The log of one lab."""

    def __init__(self, database: Database, at: At = unobserved) -> None:
        """Take where it lies.

        Args:
            database: The database.
            at: For tests.
        """
        self.database = database
        self.at = at

    def events(self) -> list[Event]:
        """Read every event, the oldest first; none where nothing was ever written.

        Raises:
            StateError: The database cannot be reached, or an event cannot be read.
        """
        if not self.database.exists:
            return []
        with self.database.reading() as connection:
            return _read(connection) if self.database.has_table(connection, EVENTS) else []

    def append(self, decide: Decide) -> Event:
        """Write one event, decided on what the history is at that moment.

        Between what `decide` is shown and what is written nobody else can write: this is the compare-and-swap that every
        change of a stage goes through. A process that is killed in it has written nothing.

        Args:
            decide: Gets all events and gives what to add, or raises to add nothing.

        Raises:
            StateError: The database cannot be reached or written; and what `decide` raises.
        """
        with self.database.writing() as connection:
            self.at("deciding")
            events = _read(connection)
            entry = decide(events)
            event = chained(entry, events[-1] if events else None, datetime.now(UTC).isoformat(timespec="microseconds"))
            row = {**event.model_dump(), "details": json.dumps(event.details, sort_keys=True, ensure_ascii=False)}
            self.at("writing")
            _insert(connection, row)
            self.at("written")
        self.at("committed")
        return event


def open_history(lab: Lab, at: At = unobserved) -> History:
    """Open a lab's history; makes nothing where there is none yet.

    Raises:
        StateError: MLflow is behind a server and no database was named, or the address is wrong.
    """
    return History(Database(database_uri(lab)), at)


def record(lab: Lab, entry: Entry) -> Event:
    """Write down something that changes no stage, such as a regression that a schedule found.

    Raises:
        StateError: The kind is one that only the lifecycle may write, or the database cannot be used.
    """
    if entry.kind in STATE_KINDS or entry.from_stage or entry.to_stage:
        raise StateError(
            f"An event of kind {entry.kind!r} changes what is in production or who may change it.",
            "Use the functions of registry.lifecycle, which check that it may be.",
        )
    return open_history(lab).append(lambda events: entry)


def as_of(events: Sequence[Event], moment: str | None) -> list[Event]:
    """Keep what had happened by then.

    Args:
        events: In order.
        moment: ISO 8601; a date alone means the end of that day, and a time without a zone is in UTC. None keeps all.

    Raises:
        StateError: It is no date.
    """
    if moment is None:
        return list(events)
    try:
        until = datetime.fromisoformat(moment)
    except ValueError as error:
        raise StateError(f"{moment!r} is no date.", "Write 2026-03-03, or 2026-03-03T14:00, in UTC.") from error
    if len(moment) <= len("2026-03-03"):
        until = datetime.combine(until, time.max)
    until = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
    return [event for event in events if datetime.fromisoformat(event.at) <= until]


def _read(connection: Connection) -> list[Event]:
    rows = connection.exec_driver_sql(f"SELECT {', '.join(COLUMNS)} FROM {EVENTS} ORDER BY seq").mappings()  # noqa: S608
    events = []
    for row in rows:
        try:
            events.append(Event.model_validate({**row, "details": json.loads(row["details"])}))
        except ValueError as error:
            raise StateError(
                f"Event {row['seq']} of the history cannot be read: it was altered, or written by a newer modellab.",
                "Restore the database from its backup.",
            ) from error
    return events


def _insert(connection: Connection, row: dict[str, object]) -> None:
    from sqlalchemy import text

    names, places = ", ".join(COLUMNS), ", ".join(f":{name}" for name in COLUMNS)
    connection.execute(text(f"INSERT INTO {EVENTS} ({names}) VALUES ({places})"), row)  # noqa: S608
