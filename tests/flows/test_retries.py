"""Shards as Prefect tasks: a worker that dies costs a retry, an error of the lab itself is told at once."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import pytest

from tests.conftest import Project
from tests.flows.toys import add_toy
from tests.pipelines.toy_engine import notes

EXIT_USAGE = 2
RECORDINGS = 6
FINAL = {"Completed", "Failed", "Crashed"}

pytestmark = pytest.mark.real


def ask(api: str, what: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{api}/{what}/filter", json.dumps(query).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def shards_of(api: str, model: str) -> dict[str, tuple[str, int]]:
    """What Prefect knows of the shards of one evaluation: name → (final state, times run).

    The server takes task runs down a moment after they ended.
    """
    (flow,) = ask(api, "flow_runs", {"flow_runs": {"name": {"any_": [f"evaluate {model}"]}}})
    deadline = time.monotonic() + 120
    while True:
        runs = ask(api, "task_runs", {"task_runs": {"flow_run_id": {"any_": [flow["id"]]}}})
        shards = {run["name"]: (run["state_name"], run["run_count"]) for run in runs if run["name"].startswith("shard")}
        # Their names say how many there are: some may be known before others.
        complete = len(shards) in {int(name.rpartition(" ")[2]) for name in shards}
        if (complete and {state for state, _ in shards.values()} <= FINAL) or time.monotonic() > deadline:
            return shards
        time.sleep(0.2)


def test_a_shard_whose_worker_dies_is_tried_again_and_the_evaluation_succeeds(
    toy_project: Project, prefect_server: str
) -> None:
    scratch = add_toy(toy_project, "toy-that-dies-once", "die once", RECORDINGS)
    answer = toy_project.run("evaluate", "toy-that-dies-once", "--json")
    assert answer.code == 0, answer.err
    assert (scratch / "died").exists(), "the worker did die"
    result = answer.json()
    assert result["timings"]["inferred"] == RECORDINGS and not result["quarantined"]
    assert result["metrics"]["wer"]["value"] == 0, "every recording was heard"
    shards = shards_of(prefect_server, "toy-that-dies-once")
    assert len(shards) > 1 and {state for state, _ in shards.values()} == {"Completed"}
    assert max(runs for _, runs in shards.values()) == 2, shards
    assert len(notes(scratch, "load")) == 2, "an engine before and one after"
    assert "Traceback" not in answer.err


def test_a_worker_that_always_dies_ends_the_run_with_one_sentence(toy_project: Project, prefect_server: str) -> None:
    scratch = add_toy(toy_project, "toy-that-always-dies", "die", 1)
    answer = toy_project.run("evaluate", "toy-that-always-dies", "--json")
    assert answer.code == EXIT_USAGE
    error = answer.json()["error"]
    assert error["kind"] == "WorkerDiedError" and "toy-that-always-dies died while it had 1 item" in error["message"]
    assert "MODELLAB_WORKERS" in error["remedy"] and "Traceback" not in answer.err
    assert list(shards_of(prefect_server, "toy-that-always-dies").values()) == [("Failed", 3)], "tried three times, no more"
    assert len(notes(scratch, "load")) >= 3


def test_an_error_that_would_come_again_is_not_tried_again(toy_project: Project, prefect_server: str) -> None:
    scratch = add_toy(toy_project, "toy-that-is-broken", "speech", 1, broken=True)
    answer = toy_project.run("evaluate", "toy-that-is-broken", "--json")
    assert answer.code == EXIT_USAGE
    assert answer.json()["error"] == {"kind": "EngineError", "message": "The toy is broken.", "remedy": "Buy another."}
    assert "The toy is broken. Buy another." in answer.err and "Traceback" not in answer.err
    assert list(shards_of(prefect_server, "toy-that-is-broken").values()) == [("Failed", 1)]
    assert len(notes(scratch, "load")) == 1 and not notes(scratch, "call")
