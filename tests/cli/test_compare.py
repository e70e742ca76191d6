"""`modellab compare`, re-scoring and planning as their users run them, on real engines and audio."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from tests.conftest import Project

CANDIDATE, BASELINE = "faster-whisper-tiny.en", "faster-whisper-tiny.en-float32"
CODES = {"pass": 0, "fail": 1, "inconclusive": 3}

pytestmark = pytest.mark.real

RULES: list[dict[str, Any]] = [
    {"name": "usable", "kind": "absolute", "metric": "wer", "max": 0.9, "judge": "value", "min_n": 5},
    {"name": "not far worse", "kind": "non_inferiority", "metric": "wer", "margin": 0.9, "min_n": 5},
    {"name": "fast", "kind": "ratio", "metric": "rtf", "max": 50, "min_n": 2},
]


def policy(project: Project, *rules: dict[str, Any]) -> None:
    text = yaml.safe_dump({"gate": {"resamples": 500, "rules": list(rules)}})
    (project.root / "params.yaml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project], starter: Path) -> Project:
    project = make_project()
    ids = [json.loads(line)["id"] for line in (starter / "manifest.jsonl").read_text().splitlines()]
    speech = [name for name in ids if name.startswith("digits") and name.endswith(("-0", "-1"))]
    folder = project.add_starter_part(starter, [*speech, "lj-lj001-0002", "harvard-spk1-snt4"])
    (folder / "corpus.yaml").write_text((starter / "corpus.yaml").read_text().replace("name: starter", "name: mini"))
    return project


@pytest.fixture(scope="module")
def passed(project: Project) -> Any:
    policy(project, *RULES)
    answer = project.run("compare", CANDIDATE, "--against", BASELINE, "--json")
    assert answer.code == CODES["pass"], answer.err + answer.out
    return answer.json()


def test_the_comparison_has_the_fields_of_the_design(passed: Any) -> None:
    assert passed["verdict"] == "pass"
    wanted = {"metric", "slice", "verdict", "candidate", "baseline", "delta", "ci_low", "ci_high", "margin", "reason"}
    assert all(wanted <= set(rule) for rule in passed["rules"])
    assert {test["test"] for test in passed["significance"]} == {"MAPSSWE", "matched utterances"}
    assert len(passed["policy_digest"]) == 64


def test_speed_was_measured_in_turn_and_memory_of_both(project: Project, passed: Any) -> None:
    duel = json.loads(next((project.home / "duels").glob("*.json")).read_text())
    assert len(duel["timings"]) >= 14 and all(row["candidate_s"] > 0 < row["baseline_s"] for row in duel["timings"])
    assert min(duel["peak_mib"]) > 50


def test_the_comparison_is_logged_with_its_verdict(project: Project, passed: Any) -> None:
    run = mlflow.MlflowClient(f"sqlite:///{project.home / 'mlflow.db'}").get_run(passed["run_id"])
    assert run.data.tags["modellab.verdict"] == "pass"
    assert run.data.tags["modellab.evaluation.candidate"] == passed["evaluations"]["candidate"]


@pytest.mark.parametrize(
    ("rule", "verdict", "told"),
    [
        (
            {"name": "strict", "kind": "absolute", "metric": "wer", "max": 1e-9, "judge": "value", "min_n": 5},
            "fail",
            "asked",
        ),
        ({"name": "slow", "kind": "ratio", "metric": "rtf", "max": 0.001, "min_n": 2}, "fail", "beyond"),
        ({"name": "many", "kind": "non_inferiority", "metric": "wer", "margin": 0.9, "min_n": 500}, "inconclusive", "500"),
        (
            {"name": "gone", "kind": "non_inferiority", "metric": "wer", "margin": 0.9, "slice": "accent=sv"},
            "inconclusive",
            "No utterance of accent=sv",
        ),
    ],
)
def test_verdicts_and_exit_codes(project: Project, passed: Any, rule: dict[str, Any], verdict: str, told: str) -> None:
    policy(project, *RULES, rule)
    answer = project.run("compare", CANDIDATE, "--against", BASELINE, "--json")
    assert answer.code == CODES[verdict], answer.err
    result = answer.json()
    assert result["verdict"] == verdict
    assert told in next(entry["reason"] for entry in result["rules"] if entry["rule"] == rule["name"])
    assert result["policy_digest"] != passed["policy_digest"]
    assert len(list((project.home / "duels").glob("*.json"))) == 1, "the kept timings are used again"


def test_a_stored_evaluation_is_scored_anew_without_inference(project: Project, passed: Any) -> None:
    policy(project, *RULES)
    chosen = project.run("evaluate", CANDIDATE, "--json").json()
    joined = project.run("evaluate", CANDIDATE, "--normalizer", "whisper-english", "--json").json()
    assert joined["timings"]["inferred"] == 0
    assert set(joined["fingerprint"]["normalizers"]) == {"whisper-english"}
    assert set(chosen["fingerprint"]["normalizers"]) == {"digits", "whisper-english"}
    # It joins spoken digits into one number, which is nonsense for connected digits: that is why corpora choose.
    assert joined["slices"]["domain=digits"]["wer"]["value"] > 2 * chosen["slices"]["domain=digits"]["wer"]["value"] + 0.1
    assert project.run("evaluate", CANDIDATE, "--normalizer", "wisper-english").code == 2


def test_calibration_and_power_come_with_it(project: Project, passed: Any) -> None:
    folder = project.home / "evaluations" / passed["evaluations"]["candidate"]
    calibration = json.loads((folder / "calibration.json").read_text())
    assert calibration["words"] > 20 and 0 <= calibration["ece"] <= 1
    planned = project.run("corpus", "power", "mini", "--margin", "0.001", "--margin", "0.5", "--json").json()
    assert CANDIDATE in planned["basis"]
    assert [row["margin"] for row in planned["rows"]] == [0.001, 0.5]
    fresh = project.run("corpus", "power", "mini", "--json", MODELLAB_HOME=str(project.root / "fresh")).json()
    assert "assumptions" in fresh["basis"] and fresh["detectable"] > 0
