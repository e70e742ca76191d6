"""`modellab corpus degrade`, and how much a real recogniser loses on what it makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Answer, Project

MODEL = "faster-whisper-tiny.en"
IDS = ("harvard-spk1-snt1", "jfk-inaugural", "digits-theo-0", "digits-jackson-0", "nonspeech-silence")


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project], starter: Path) -> Project:
    project = make_project()
    project.add_starter_part(starter, IDS)
    (project.root / "data" / "degrade").symlink_to(starter.parent / "degrade")
    rule = {
        "name": "holds up in noise",
        "kind": "loss",
        "metric": "wer",
        "slice": "variant=noise-0db",
        "max": 0.1,
        "min_n": 4,
    }
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    params["gate"]["rules"] = [{**params["gate"]["rules"][0], "min_n": 4}, rule]
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    return project


@pytest.fixture(scope="module")
def degraded(project: Project) -> Answer:
    return project.run("corpus", "degrade", "mini", "--variant", "noise-0db", "--variant", "quiet", "--json")


@pytest.fixture(scope="module")
def evaluated(project: Project, degraded: Answer) -> Any:
    answer = project.run("evaluate", MODEL, "--corpus", "mini", "--corpus", "mini-noise-0db", "--json")
    assert answer.code == 0, answer.err
    return answer.json()


def test_variants_are_made_and_can_be_shown(project: Project, degraded: Answer) -> None:
    assert degraded.code == 0, degraded.err
    assert [(row["corpus"], row["recordings"]) for row in degraded.json()] == [("mini-noise-0db", 5), ("mini-quiet", 5)]
    shown = project.run("corpus", "show", "mini-noise-0db", "--json").json()
    assert shown["slices"]["variant"] == {"noise-0db": 5}
    assert "noise (snr_db 0)" in shown["description"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mini", "--variant", "noise-1db"], "There is no variant named 'noise-1db'"),
        (["minni"], "Did you mean 'mini'"),
        (["mini", "--variant", "room", "--rooms", "nowhere"], "nowhere for rooms does not exist"),
    ],
)
def test_what_is_wrong_is_one_sentence(project: Project, degraded: Answer, arguments: list[str], told: str) -> None:
    answer = project.run("corpus", "degrade", *arguments)
    assert answer.code == 2 and told in answer.err and "Traceback" not in answer.err


@pytest.mark.real
def test_a_recogniser_loses_in_noise_and_the_loss_is_paired(evaluated: Any) -> None:
    (loss,) = [loss for loss in evaluated["losses"] if loss["metric"] == "wer"]
    assert loss["variant"] == "noise-0db" and loss["n"] == 4 and loss["blocks"] == 4
    slices = evaluated["slices"]
    assert loss["original"] == slices["variant=original"]["wer"]["value"] < loss["degraded"]
    assert loss["degraded"] == slices["variant=noise-0db"]["wer"]["value"]
    assert loss["delta"] == pytest.approx(loss["degraded"] - loss["original"]) and loss["ci_low"] <= loss["delta"]
    page = Path(evaluated["report"]).read_text(encoding="utf-8")
    assert "Degraded variants" in page and "noise-0db" in page


@pytest.mark.real
def test_originals_beside_variants_cost_nothing_anew(project: Project, evaluated: Any) -> None:
    alone = project.run("evaluate", MODEL, "--corpus", "mini", "--json").json()
    assert alone["timings"]["inferred"] == 0 and alone["losses"] == []
    assert alone["metrics"]["wer"]["value"] == evaluated["slices"]["variant=original"]["wer"]["value"]
    assert alone["fingerprint"]["corpora"]["mini"] == evaluated["fingerprint"]["corpora"]["mini"]


@pytest.mark.real
def test_the_loss_is_told_in_a_line(project: Project, evaluated: Any) -> None:
    answer = project.run("evaluate", MODEL, "--corpus", "mini", "--corpus", "mini-noise-0db")
    (line,) = [line for line in answer.out.splitlines() if line.startswith("noise-0db:")]
    assert "word error rate" in line and "becomes" in line and "(4 recordings, 4 speakers)" in line


@pytest.mark.real
def test_the_gate_has_a_rule_on_a_variant(project: Project, evaluated: Any) -> None:
    """The same weights in another number format: the candidate's own loss is judged."""
    answer = project.run(
        "compare", f"{MODEL}-float32", "--against", MODEL, "--corpus", "mini", "--corpus", "mini-noise-0db", "--json"
    )
    rules = {rule["rule"]: rule for rule in answer.json()["rules"]}
    noisy = rules["holds up in noise"]
    assert noisy["kind"] == "loss" and noisy["slice"] == "variant=noise-0db" and noisy["n"] == 4
    assert noisy["verdict"] in ("fail", "inconclusive") and noisy["delta"] > 0
    alone = project.run("compare", f"{MODEL}-float32", "--against", MODEL, "--corpus", "mini", "--json")
    (missing,) = [rule for rule in json.loads(alone.out)["rules"] if rule["rule"] == "holds up in noise"]
    assert missing["verdict"] == "inconclusive" and alone.code != 0
