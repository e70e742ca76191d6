"""The release as a Prefect flow, and the decision on a request as a deployment with a form."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from pydantic import Field

from flows.running import without_heartbeat
from flows.steps import step
from models.types import Record, Task
from pipelines.lab import Lab
from pipelines.progress import listener
from registry.evidence import approve_on_evidence
from registry.history import open_history
from registry.identity import Actor, named, read_rules
from registry.projection import bring_up_to_date
from registry.requests import reject
from registry.state import Request, Version
from serving.parity import ParityReport
from serving.release import BentoSteps, Packed, Released
from serving.release import release as run_release

DEPLOYMENT = "decide-on-a-release"


class Decision(Record):
    """The form: what a release manager says of a request."""

    request: str = Field(description="Id of the request, as `modellab approvals list` shows it.")
    """Id of the request."""
    decision: Literal["approve", "reject"] = Field(description="What you decide.")
    """What is decided."""
    by: str = Field(description="Your name. It is recorded as given in a form: nobody has checked it.", min_length=1)
    """Who decides."""
    reason: str = Field(description="Why; it stands in the history.", min_length=1)
    """Why."""


@step("package")
def package_step(lab: Lab, what: Version, task: Task, comparison: str | None) -> Packed:
    """Package the version, or find its package."""
    return BentoSteps(lab, listener.get().say).package(what, task, comparison)


@step("parity")
def parity_step(lab: Lab, packed: Packed, what: Version, task: Task) -> ParityReport:
    """Hold the package to the stored answers."""
    return BentoSteps(lab, listener.get().say).parity(packed, what, task)


class _TrackedSteps:
    """The steps as tasks."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def package(self, what: Version, task: Task, comparison: str | None) -> Packed:
        return package_step(self._lab, what, task, comparison)

    def parity(self, packed: Packed, what: Version, task: Task) -> ParityReport:
        return parity_step(self._lab, packed, what, task)


@flow(name="release", flow_run_name="release {request}", persist_result=False)
def release_flow(lab: Lab, request: str, actor: Actor) -> Released:
    """Bring an approved request to its end: package → parity → swap."""
    return run_release(lab, open_history(lab), request, actor, _TrackedSteps(lab))


@flow(name="decide on a release", flow_run_name="{form.decision} {form.request}", persist_result=False)
def decision_flow(lab: Lab, form: Decision) -> Released | Request:
    """Approve or reject a request, as filled into the form; an approval goes on to the release."""
    actor, rules = named(form.by, "form"), read_rules(lab.params)
    history = open_history(lab)
    bring_up_to_date(lab, history)
    if form.decision == "reject":
        return reject(history, form.request, actor, form.reason, rules)
    request, _ = approve_on_evidence(lab, form.request, actor, form.reason)
    return release_flow(lab, request.id, actor)


def release(lab: Lab, request: str, actor: Actor) -> Released:
    """Run the flow here."""
    with without_heartbeat():
        return release_flow(lab, request, actor)


def decision_deployment(lab: Lab) -> Any:
    """Make the deployment whose form decides on a request; for `prefect.serve` beside the scheduled ones.

    Whoever serves it gives the lab; the form's other fields are the release manager's.
    """
    return decision_flow.to_deployment(
        name=DEPLOYMENT,
        description="Approve or reject a request for production. An approval packages, checks parity, and swaps.",
        parameters={"lab": lab.model_dump(mode="json")},
        concurrency_limit=1,
        tags=["modellab"],
    )
