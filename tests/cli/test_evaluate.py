"""`modellab evaluate` as its user runs it: real engine, real audio, a real Prefect server and MLflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pyarrow.parquet as pq
import pytest

from tests.conftest import Project

MODEL = "faster-whisper-tiny.en"
FIRST = ("jfk-inaugural", "lj-lj001-0002", "digits-theo-0", "digits-jackson-0", "nonspeech-silence", "cv-22058267")
ADDED = "harvard-spk1-snt1"

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project], starter: Path) -> Project:
    project = make_project()
    project.add_starter_part(starter, FIRST)
    return project


@pytest.fixture(scope="module")
def first(project: Project) -> Any:
    answer = project.run("evaluate", MODEL, "--json")
    assert answer.code == 0, answer.err
    return answer.json()


def test_the_result_has_the_fields_of_the_design(first: Any) -> None:
    wanted = {"run_id", "model", "data_version", "fingerprint", "metrics", "slices", "suspect_references"}
    assert wanted | {"quarantined", "predictions", "report", "timings", "task"} <= set(first)
    assert {"value", "unit", "ci_low", "ci_high", "n"} <= set(first["metrics"]["wer"])
    assert {"inferred", "reused", "wall_s", "audio_s"} <= set(first["timings"])
    assert first["timings"]["inferred"] == len(FIRST) and first["timings"]["reused"] == 0


def test_the_numbers_come_from_real_recognition(first: Any) -> None:
    rows = {row["id"]: row for row in pq.read_table(first["predictions"]).to_pylist()}
    assert set(rows) == set(FIRST)
    assert "ask not what your country can do for you" in rows["jfk-inaugural"]["normalized_hypothesis"]
    errors = sum(
        rows[i]["substitutions"] + rows[i]["deletions"] + rows[i]["insertions"] for i in FIRST if rows[i]["reference"]
    )
    words = first["metrics"]["wer"]["counts"]["reference_words"]
    assert first["metrics"]["wer"]["value"] == pytest.approx(errors / words)
    assert 0 <= first["metrics"]["wer"]["value"] < 0.5
    assert rows["digits-theo-0"]["normalizer"] != "none"
    for name in ("rtf", "latency_p50", "latency_p95", "load_time", "peak_memory"):
        assert first["metrics"][name]["value"] > 0


def test_slices_are_those_of_the_tags(first: Any) -> None:
    assert {"domain=digits", "domain=oratory", "bandwidth=narrow", "speaker=theo"} <= set(first["slices"])
    assert first["slices"]["bandwidth=narrow"]["wer"]["n"] == 2
    assert "wer" not in first["slices"].get("domain=nonspeech", {}), "non-speech has no word error rate"


def test_everything_is_logged_to_mlflow(project: Project, first: Any) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project.home / 'mlflow.db'}")
    run = client.get_run(first["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["wer"] == pytest.approx(first["metrics"]["wer"]["value"])
    assert run.data.tags["modellab.fingerprint"] == first["fingerprint"]["digest"]
    assert run.data.params["model.compute_type"] == "int8"
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["mini"]
    artifacts = {item.path for item in client.list_artifacts(first["run_id"])}
    assert {"predictions.parquet", "report.html", "evaluation.json", "plots"} <= artifacts


def test_the_second_run_infers_nothing_and_times_nothing(project: Project, first: Any) -> None:
    again = project.run("evaluate", MODEL, "--json").json()
    assert again["timings"]["inferred"] == 0 and again["timings"]["reused"] == len(FIRST)
    assert again["metrics"]["wer"] == first["metrics"]["wer"]
    assert again["fingerprint"] == first["fingerprint"]
    assert again["metrics"]["rtf"]["value"] is None and again["metrics"]["rtf"]["note"]


def test_adding_one_recording_infers_one(project: Project, starter: Path, first: Any) -> None:
    project.add_starter_part(starter, (*FIRST, ADDED))
    more = project.run("evaluate", MODEL, "--json").json()
    assert more["timings"]["inferred"] == 1 and more["timings"]["reused"] == len(FIRST)
    assert more["fingerprint"]["corpora"] != first["fingerprint"]["corpora"]
    project.add_starter_part(starter, FIRST)


def test_a_killed_run_keeps_its_shards_and_the_next_goes_on(make_project: Callable[[], Project], starter: Path) -> None:
    project = make_project()
    ids = [json.loads(line)["id"] for line in (starter / "manifest.jsonl").read_text().splitlines()]
    chosen = [i for i in ids if i.startswith(("digits", "harvard"))][:32]
    project.add_starter_part(starter, chosen)
    process = subprocess.Popen(
        project.command("evaluate", MODEL, "--json"),
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list((project.home / "predictions").glob("*/*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline, "no shard was written before the run ended"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    result = project.run("evaluate", MODEL, "--json").json()
    assert result["timings"]["inferred"] + result["timings"]["reused"] == len(chosen)
    assert 0 < result["timings"]["reused"] < len(chosen)
    assert not result["quarantined"]


@pytest.mark.parametrize("embedded", [True, False])
def test_ctrl_c_ends_at_once_and_leaves_no_process(
    make_project: Callable[[], Project], starter: Path, embedded: bool
) -> None:
    project = make_project()
    ids = [json.loads(line)["id"] for line in (starter / "manifest.jsonl").read_text().splitlines()]
    project.add_starter_part(starter, [i for i in ids if i.startswith(("digits", "harvard"))][:32])
    environment = dict(project.environment)
    if embedded:
        del environment["PREFECT_API_URL"]
    process = subprocess.Popen(
        project.command("evaluate", MODEL),
        cwd=project.root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background has Ctrl-C ignored, by them and whatever they start.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 180
    while not list((project.home / "predictions").glob("*/*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline, "no shard was written before the run ended"
        time.sleep(0.05)
    # As a terminal does: the whole foreground group gets the signal, servers and workers too.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "What was finished is kept" in said and "Traceback" not in said
    deadline = time.monotonic() + 20
    while members := [p for p in psutil.process_iter() if is_of_group(p, process.pid)]:
        assert time.monotonic() < deadline, f"left behind: {members}"
        time.sleep(0.2)


def is_of_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_a_person_reads_a_table(project: Project, first: Any) -> None:
    answer = project.run("evaluate", MODEL, "--slice", "domain=digits")
    assert answer.code == 0, answer.err
    assert "Word error rate" in answer.out and "report: " in answer.out and "2 recordings" in answer.out
    assert "Traceback" not in answer.err
    report = project.run("report", "--json").json()
    assert Path(report["report"]).is_file()
