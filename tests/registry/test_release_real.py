"""From an experimental model to production and back, as people type it: real engines, packages and services."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
import yaml

from pipelines.lab import Lab, Layout
from registry import lifecycle
from registry.history import open_history
from registry.versions import describe, register
from tests.conftest import Project

CANDIDATE, BASELINE = "faster-whisper-tiny.en", "faster-whisper-tiny.en-float32"
RULES: list[dict[str, Any]] = [
    {"name": "usable", "kind": "absolute", "metric": "wer", "max": 0.9, "judge": "value", "min_n": 3},
    {"name": "not far worse", "kind": "non_inferiority", "metric": "wer", "margin": 0.9, "min_n": 3},
]

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project], starter: Path) -> Project:
    project = make_project()
    rows = [json.loads(line) for line in (starter / "manifest.jsonl").read_text().splitlines()]
    ids = [row["id"] for row in rows if row["id"].startswith("digits") and row["id"].endswith("-0")][:3]
    folder = project.add_starter_part(starter, [*ids, "lj-lj001-0002"])
    (folder / "corpus.yaml").write_text((starter / "corpus.yaml").read_text().replace("name: starter", "name: mini"))
    roles = {"request": ["ada"], "approve": ["bob"], "roll_back": ["carol"]}
    text = yaml.safe_dump({"gate": {"resamples": 200, "rules": RULES}, "lifecycle": roles})
    (project.root / "params.yaml").write_text(text)
    # The shipped cards put a larger model into production; here the lab starts with a small one.
    lab = lab_of(project)
    described = describe(lab, BASELINE, "asr", lambda line: None)
    register(lab, described, None, (), "none", lambda line: None)
    lifecycle.bootstrap(open_history(lab), "asr", described.version, {"card": BASELINE})
    return project


def lab_of(project: Project) -> Lab:
    return Lab(project=project.root, home_folder=project.home, layout=Layout(workers=1, threads=2))


def told(project: Project, *arguments: str, code: int = 0, **variables: str) -> Any:
    answer = project.run(*arguments, "--json", **variables)
    assert answer.code == code, answer.err + answer.out
    return answer.json()


def test_from_experimental_to_production_and_back(project: Project) -> None:
    # What cannot be is refused before anything is started.
    early = told(project, "promote", CANDIDATE, "--to", "production", "--by", "ada", code=2)
    assert "only a candidate" in early["error"]["message"]
    other = told(project, "promote", CANDIDATE, "--to", "candidate", "--by", "bob", code=2)
    assert "lifecycle.request names ada" in other["error"]["message"]
    nobody = told(project, "promote", CANDIDATE, "--to", "candidate", code=2)
    assert "MODELLAB_USER" in nobody["error"]["remedy"]

    promoted = told(project, "promote", CANDIDATE, "--to", "candidate", MODELLAB_USER="Ada")
    assert (promoted["outcome"], promoted["verdict"]) == ("promoted", "pass")

    asked = told(project, "promote", CANDIDATE, "--to", "production", "--by", "ada", "--reason", "smaller")
    request = asked["request"]["id"]
    assert asked["outcome"] == "requested" and asked["request"]["evidence"]["production"]["model"] == BASELINE
    (waiting,) = told(project, "approvals", "list")
    assert (waiting["id"], waiting["stale"]) == (request, None)
    mine = told(project, "approve", request, "--by", "ADA ", "--reason", "mine", code=2)
    assert "may not approve" in mine["error"]["message"]

    released = told(project, "approve", request, "--by", "bob", "--reason", "the report is fine")
    assert released["production"]["model"] == CANDIDATE and released["replaced"]["model"] == BASELINE
    stages = {row["model"]: row["stage"] for row in told(project, "models", "list")}
    assert (stages[CANDIDATE], stages[BASELINE], stages["whisper-base"]) == ("production", "archived", "experimental")
    itself = told(project, "compare", CANDIDATE, code=2)
    assert "compared with itself" in itself["error"]["message"]

    back = told(project, "registry", "rollback", "asr", "--by", "carol", "--reason", "it misheard a number")
    assert back["production"]["model"] == BASELINE
    assert told(project, "registry", "rollback", "asr", "--by", "carol", "--reason", "it misheard a number")["already"]

    history = told(project, "registry", "history", "--task", "asr")
    assert [event["kind"] for event in history["events"]] == [
        "bootstrap", "promotion", "request", "approval", "release", "rollback",
    ]  # fmt: skip
    assert [(event["actor"], event["origin"]) for event in history["events"]][1:4] == [
        ("Ada", "environment"), ("ada", "option"), ("bob", "option"),
    ]  # fmt: skip
    assert history["production"]["asr"]["model"] == BASELINE
    released_at = history["events"][4]["at"]
    then = told(project, "registry", "history", CANDIDATE, "--as-of", released_at)
    assert then["production"]["asr"]["model"] == CANDIDATE and len(then["events"]) == 4
    assert told(project, "registry", "verify")["faults"] == []


def test_what_mlflow_loads_transcribes_with_the_weights_it_carries(project: Project, starter: Path) -> None:
    lab = lab_of(project)
    mlflow.set_tracking_uri(lab.tracking_uri)
    client = mlflow.MlflowClient()
    aliased = client.get_model_version_by_alias("modellab-asr", "production")
    assert aliased.tags["modellab.model"] == BASELINE
    (candidate,) = [v for v in client.search_model_versions("name='modellab-asr'") if v.tags["modellab.model"] == CANDIDATE]
    assert candidate.tags["modellab.stage"] == "archived" and candidate.tags["modellab.verdict"] == "pass"
    assert {"modellab.comparison", "modellab.data_version", "modellab.evaluations", "modellab.weights"} <= set(
        candidate.tags
    )

    folder = Path(mlflow.artifacts.download_artifacts("models:/modellab-asr@production"))
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle")]
    model = mlflow.pyfunc.load_model("models:/modellab-asr@production")
    recording = next((project.root / "data" / "mini").rglob("*lj001-0002*"))
    heard = model.predict(str(recording))
    assert "modern" in heard["text"][0]
    frame = model.predict(pd.DataFrame({"path": [recording, recording], "language": ["en", "en"]}))
    assert list(frame["text"]) == [heard["text"][0]] * 2

    weights = next(path for path in folder.rglob("weights/*") if path.stat().st_size > 1_000_000)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    try:
        with pytest.raises(Exception, match="not those that were registered"):
            mlflow.pyfunc.load_model(str(folder))
    finally:
        content[-1] ^= 1
        weights.write_bytes(content)
