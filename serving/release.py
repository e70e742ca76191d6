"""Release and rollback: package, hold the package to what was evaluated, and only then swap.

Every step can be done again: a package that is there is found, parity is asked anew, and a swap that was made is seen in the
history. So a process that is killed anywhere leaves production as it was or as it should be, and the same command goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from models.card import find_card
from models.errors import LabError, StateError
from models.types import Record, Task
from pipelines.lab import Lab
from registry import lifecycle
from registry.events import Event
from registry.evidence import check_unaltered, circumstances
from registry.history import History
from registry.identity import Actor, Rules, given_reason
from registry.lifecycle import rollback_target, trusted
from registry.projection import bring_up_to_date, tag_version
from registry.requests import find_request, release_failed
from registry.requests import release as swap
from registry.state import Request, Version
from serving.package import Say, bento_name, describe, log_path, newest_checked, package
from serving.parity import ParityReport, check_parity
from serving.run import running
from serving.samples import SAMPLE, parity_samples
from serving.store import Bento, Store


class ReleaseError(LabError):
    """A release or rollback stopped before the swap; production is as it was."""

    exit_code = 1


class Packed(Record):
    """A version, packaged."""

    tag: str
    """The Bento's."""
    parity: ParityReport | None = None
    """What came of asking it, where it was built just now."""


class Steps(Protocol):
    """What a release does outside the database."""

    def package(self, what: Version, task: Task, comparison: str | None) -> Packed:
        """Package a version, or find its package."""
        ...

    def parity(self, packed: Packed, what: Version, task: Task) -> ParityReport:
        """Hold the package's answers to the stored ones."""
        ...


@dataclass(frozen=True)
class BentoSteps:
    """The steps on this machine."""

    lab: Lab
    say: Say

    @property
    def store(self) -> Store:
        """Where the packages lie."""
        return Store(self.lab.home.root / "bentoml")

    def package(self, what: Version, task: Task, comparison: str | None) -> Packed:
        """Find the package of exactly this version, with exactly this decision in it, or make it.

        Args:
            what: The version.
            task: What it is released for.
            comparison: Run id of the comparison that is to be in it; None for any.

        Raises:
            StateError: The model here is not this version any more, or cannot be packaged for the task.
            LabError: See `serving.package.package`.
        """
        card = find_card(what.model, self.lab.cards())
        if task != card.tasks[0]:
            raise StateError(
                f"A package of {card.name} is tested in {card.tasks[0]}, and cannot be released for {task}.",
                f"Write a card for it whose first task is {task}.",
            )
        labels = {"fingerprint": what.version} | ({"comparison": comparison} if comparison else {})
        known = newest_checked(self.store, bento_name(card), **labels)
        if known is not None:
            self.say(f"{known.tag} is packaged already")
            return Packed(tag=known.tag)
        bundle, _ = describe(self.lab, what.model, self.say)
        if bundle.digest != what.version:
            raise StateError(
                f"{what} cannot be packaged: {what.model} is {bundle.digest[:12]} here now, for its card, its weights or a "
                "library has changed.",
                "Bring that back, or promote the model as it is now.",
            )
        made = package(self.lab, self.store, what.model, self.say)
        return Packed(tag=made.tag, parity=made.parity)

    def parity(self, packed: Packed, what: Version, task: Task) -> ParityReport:
        """Start the package and ask it, unless that was done when it was built.

        Raises:
            StateError: It does not start, or nothing is stored to hold it to.
        """
        if packed.parity is not None:
            return packed.parity
        bento = self.store.get(packed.tag)
        samples = parity_samples(self.lab, what.model, what.version, task, SAMPLE)
        self.say(f"Starting {bento.tag} to hold it to {len(samples)} stored answers")
        with running(self.store, bento, log_path(self.store, bento)) as (url, _):
            return check_parity(url, what.model, what.version, samples, say=self.say)


class Released(Record):
    """What came of a release or a rollback. `approve --json` and `registry rollback --json` print it."""

    task: Task
    """The task."""
    production: Version
    """What is in production now."""
    replaced: Version | None
    """What was; None if nothing was."""
    package: str
    """Tag of the Bento."""
    request: str | None = None
    """Id of the request that was approved; None of a rollback."""
    event: int
    """Number of the event."""
    at: str
    """When, ISO 8601, UTC."""
    already: bool = False
    """Whether it had been done before this command."""


