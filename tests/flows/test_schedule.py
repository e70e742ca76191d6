"""Scheduled runs through a real Prefect server: a missed night is caught up once, a regression is found and told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.card import SHIPPED_CARDS
from pipelines.lab import Lab, Layout
from pipelines.schedule import RunRecord, read_record, write_record
from registry.history import open_history
from tests.conftest import Project
from tests.pipelines.test_dataversion import QUIET_GIT

MODEL = "faster-whisper-tiny.en"
IDS = ("harvard-spk1-snt1", "jfk-inaugural", "digits-theo-0", "cv-22058267")
SERVE = """
import sys
from pipelines.lab import Lab
from pipelines.schedule import read_schedule
from flows.schedule import serve
lab = Lab.model_validate_json(sys.argv[1])
print("missed:", serve(lab, read_schedule(lab.params), run_once=True))
"""
AD_HOC = """
import sys
from pipelines.lab import Lab
from flows.schedule import Form, ad_hoc_flow
lab = Lab.model_validate_json(sys.argv[1])
print(ad_hoc_flow(lab, Form.model_validate_json(sys.argv[2])).model_dump_json())
"""
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project], starter: Path) -> Project:
    project = make_project()
    project.add_starter_part(starter, IDS)
    cards = project.root / "cards"
    cards.mkdir()
    card = yaml.safe_load((SHIPPED_CARDS / f"{MODEL}.yaml").read_text())
    (cards / f"{MODEL}.yaml").write_text(yaml.safe_dump({**card, "stage": "production"}))
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    rule = {"name": "no worse", "kind": "non_inferiority", "metric": "wer", "margin": 0.02, "min_n": 4}
    usable = {"name": "usable", "kind": "absolute", "metric": "wer", "max": 0.5, "judge": "value", "min_n": 4}
    params["gate"] = {"resamples": 200, "rules": [usable, rule]}
    params["schedule"] = {"runs": {"nightly": {"cron": "0 2 * * *"}, "weekly": {"cron": "0 4 * * 0", "anew": True}}}
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    (project.root / ".gitignore").write_text("/.modellab\n/data\n")
    git(project.root, "git", "init", "-q")
    git(project.root, sys.executable, "-m", "dvc", "init", "-q")
    commit_data(project.root)
    return project


def git(root: Path, *command: str) -> None:
    subprocess.run(command, cwd=root, check=True, capture_output=True, env={**os.environ, **QUIET_GIT})


def commit_data(root: Path) -> None:
    git(root, sys.executable, "-m", "dvc", "add", "-q", "data")
    git(root, "git", "add", ".")
    git(root, "git", "commit", "-qm", "data")


@pytest.fixture(scope="module")
def lab(project: Project) -> Lab:
    return Lab(
        project=project.root,
        home_folder=project.home,
        card_folders=(project.root / "cards",),
        layout=Layout(workers=1, threads=2),
    )


def run(project: Project, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=project.root,
        env={**project.environment, "PREFECT_HOME": str(project.home / "prefect"), "PREFECT_LOGGING_LEVEL": "INFO"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def summaries(lab: Lab) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted((lab.home.schedules / "runs").glob("*.json"))]


@pytest.fixture(scope="module")
def caught_up(project: Project, lab: Lab) -> str:
    """The schedules were served three days ago, and nobody was there since."""
    past = datetime.now(UTC) - timedelta(days=3)
    write_record(lab.home, "nightly", RunRecord(since=past))
    write_record(lab.home, "weekly", RunRecord(since=datetime.now(UTC)))
    return run(project, SERVE, lab.model_dump_json())


def test_a_missed_run_is_caught_up_once(lab: Lab, caught_up: str) -> None:
    assert "missed: ['nightly']" in caught_up
    (summary,) = summaries(lab)
    (found,) = summary["findings"]
    assert (found["model"], found["role"], found["verdict"]) == (MODEL, "production", "pass")
    assert "known-good evaluation yet" in found["reason"] and Path(found["report"]).is_file()
    record = read_record(lab.home, "nightly")
    assert record is not None and record.slot is not None and record.slot.hour == 2
    assert datetime.now(UTC) - record.slot < timedelta(days=1), "three nights were missed; the newest stands for all"


def test_the_server_plans_the_nights_to_come(project: Project, caught_up: str) -> None:
    """With SQLAlchemy 2.1 it could not, and said so in its log only (docs/development.md)."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "deployments": {"name": {"any_": ["nightly"]}}}
    request = urllib.request.Request(
        f"{project.environment['PREFECT_API_URL']}/flow_runs/filter",
        data=json.dumps(asked).encode(),
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + 180  # its planner wakes up every minute
    planned: list[Any] = []
    while not planned and time.monotonic() < deadline:
        planned = [run for run in json.load(urllib.request.urlopen(request)) if run["auto_scheduled"]]
        time.sleep(1)
    assert planned and all("T02:00:00" in run["expected_start_time"] for run in planned)


def test_new_recordings_are_no_regression(project: Project, lab: Lab, starter: Path, caught_up: str) -> None:
    """The model is held against its known-good evaluation on the data of that, and then known good on the newest."""
    before = known_good(lab)
    project.add_starter_part(starter, (*IDS, "nonspeech-silence"))
    commit_data(project.root)
    summary = json.loads(run(project, AD_HOC, lab.model_dump_json(), "{}").splitlines()[-1])
    (found,) = summary["findings"]
    assert found["verdict"] == "pass" and "It says what it said" in found["reason"]
    assert found["known_good"] == before and found["data_version"] != before["data_version"]
    assert known_good(lab)["data_version"] == found["data_version"] and summary["alerts"] == []
    evaluations = [json.loads(path.read_text()) for path in lab.home.evaluations.glob("*/evaluation.json")]
    assert sum(evaluation["timings"]["inferred"] for evaluation in evaluations) == len(IDS) + 1, "nothing twice"


def known_good(lab: Lab) -> Any:
    return json.loads(next((lab.home.schedules / "known-good").glob("*.json")).read_text())


def test_a_regression_of_production_is_found_and_told(project: Project, lab: Lab, caught_up: str) -> None:
    """The known-good evaluation is made to have heard everything right: what is heard now is worse than that."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = known_good(lab)
    path = lab.home.evaluations / known["run_id"] / "predictions.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["normalized_reference"] = row["normalized_hypothesis"] = " ".join(row["normalized_reference"].split())
    pq.write_table(pa.Table.from_pylist(rows), path)
    params = yaml.safe_load(lab.params.read_text())
    params["gate"]["rules"][0]["max"] = 0.001
    lab.params.write_text(yaml.safe_dump(params))
    summary = json.loads(run(project, AD_HOC, lab.model_dump_json(), "{}").splitlines()[-1])
    (found,) = summary["findings"]
    assert found["verdict"] == "fail" and "usable" in found["reason"]
    (alert,) = summary["alerts"]
    assert alert["kind"] == "regression" and alert["model"] == MODEL and alert["schedule"] == "ad hoc"
    events = [event for event in open_history(lab).events() if event.kind == "regression"]
    assert len(events) == 1 and events[0].origin == "schedule" and events[0].details["alert"] == alert["id"]


def test_a_run_anew_infers_everything_again(project: Project, lab: Lab, caught_up: str) -> None:
    form = {"anew": True, "models": [MODEL], "limit": 2}
    summary = json.loads(run(project, AD_HOC, lab.model_dump_json(), json.dumps(form)).splitlines()[-1])
    evaluation = json.loads((lab.home.evaluations / summary["findings"][0]["run_id"] / "evaluation.json").read_text())
    assert evaluation["timings"]["inferred"] == 2 and evaluation["timings"]["reused"] == 0
    assert not list((lab.home.schedules / "anew").iterdir()), "what was inferred for this alone is not kept"
