"""Approvals behind a proxy: its header says who, and nothing else does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from modellab.approvals_http import create_app
from pipelines.lab import Lab
from registry.history import open_history
from registry.identity import RefusedError
from registry.stages import read_state
from tests.registry.desk import NEW, OLD, OTHER, POLICY, Doubles, ask, start

HEADER = "X-Forwarded-User"


def quiet(line: str) -> None:
    """Listen to nothing."""


@pytest.fixture
def served(make_mlflow_lab: Callable[[], Lab]) -> Lab:
    lab = make_mlflow_lab()
    lab.params.write_text(f"{POLICY}lifecycle: {{header: {HEADER}, approve: [bob, ada]}}\n")
    start(lab)
    return lab


def client_of(lab: Lab, **steps: Any) -> TestClient:
    return TestClient(create_app(lab, Doubles(lab.home_folder / "packages", **steps), quiet))


def wait_for(lab: Lab, request_id: str, done: Callable[[Any], bool]) -> Any:
    """Wait until a release in the background has come to its end, however long that takes."""
    for _ in range(600):
        if done(request := read_state(lab).requests[request_id]):
            return request
        time.sleep(0.1)
    raise AssertionError(f"{request} did not come to its end in a minute")


def test_the_header_says_who_approves(served: Lab) -> None:
    asked, client = ask(served), client_of(served)
    path = f"/requests/{asked.id}/approve"
    listed = client.get("/requests", headers={HEADER: "carol"}).json()
    assert [(row["id"], row["stale"]) for row in listed] == [(asked.id, None)]
    for headers, told in (({}, "0 times"), ({HEADER: "Ada"}, "may not approve it"), ({HEADER: "carol"}, "carol may not")):
        answer = client.post(
            path,
            headers=headers,
            json={
                "reason": "fine",
            },
        )
        assert answer.status_code == 409 and told in answer.json()["error"]["message"], told
    assert client.post(path, headers=[(HEADER, "bob"), (HEADER, "ada")], json={"reason": "x"}).status_code == 409
    assert client.post(path, headers={HEADER: "bob"}, json={"reason": "fine", "by": "carol"}).status_code == 422
    assert client.post(path, headers={HEADER: "bob"}, data={"reason": "a form of another site"}).status_code == 422
    assert read_state(served).requests[asked.id].state == "open"

    assert client.post(path, headers={HEADER: "bob"}, json={"reason": "fine"}).status_code == 202
    assert wait_for(served, asked.id, lambda request: request.state == "released").decided_by == "bob"
    origins = [event.origin for event in open_history(served).events() if event.kind in ("approval", "release")]
    assert origins == ["header", "header"] and read_state(served).of("asr").production == NEW


def test_a_release_that_fails_stands_in_the_history_and_swaps_nothing(served: Lab) -> None:
    asked, client = ask(served), client_of(served, different=True)
    client.post(f"/requests/{asked.id}/approve", headers={HEADER: "bob"}, json={"reason": "fine"})
    failed = wait_for(served, asked.id, lambda request: request.failure)
    assert failed.state == "approved" and "1 of 2 answers" in failed.failure
    assert read_state(served).of("asr").production == OLD
    other = ask(served, OTHER)
    rejected = client.post(f"/requests/{other.id}/reject", headers={HEADER: "bob"}, json={"reason": "not now"})
    assert rejected.json()["state"] == "rejected"


def test_without_a_header_in_the_policy_nothing_is_served(tmp_path: Path, lab: Lab) -> None:
    with pytest.raises(RefusedError, match="names no header"):
        create_app(lab, Doubles(tmp_path), quiet)
