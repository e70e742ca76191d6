"""A request is bound to its evidence, approved by somebody else, and stale as soon as what it rests on changes."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import StateError
from pipelines.lab import Lab
from registry import lifecycle
from registry.evidence import approve_on_evidence, circumstances
from registry.history import open_history
from registry.identity import RefusedError, Rules
from registry.requests import approve, reject, release
from registry.state import fold
from tests.registry.desk import ADA, BOB, NEW, OLD, OTHER, POLICY, approved, ask, evidence, person, start


@pytest.fixture(autouse=True)
def started(lab: Lab) -> None:
    start(lab)


def now(lab: Lab) -> Any:
    return fold(open_history(lab).events())


def test_what_the_lab_starts_with(lab: Lab) -> None:
    state = now(lab).of("asr")
    assert state.production == OLD
    assert state.stages == {OLD.version: "production", NEW.version: "candidate", OTHER.version: "candidate"}
    with pytest.raises(RefusedError, match="in production for asr already"):
        lifecycle.bootstrap(open_history(lab), "asr", NEW, {})


def test_a_request_outlives_every_process(lab: Lab) -> None:
    request = ask(lab)
    assert now(lab).requests[request.id] == request
    assert (request.requested_by, request.state, request.reason) == ("ada", "open", "better")
    assert request.evidence_digest == evidence(lab, NEW, OLD).digest


def test_the_same_request_is_opened_once(lab: Lab) -> None:
    assert ask(lab).id == ask(lab).id == ask(lab, actor=BOB).id
    assert len(now(lab).requests) == 1


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_what_did_not_pass_cannot_be_asked_for(lab: Lab, verdict: str) -> None:
    with pytest.raises(RefusedError, match=verdict):
        ask(lab, verdict=verdict)
    assert now(lab).requests == {}


@pytest.mark.parametrize("name", ["ada", "ADA", " A.d.a", "Ádà", "ada@example.org"])
def test_who_asked_may_not_approve_under_any_spelling(lab: Lab, name: str) -> None:
    request = ask(lab)
    rules = Rules.model_validate({"people": {"Ada": ["ada@example.org"]}})
    with pytest.raises(RefusedError, match="ada asked for this"):
        approve(open_history(lab), request.id, person(name), "mine", rules, circumstances(lab, "asr"))
    assert now(lab).requests[request.id].state == "open"


def test_an_approval_needs_a_reason_a_role_and_a_request_that_is_there(lab: Lab) -> None:
    request, history, today = ask(lab), open_history(lab), circumstances(lab, "asr")
    for id_, rules, reason, told in (
        (request.id, Rules(), " … ", "reason"),
        (request.id, Rules(approve=("carol",)), "fine", "bob may not approve"),
        ("99-abc", Rules(), "fine", "no request"),
    ):
        with pytest.raises(RefusedError, match=told):
            approve(history, id_, BOB, reason, rules, today)
    assert now(lab).requests[request.id].state == "open"


def test_stale_when_production_has_changed(lab: Lab) -> None:
    first, second = ask(lab), ask(lab, OTHER)
    approve_on_evidence(lab, first.id, BOB, "fine")
    release(open_history(lab), first.id, BOB, circumstances(lab, "asr"), {"package": "x"})
    with pytest.raises(RefusedError, match=r"stale: new .* is in production"):
        approve_on_evidence(lab, second.id, BOB, "fine too")


@pytest.mark.parametrize("approved_before", [False, True])
@pytest.mark.parametrize("changed", ["data", "policy"])
def test_stale_when_the_data_or_the_policy_has_changed(lab: Lab, changed: str, approved_before: bool) -> None:
    request = approved(lab) if approved_before else ask(lab)
    if changed == "data":
        (lab.data / "new.flac").write_bytes(b"more")
    else:
        lab.params.write_text(POLICY.replace("0.25", "0.26"))
    with pytest.raises(RefusedError, match=f"stale: The {changed} has changed"):
        if approved_before:
            release(open_history(lab), request.id, BOB, circumstances(lab, "asr"), {})
        else:
            approve_on_evidence(lab, request.id, BOB, "fine")
    assert now(lab).of("asr").production == OLD


def test_evidence_that_was_altered_cannot_be_approved(lab: Lab) -> None:
    request = ask(lab)
    (lab.home.comparisons / request.evidence.comparison / "comparison.json").write_text('{"verdict": "pass"}')
    with pytest.raises(StateError, match="not what the request was opened on"):
        approve_on_evidence(lab, request.id, BOB, "fine")


def test_an_approval_stands_and_a_release_is_made_once(lab: Lab) -> None:
    request = approved(lab)
    assert approve_on_evidence(lab, request.id, BOB, "again")[1] is False
    history, today = open_history(lab), circumstances(lab, "asr")
    made = release(history, request.id, BOB, today, {"package": "x"})
    assert made is not None and made.details["replaces"] == OLD.model_dump()
    assert release(history, request.id, BOB, today, {"package": "x"}) is None
    state = now(lab).of("asr")
    assert (state.production, state.stages[OLD.version], state.before) == (NEW, "archived", [OLD])
    assert [event.kind for event in history.events()].count("approval") == 1


def test_a_rejection_ends_a_request_also_one_that_was_approved(lab: Lab) -> None:
    request = approved(lab)
    assert reject(open_history(lab), request.id, person("carol"), "wait for the holidays", Rules()).state == "rejected"
    with pytest.raises(RefusedError, match="is rejected, not approved"):
        release(open_history(lab), request.id, BOB, circumstances(lab, "asr"), {})
    with pytest.raises(RefusedError, match="rejected already"):
        reject(open_history(lab), request.id, BOB, "no", Rules())
    assert now(lab).of("asr").stages[NEW.version] == "candidate"


def test_who_asked_may_withdraw(lab: Lab) -> None:
    request = ask(lab)
    assert reject(open_history(lab), request.id, ADA, "a mistake", Rules(approve=("carol",))).state == "rejected"


def test_production_is_not_archived_and_archiving_is_written_once(lab: Lab) -> None:
    history = open_history(lab)
    with pytest.raises(RefusedError, match="in production"):
        lifecycle.archive(history, "asr", OLD, "production", ADA, "")
    lifecycle.archive(history, "asr", NEW, "candidate", ADA, "tired of it")
    with pytest.raises(RefusedError, match="archived already"):
        lifecycle.archive(history, "asr", NEW, "candidate", ADA, "")


def test_rollbacks_go_back_in_order_and_never_to_what_was_left(lab: Lab) -> None:
    history = open_history(lab)
    for what, against in ((NEW, OLD), (OTHER, NEW)):
        request = approved(lab, what, against)
        release(history, request.id, BOB, circumstances(lab, "asr"), {"package": "x"})
    for expected in (NEW, OLD):
        leave, to = lifecycle.rollback_target(now(lab), "asr")
        assert to == expected
        lifecycle.rollback(history, "asr", leave, to, BOB, "back", {"package": "x"})
        assert now(lab).of("asr").production == expected
    with pytest.raises(RefusedError, match="no earlier production"):
        lifecycle.rollback_target(now(lab), "asr")
    with pytest.raises(RefusedError, match="meanwhile"):
        lifecycle.rollback(history, "asr", NEW, OLD, BOB, "late", {"package": "x"})
