"""Every change of a stage: checked and written in one transaction (`registry.history.History.append`), or refused.

Of two people who act at once the database lets one go first; the other's checks then see what the first one did, and refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.types import Task
from registry.events import Entry, Event, StateKind, faults
from registry.history import History
from registry.identity import Actor, RefusedError
from registry.state import State, Version, fold


def trusted(events: Sequence[Event]) -> State:
    """Add the events up, but only those that nobody altered.

    Raises:
        RefusedError: The chain is broken.
    """
    if found := faults(events):
        raise RefusedError(
            f"The history was altered at event {found[0].seq}: {found[0].fault}.",
            "See `modellab registry verify`, and restore the database from its backup.",
        )
    return fold(events)


def bootstrap(history: History, task: Task, first: Version, details: dict[str, Any]) -> Event:
    """Write down that a task starts with the version whose card says ``stage: production``; nobody decided on that.

    Raises:
        RefusedError: Something is in production already.
    """

    def decide(events: Sequence[Event]) -> Entry:
        now = trusted(events).of(task).production
        if now is not None:
            raise RefusedError(f"{now} is in production for {task} already.", "Promote a model to replace it.")
        card = Actor(name="modellab", origin="card")
        reason = "the model that the lab starts with, by its card"
        return entry("bootstrap", task, first, card, reason, "", "production", details)

    return history.append(decide)


def to_candidate(history: History, task: Task, what: Version, stage: str, actor: Actor, details: dict[str, Any]) -> None:
    """Make a version a candidate; nothing is written if it is one.

    Args:
        history: Where.
        task: The task.
        what: The version.
        stage: Its card's stage, which it has until an event gives it another.
        actor: Who says so.
        details: What the absolute rules said, and on what.

    Raises:
        RefusedError: It is in production.
    """
    if trusted(history.events()).of(task).stages.get(what.version) == "candidate":
        return

    def decide(events: Sequence[Event]) -> Entry:
        task_state = trusted(events).of(task)
        if task_state.production == what:
            raise RefusedError(f"{what} is in production.", "Promote another model to replace it.")
        before = task_state.stages.get(what.version, stage)
        return entry("promotion", task, what, actor, "", before, "candidate", details)

    history.append(decide)


def archive(history: History, task: Task, what: Version, stage: str, actor: Actor, reason: str) -> Event:
    """Archive a version that is not in production.

    Raises:
        RefusedError: It is in production, or archived already.
    """

    def decide(events: Sequence[Event]) -> Entry:
        task_state = trusted(events).of(task)
        if task_state.production == what:
            raise RefusedError(f"{what} is in production for {task}.", "Promote another, or roll back; it is archived then.")
        before = task_state.stages.get(what.version, stage)
        if before == "archived":
            raise RefusedError(f"{what} is archived already.", "Nothing is to be done.")
        return entry("archiving", task, what, actor, reason, before, "archived", {})

    return history.append(decide)


def rollback_target(state: State, task: Task) -> tuple[Version, Version]:
    """Say what is in production and what a rollback returns to.

    Raises:
        RefusedError: There is nothing to go back to.
    """
    task_state = state.of(task)
    if task_state.production is None or not task_state.before:
        raise RefusedError(
            f"There is no earlier production version for {task}.",
            "See `modellab registry history`; promote a model instead.",
        )
    return task_state.production, task_state.before[-1]


def rollback(
    history: History, task: Task, leave: Version, to: Version, actor: Actor, reason: str, details: dict[str, Any]
) -> Event:
    """Swap back.

    Args:
        history: Where.
        task: The task.
        leave: What was in production when the rollback began.
        to: What was checked for it.
        actor: Who.
        reason: Why.
        details: The package and its parity check.

    Raises:
        RefusedError: Something else is in production by now.
    """

    def decide(events: Sequence[Event]) -> Entry:
        state = trusted(events)
        now = state.of(task).production
        if now != leave or rollback_target(state, task)[1] != to:
            raise RefusedError(f"{now} has come into production for {task} meanwhile.", "Look at it, and roll back again.")
        return entry("rollback", task, to, actor, reason, "archived", "production", {"replaces": plain(leave), **details})

    return history.append(decide)


def plain(version: Version | None) -> dict[str, str] | None:
    """A version as JSON holds it."""
    return None if version is None else version.model_dump()


def entry(
    kind: StateKind, task: Task, what: Version, actor: Actor, reason: str, before: str, after: str, details: dict[str, Any]
) -> Entry:
    """Put an entry together."""
    return Entry(
        kind=kind,
        task=task,
        model=what.model,
        version=what.version,
        from_stage=before,
        to_stage=after,
        actor=actor.name,
        origin=actor.origin,
        reason=reason,
        details=details,
    )
