"""What the history says is so: stages, production, requests. Pure functions of events."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from models.card import Stage
from models.types import Record, Task
from pipelines.decision import Verdict
from registry.events import Event, canonical

RequestState = Literal["open", "approved", "rejected", "released"]


class Version(Record):
    """One version of a model."""

    model: str
    """Name of its card."""
    version: str
    """Its fingerprint."""

    def __str__(self) -> str:
        """Name and the start of the fingerprint."""
        return f"{self.model} ({self.version[:12]})"


class Evidence(Record):
    """What a request for production rests on."""

    verdict: Verdict
    """What the gate said."""
    comparison: str = ""
    """Run id of the comparison; empty where nothing was in production to compare with."""
    evaluations: dict[str, str] = {}
    """``candidate``, ``baseline`` → run id."""
    content: str
    """sha256 of the result file of the comparison, or of the evaluation."""
    report: str
    """Path of the report."""
    data_version: str
    """The data (`registry.evidence.data_identity`)."""
    policy_digest: str
    """The policy."""
    candidate: Version
    """The version that wants in."""
    production: Version | None
    """The version that it was held against; None if there was none."""

    @property
    def digest(self) -> str:
        """sha256 of all of it: what an approval is bound to."""
        return hashlib.sha256(canonical(self.model_dump(mode="json")).encode()).hexdigest()


class Request(Record):
    """A request to let a version into production. `approvals show --json` prints it."""

    id: str
    """As typed on the command line."""
    task: Task
    """The task."""
    model: str
    """The card."""
    version: str
    """Its fingerprint."""
    requested_by: str
    """Who asked."""
    requested_at: str
    """When, ISO 8601, UTC."""
    reason: str
    """Why, if they said."""
    evidence: Evidence
    """What it rests on."""
    evidence_digest: str
    """Of the evidence."""
    state: RequestState
    """``approved`` means that the release has not come to its end yet."""
    decided_by: str | None = None
    """Who approved or rejected."""
    decided_at: str | None = None
    """When."""
    decision: str | None = None
    """Why."""
    failure: str | None = None
    """Why the release was not finished the last time it was tried."""


@dataclass
class TaskState:
    """One task."""

    production: Version | None = None
    since: Event | None = None
    """The event that made it so."""
    before: list[Version] = field(default_factory=list)
    """Versions that were in production before, the last one last; without those that were rolled back from."""
    stages: dict[str, Stage] = field(default_factory=dict)
    """Fingerprint → stage."""
    models: dict[str, str] = field(default_factory=dict)
    """Fingerprint → name of the card, the last event's last."""

    def stage_of_model(self, model: str) -> Stage | None:
        """Stage of the newest version of a card, or ``production`` if any version of it is; None if it has none."""
        if self.production is not None and self.production.model == model:
            return "production"
        return next((self.stages[version] for version, name in reversed(self.models.items()) if name == model), None)


@dataclass
class State:
    """Everything that the events add up to."""

    tasks: dict[Task, TaskState]
    requests: dict[str, Request]

    def of(self, task: Task) -> TaskState:
        """One task's state; an empty one where nothing happened."""
        return self.tasks.get(task, TaskState())


def fold(events: Sequence[Event]) -> State:
    """Add the events up."""
    state = State({}, {})
    for event in events:
        if event.kind in ("request", "rejection", "approval", "release-failed") or (
            event.kind == "release" and event.details.get("request") in state.requests
        ):
            _fold_request(state.requests, event)
        if event.to_stage:
            _fold_stage(state.tasks.setdefault(event.task, TaskState()), event)
    return state


def _fold_stage(task: TaskState, event: Event) -> None:
    here = Version(model=event.model, version=event.version)
    task.models.pop(event.version, None)
    task.models[event.version] = event.model
    stage: Any = event.to_stage
    if stage == "production":
        left = task.production
        if left is not None:
            task.stages[left.version] = "archived"
            if event.kind != "rollback":
                task.before.append(left)
        if event.kind == "rollback":
            while task.before and task.before.pop() != here:
                pass
        task.production, task.since = here, event
    task.stages[event.version] = stage


def _fold_request(requests: dict[str, Request], event: Event) -> None:
    details = event.details
    if event.kind == "request":
        requests[details["request"]] = Request(
            id=details["request"],
            task=event.task,
            model=event.model,
            version=event.version,
            requested_by=event.actor,
            requested_at=event.at,
            reason=event.reason,
            evidence=Evidence.model_validate(details["evidence"]),
            evidence_digest=details["evidence_digest"],
            state="open",
        )
        return
    changes: dict[str, Any] = {}
    if event.kind in ("approval", "rejection"):
        changes = {"decided_by": event.actor, "decided_at": event.at, "decision": event.reason}
    changes["failure"] = event.reason if event.kind == "release-failed" else None
    state = {"approval": "approved", "rejection": "rejected", "release": "released"}.get(event.kind)
    if state is not None:
        changes["state"] = state
    known = requests[details["request"]]
    requests[known.id] = known.model_copy(update=changes)
