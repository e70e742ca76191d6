"""Requests for production: asked for on evidence, approved by somebody else, stale as soon as what they rest on changes.

They are events in the database, and nothing waits in a process: a request outlives restarts and days.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from models.types import Record, Task
from registry.events import Entry, Event
from registry.history import History
from registry.identity import Actor, RefusedError, Rules, given_reason
from registry.lifecycle import entry, plain, trusted
from registry.state import Evidence, Request, State, fold


class Circumstances(Record):
    """What an approval is stale without: the data and the rules as they are now."""

    data_version: str
    """See `registry.evidence.data_identity`."""
    policy_digest: str
    """Of the task's policy."""


def open_request(history: History, task: Task, actor: Actor, reason: str, evidence: Evidence) -> Request:
    """Ask for production; gives the request that is open already if the same was asked for on the same evidence.

    Raises:
        RefusedError: The verdict is no pass, production is not what the candidate was held against, or it is the candidate.
    """
    what = evidence.candidate
    for request in trusted(history.events()).requests.values():
        if request.state in ("open", "approved") and request.evidence_digest == evidence.digest:
            return request

    def decide(events: Sequence[Event]) -> Entry:
        state = trusted(events)
        if evidence.verdict != "pass":
            raise RefusedError(f"The verdict on {what} is {evidence.verdict}.", "Only what passed may be promoted.")
        if state.of(task).production == what:
            raise RefusedError(f"{what} is in production already.", "Nothing is to be done.")
        if changed := _production_changed(state, task, evidence):
            raise RefusedError(changed, f"Compare again: modellab promote {what.model} --to production")
        details = {
            "request": f"{events[-1].seq + 1 if events else 1}-{secrets.token_hex(3)}",
            "evidence": evidence.model_dump(mode="json"),
            "evidence_digest": evidence.digest,
        }
        return entry("request", task, what, actor, reason, "", "", details)

    event = history.append(decide)
    return fold(history.events()).requests[event.details["request"]]


def find_request(state: State, request_id: str) -> Request:
    """Look a request up by its id, or by the start of it.

    Raises:
        RefusedError: There is none, or the start fits several.
    """
    if request_id in state.requests:
        return state.requests[request_id]
    fitting = [request for name, request in state.requests.items() if name.startswith(request_id) and request_id]
    if len(fitting) != 1:
        which = "no request" if not fitting else f"{len(fitting)} requests"
        raise RefusedError(f"There is {which} {request_id!r}.", "See `modellab approvals list`.")
    return fitting[0]


def staleness(state: State, request: Request, now: Circumstances) -> str | None:
    """Say why a request cannot be approved or released any more; None if it can."""
    if changed := _production_changed(state, request.task, request.evidence):
        return changed
    if now.data_version != request.evidence.data_version:
        then = request.evidence.data_version
        return f"The data has changed since the comparison (then {then[:40]}, now {now.data_version[:40]})."
    if now.policy_digest != request.evidence.policy_digest:
        then = request.evidence.policy_digest[:12]
        return f"The policy has changed since the comparison (then {then}, now {now.policy_digest[:12]})."
    return None


def approve(
    history: History, request_id: str, actor: Actor, reason: str, rules: Rules, now: Circumstances
) -> tuple[Request, bool]:
    """Approve a request.

    Returns:
        The request, and whether this call approved it: an approval that stands, with a release that did not come to its end,
        is given back as it is.

    Raises:
        RefusedError: They may not, it is theirs, it is stale, or it was decided otherwise.
    """
    rules.check(actor, "approve")
    reason = given_reason(reason)
    request = find_request(trusted(history.events()), request_id)
    _check_other_person(request, actor, rules)
    if request.state in ("approved", "released"):
        return request, False

    def decide(events: Sequence[Event]) -> Entry:
        state = trusted(events)
        current = state.requests[request.id]
        if current.state != "open":
            raise RefusedError(f"Request {current.id} was {current.state} by {current.decided_by}.", _again(current))
        if stale := staleness(state, current, now):
            raise RefusedError(f"Request {current.id} is stale: {stale}", _again(current))
        details = {"request": current.id, "evidence_digest": current.evidence_digest}
        return entry("approval", current.task, current.evidence.candidate, actor, reason, "", "", details)

    try:
        history.append(decide)
    except RefusedError:
        current = fold(history.events()).requests[request.id]
        if current.state in ("approved", "released"):  # by somebody else, in between
            return current, False
        raise
    return fold(history.events()).requests[request.id], True


def reject(history: History, request_id: str, actor: Actor, reason: str, rules: Rules) -> Request:
    """Reject a request, also one that is stale, or approved but not released. Who asked may withdraw it so.

    Raises:
        RefusedError: They may not, or it is released or rejected.
    """
    reason = given_reason(reason)
    request = find_request(trusted(history.events()), request_id)
    if rules.person(actor.name) != rules.person(request.requested_by):
        rules.check(actor, "approve")

    def decide(events: Sequence[Event]) -> Entry:
        current = trusted(events).requests[request.id]
        if current.state in ("released", "rejected"):
            raise RefusedError(f"Request {current.id} was {current.state} already.", "See `modellab registry history`.")
        details = {"request": current.id, "evidence_digest": current.evidence_digest}
        return entry("rejection", current.task, current.evidence.candidate, actor, reason, "", "", details)

    history.append(decide)
    return fold(history.events()).requests[request.id]


def release(history: History, request_id: str, actor: Actor, now: Circumstances, details: dict[str, Any]) -> Event | None:
    """Swap: the approved version is production, and what was is archived, in one event. None if it was done before.

    Raises:
        RefusedError: It is not approved (any more), or stale.
    """
    request = find_request(trusted(history.events()), request_id)
    if request.state == "released":
        return None

    def decide(events: Sequence[Event]) -> Entry:
        state = trusted(events)
        current = state.requests[request.id]
        if current.state != "approved":
            raise RefusedError(f"Request {current.id} is {current.state}, not approved.", _again(current))
        if stale := staleness(state, current, now):
            raise RefusedError(f"Request {current.id} is stale: {stale}", _again(current))
        told = {
            "request": current.id,
            "evidence_digest": current.evidence_digest,
            "replaces": plain(state.of(current.task).production),
            **details,
        }
        before = state.of(current.task).stages.get(current.version, "candidate")
        why = current.decision or ""
        return entry("release", current.task, current.evidence.candidate, actor, why, before, "production", told)

    try:
        return history.append(decide)
    except RefusedError:
        if fold(history.events()).requests[request.id].state == "released":  # by another run of the same release, in between
            return None
        raise


def release_failed(history: History, request: Request, actor: Actor, step: str, why: str) -> Event:
    """Write down that a release stopped before the swap; nothing else changes."""
    details = {"request": request.id, "step": step, "evidence_digest": request.evidence_digest}
    what = request.evidence.candidate
    return history.append(lambda events: entry("release-failed", request.task, what, actor, why, "", "", details))


def _check_other_person(request: Request, actor: Actor, rules: Rules) -> None:
    if rules.person(actor.name) == rules.person(request.requested_by):
        raise RefusedError(
            f"{request.requested_by} asked for this, and may not approve it (as {actor.name}).",
            "Ask somebody else to.",
        )


def _production_changed(state: State, task: Task, evidence: Evidence) -> str | None:
    now = state.of(task).production
    if now == evidence.production:
        return None
    then = evidence.production or "nothing"
    return f"{now or 'Nothing'} is in production for {task}, and the comparison was with {then}."


def _again(request: Request) -> str:
    return f"Ask anew: modellab promote {request.model} --to production"