def release(lab: Lab, history: History, request_id: str, actor: Actor, steps: Steps) -> Released:
    """Bring an approved request to its end: package → parity → swap → MLflow's aliases.

    Args:
        lab: The project.
        history: Its history.
        request_id: Of a request that is approved.
        actor: Who approved it.
        steps: How to package and to check.

    Raises:
        ReleaseError: A step failed; production is as it was.
        RefusedError: The request is not approved, or stale.
        StateError: The evidence was altered, or the database cannot be used.
    """
    request = find_request(trusted(history.events()), request_id)
    event: Event | None = None
    if request.state == "approved":
        check_unaltered(lab, request.evidence)
        with _failing(history, request, actor, "package"):
            packed = steps.package(request.evidence.candidate, request.task, request.evidence.comparison or None)
        history.at("packaged")
        with _failing(history, request, actor, "parity"):
            report = steps.parity(packed, request.evidence.candidate, request.task)
            _check_passed(report)
        history.at("parity")
        details = {"package": packed.tag, "parity": len(report.checked)}
        event = swap(history, request.id, actor, circumstances(lab, request.task), details)
    if event is None:
        done = [e for e in history.events() if e.kind == "release" and e.details.get("request") == request.id]
        if not done:
            swap(history, request.id, actor, circumstances(lab, request.task), {})  # says why it is refused
        event = done[-1]
        already = True
    else:
        already = False
    history.at("swapped")
    bring_up_to_date(lab, history)
    tag_version(lab, request.task, request.version, {"package": event.details["package"]})
    return _released(event, already=already)


def roll_back(lab: Lab, history: History, task: Task, actor: Actor, reason: str, rules: Rules, steps: Steps) -> Released:
    """Return to the last production version, after its parity check.

    The same command by the same person for the same reason is the same rollback, so that one that was killed can be run
    again without going back twice.

    Raises:
        ReleaseError: A step failed; production is as it was.
        RefusedError: They may not, there is nothing to go back to, or something else came into production meanwhile.
    """
    rules.check(actor, "roll_back")
    reason = given_reason(reason)
    state = trusted(history.events())
    since = state.of(task).since
    if since is not None and since.kind == "rollback" and (since.actor, since.reason) == (actor.name, reason):
        bring_up_to_date(lab, history)
        return _released(since, already=True)
    leave, to = rollback_target(state, task)
    try:
        packed = steps.package(to, task, None)
        history.at("packaged")
        report = steps.parity(packed, to, task)
        _check_passed(report)
    except LabError as error:
        raise _stopped(error, f"The rollback of {task} stopped", f"{leave}") from error
    history.at("parity")
    details = {"package": packed.tag, "parity": len(report.checked)}
    event = lifecycle.rollback(history, task, leave, to, actor, reason, details)
    history.at("swapped")
    bring_up_to_date(lab, history)
    return _released(event, already=False)


def production_package(lab: Lab, what: Version) -> Bento | None:
    """Find the package of the version in production; None if it was never packaged."""
    return newest_checked(Store(lab.home.root / "bentoml"), what.model.lower(), fingerprint=what.version)


def _check_passed(report: ParityReport) -> None:
    if not report.passed:
        first = report.different[0]
        raise StateError(
            f"{len(report.different)} of {len(report.checked)} answers of the package are not those that were evaluated "
            f"({first.id}: expected {first.expected!r}, found {first.found!r}).",
            "Look at what differs: `modellab parity MODEL`.",
        )


@contextmanager
def _failing(history: History, request: Request, actor: Actor, step: str) -> Iterator[None]:
    """Write a failed step into the history, and say that nothing was swapped."""
    try:
        yield
    except LabError as error:
        release_failed(history, request, actor, step, error.message)
        now = trusted(history.events()).of(request.task).production
        raise _stopped(error, f"The release stopped at {step}", f"{now or 'nothing'}", request.id) from error


def _stopped(error: LabError, what: str, now: str, request_id: str | None = None) -> ReleaseError:
    again = f" Then run the same `modellab approve {request_id}` again." if request_id else " Then run it again."
    return ReleaseError(f"{what}, and {now} is in production as before: {error.message}", f"{error.remedy}{again}")


def _released(event: Event, *, already: bool) -> Released:
    replaced: dict[str, Any] | None = event.details.get("replaces")
    return Released(
        task=event.task,
        production=Version(model=event.model, version=event.version),
        replaced=None if replaced is None else Version.model_validate(replaced),
        package=event.details["package"],
        request=event.details.get("request"),
        event=event.seq,
        at=event.at,
        already=already,
    )
