"""Twenty processes at once, and thirty that are killed: one production at every moment, and a history that tells it all."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.lab import Lab
from registry.events import faults
from registry.projection import bring_up_to_date
from registry.state import fold
from tests.conftest import REPOSITORY
from tests.registry.desk import OLD, ask, start

PROCESSES, KILLS = 20, 30
SIGKILL = -9


def children(what: str, labs: Sequence[Lab], *arguments: str) -> list[dict[str, Any]]:
    """Run `tests/registry/children.py`; gives what its processes said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.registry.children", what, *arguments],
        input=json.dumps([lab.model_dump(mode="json") for lab in labs]),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=580,
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def ready(lab: Lab) -> Lab:
    """Bring a lab to where one release is asked for."""
    history = start(lab)
    ask(lab)
    bring_up_to_date(lab, history)
    return lab


def test_twenty_processes_promote_and_roll_back(mlflow_lab: Lab) -> None:
    history = start(mlflow_lab)
    bring_up_to_date(mlflow_lab, history)
    said = children("crowd", [mlflow_lab], str(PROCESSES))
    done = [line for line in said if "event" in line]
    refused = [line["refused"] for line in said if "refused" in line]
    assert len(said) == PROCESSES * 3 and len(done) >= 3, said
    clear = ("in production", "meanwhile", "no earlier production")
    assert not [told for told in refused if not any(word in told for word in clear)]

    events = history.events()
    assert faults(events) == []
    swaps = {event.seq: event for event in events if event.kind in ("release", "rollback")}
    # Complete: what somebody was told to have done is there, once, and nothing else is.
    told = {line["event"] for line in done}
    assert told == set(swaps)
    # Consistent: each swap replaced exactly what the one before had put there.
    production = OLD
    for seq, event in swaps.items():
        assert event.details["replaces"] == production.model_dump(), seq
        production = fold(events[:seq]).of("asr").production
        assert production is not None and event.version == production.version != event.details["replaces"]["version"]
    state = fold(events).of("asr")
    assert list(state.stages.values()).count("production") == 1

    bring_up_to_date(mlflow_lab, history, always=True)
    import mlflow

    alias = mlflow.MlflowClient(mlflow_lab.tracking_uri).get_model_version_by_alias("modellab-asr", "production")
    assert state.production is not None and alias.tags["modellab.fingerprint"] == state.production.version


def test_a_release_that_is_killed_anywhere_leaves_a_valid_state_and_is_finished_by_the_same_command(
    make_mlflow_lab: Callable[[], Lab],
) -> None:
    steps, lines = children("count", [ready(make_mlflow_lab()) for _ in range(2)])
    assert {"deciding", "written", "packaged", "parity", "committed", "swapped", "alias production"} <= set(steps["steps"])
    points = [f"step:{number}" for number in range(1, len(steps["steps"]) + 1)]
    # The rest anywhere in the lifecycle's code; the seed makes a failure come back.
    points += [f"line:{number}" for number in random.Random(8).sample(range(1, lines["lines"]), KILLS - len(points))]
    said = children("kill", [ready(make_mlflow_lab()) for _ in points], *points)
    ends = {line["point"]: line["ended"] for line in said if "point" in line}
    assert ends == dict.fromkeys(points, SIGKILL)
    left = [line["production"] for line in said if "production" in line]
    assert len(left) == 2 * KILLS and left[1::2] == ["new"] * KILLS
    assert {"old", "new"} == set(left[0::2]), "some died before the swap, and some after it"
