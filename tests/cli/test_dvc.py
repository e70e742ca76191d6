"""The data and the stages through DVC, as a fresh clone's user has them: pull, push, repro, metrics and plots, offline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.audio import file_sha256
from models.card import SHIPPED_CARDS

RECORDINGS = 59
VARIANTS = ("noise-10db", "telephone")
MODELS = ("faster-whisper-tiny.en", "faster-whisper-tiny.en-float32")
IDS = ("digits-theo-0", "digits-jackson-0", "cv-22058267", "nonspeech-silence")
CHANGED = "cv-22058267"
"""Somebody says "six"; its reference is changed to another word."""
BIN = Path(sys.executable).parent
NOBODY = "http://127.0.0.1:9"
"""A proxy that does not exist: whatever asks the network for anything fails."""


class Checkout:
    """A folder with git and DVC in it, whose commands find this environment's programs and no network."""

    def __init__(self, root: Path, scratch: Path, **more: str) -> None:
        self.root = root
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MODELLAB_", "PREFECT_", "MLFLOW_", "GIT_"))
        }
        proxies = {
            name: NOBODY for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())
        }
        self.environment = {
            **kept,
            **proxies,
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(scratch / "dvc-site"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "tester",
            "GIT_AUTHOR_EMAIL": "tester@localhost",
            "GIT_COMMITTER_NAME": "tester",
            "GIT_COMMITTER_EMAIL": "tester@localhost",
            **more,
        }

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == code, f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def json(self, *command: str) -> Any:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=120, check=True
        )
        return json.loads(done.stdout)

    def commit(self, message: str) -> None:
        self.run("git", "add", ".")
        self.run("git", "commit", "-qm", message)


# The data


@pytest.fixture(scope="module")
def clone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    if not (repository / ".git").exists():
        pytest.skip("this is no git checkout; clone the repository to test what a clone gets")
    scratch = tmp_path_factory.mktemp("clone")
    subprocess.run(["git", "clone", "-q", str(repository), str(scratch / "modellab")], check=True)
    clone = Checkout(scratch / "modellab", scratch)
    assert not (clone.root / "data").exists()
    clone.run("dvc", "pull", "-q")
    return clone


def remote_of(clone: Checkout) -> dict[str, str]:
    folder = clone.root / "starter-remote"
    return {str(path.relative_to(folder)): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_a_fresh_clone_gets_the_data_with_a_plain_pull(clone: Checkout, starter: Path) -> None:
    manifest = clone.root / "data" / "starter" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == RECORDINGS
    assert all((manifest.parent / row["audio_filepath"]).stat().st_size > 0 for row in rows)
    assert len(list((manifest.parent / "audio").iterdir())) == RECORDINGS
    assert file_sha256(manifest) == file_sha256(starter / "manifest.jsonl")
    assert clone.run("git", "status", "--porcelain") == ""
    assert clone.json("dvc", "data", "status", "--json") == {}
    assert "up to date" in clone.run("dvc", "pull")


def test_nothing_is_ever_pushed_into_the_shipped_remote(clone: Checkout, tmp_path: Path) -> None:
    """Not by default, not by name, and not when a team has added a corpus but not yet a remote of its own."""
    before = remote_of(clone)
    assert len(before) > RECORDINGS
    assert "no remote specified" in clone.run("dvc", "push", code=1)
    clone.run("dvc", "push", "-r", "starter")
    assert remote_of(clone) == before and clone.run("git", "status", "--porcelain") == ""

    mine = clone.root / "data" / "mine"
    mine.mkdir()
    (mine / "manifest.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 1, "text": ""}\n')
    clone.run("dvc", "add", "-q", "data")
    assert "push: false" in (clone.root / "data.dvc").read_text(), "adding data keeps the lock"
    clone.run("dvc", "push", "-r", "starter")
    assert remote_of(clone) == before

    # What data.dvc tells a team to do.
    team = tmp_path / "team"
    clone.run("dvc", "remote", "add", "-d", "team", str(team))
    pointer = clone.root / "data.dvc"
    bound = ("  remote: starter", "  push: false")
    pointer.write_text("\n".join(line for line in pointer.read_text().splitlines() if line not in bound) + "\n")
    clone.run("dvc", "push", "-q")
    assert len([path for path in team.rglob("*") if path.is_file()]) > RECORDINGS + 1, "all of data/ is with the team"
    assert remote_of(clone) == before


# The stages


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, starter: Path, shared_weights: Path, prefect_server: str
) -> Checkout:
    """The shipped dvc.yaml over four recordings and two small models."""
    assert (BIN / "modellab").is_file(), "the stages call `modellab`: pip install --no-deps --editable ."
    root = tmp_path_factory.mktemp("stages")
    scratch = tmp_path_factory.mktemp("scratch")
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    stages = {name: stage.get("do", stage) for name, stage in stages.items()}
    shutil.copyfile(repository / "dvc.yaml", root / "dvc.yaml")
    shutil.copytree(SHIPPED_CARDS, root / "models" / "cards")
    code = {path for stage in stages.values() for path in stage["deps"] if path.startswith(("pipelines/", "models/"))}
    for path in (path for path in code if "$" not in path):
        copy(repository / path, root / path)
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params |= {"evaluate": {"models": list(MODELS)}, "compare": {"candidate": MODELS[0], "baseline": MODELS[1]}}
    params["gate"]["resamples"] = 200
    params["degrade"]["variants"] = {name: params["degrade"]["variants"][name] for name in VARIANTS}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    corpus = root / "data" / "starter"
    (corpus / "audio").mkdir(parents=True)
    shutil.copyfile(starter / "corpus.yaml", corpus / "corpus.yaml")
    shutil.copytree(starter.parent / "degrade", root / "data" / "degrade")
    known = {row["id"]: row for row in map(json.loads, (starter / "manifest.jsonl").read_text().splitlines())}
    for name in IDS:
        shutil.copyfile(starter / known[name]["audio_filepath"], corpus / known[name]["audio_filepath"])
    write_manifest(corpus, [known[name] for name in IDS])
    (root / ".gitignore").write_text("/.modellab\n/results/corpora/\n/dvc_plots\n__pycache__/\n")
    (root / ".modellab").mkdir()
    (root / ".modellab" / "weights").symlink_to(shared_weights)
    project = Checkout(root, scratch, PREFECT_API_URL=prefect_server, MODELLAB_WORKERS="1")
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.run("dvc", "add", "-q", "data")
    project.commit("data and stages")
    return project


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)


def write_manifest(corpus: Path, rows: list[dict[str, Any]]) -> None:
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def reproduced(project: Checkout) -> str:
    told = project.run("dvc", "repro")
    project.commit("results")
    return told


@pytest.mark.real
def test_repro_runs_the_stages_through_the_command_line(project: Checkout, reproduced: str) -> None:
    for model in MODELS:
        assert f"> modellab evaluate {model} --corpus starter" in reproduced
    assert f"> modellab compare {MODELS[0]} --against {MODELS[1]}" in reproduced
    results = project.root / "results"
    written = sorted(
        str(path.relative_to(results))
        for path in results.rglob("*")
        if path.is_file() and path.name != ".gitignore" and "corpora" not in path.parts
    )
    evaluated = [f"evaluate/{model}/{name}" for model in MODELS for name in ("metrics.json", "slices.csv")]
    assert written == sorted([*evaluated, "compare/decision.json"])
    assert {path.parent.name for path in (results / "corpora").glob("*/manifest.jsonl")} == {
        f"starter-{variant}" for variant in VARIANTS
    }
    decision = json.loads((results / "compare" / "decision.json").read_text())
    assert decision["verdict"] == "inconclusive", "four recordings decide nothing, and the stage still succeeds"
    assert project.run("git", "status", "--porcelain") == "", "results and dvc.lock are all there is to commit"


@pytest.mark.real
def test_a_second_repro_runs_nothing(project: Checkout, reproduced: str) -> None:
    told = project.run("dvc", "repro")
    assert "Data and pipelines are up to date" in told and "Running stage" not in told
    assert told.count("didn't change, skipping") >= len(MODELS) + len(VARIANTS) + 1


@pytest.mark.real
def test_a_lost_variant_is_made_again_to_the_byte(project: Checkout, reproduced: str) -> None:
    """Their bytes are in no cache and on no remote; dvc.lock has their digest."""
    lost = project.root / "results" / "corpora" / f"starter-{VARIANTS[0]}"
    lock = (project.root / "dvc.lock").read_text()
    shutil.rmtree(lost)
    project.run("dvc", "repro", f"degrade@{VARIANTS[0]}")
    assert (lost / "manifest.jsonl").is_file()
    assert (project.root / "dvc.lock").read_text() == lock


@pytest.mark.real
def test_metrics_show_lists_the_word_error_rate_of_each_model(project: Checkout, reproduced: str) -> None:
    shown = project.json("dvc", "metrics", "show", "--json")[""]["data"]
    for model in MODELS:
        found = shown[f"results/evaluate/{model}/metrics.json"]["data"]
        assert found["model"] == model and found["metrics"]["wer"]["n"] == 3
        assert 0 <= found["metrics"]["wer"]["value"] < 0.5
    assert "metrics.wer.value" in project.run("dvc", "metrics", "show")


@pytest.mark.real
def test_plots_show_writes_a_page_with_the_slices(project: Checkout, reproduced: str) -> None:
    told = project.run("dvc", "plots", "show", "-o", "dvc_plots")
    page = project.root / "dvc_plots" / "index.html"
    assert page.as_uri() in told
    text = page.read_text()
    assert "Word error rate by slice" in text and "domain=digits" in text and "bandwidth=narrow" in text


@pytest.mark.real
def test_metrics_diff_shows_what_another_reference_changes(project: Checkout, reproduced: str) -> None:
    """Last, for it changes the data."""
    name = f"results/evaluate/{MODELS[0]}/metrics.json"
    before = json.loads((project.root / name).read_text())
    corpus = project.root / "data" / "starter"
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    write_manifest(corpus, [{**row, "text": "elephants"} if row["id"] == CHANGED else row for row in rows])
    project.run("dvc", "add", "-q", "data")
    project.run("dvc", "repro", "--single-item", f"evaluate@{MODELS[0]}")
    wer = project.json("dvc", "metrics", "diff", "--json")[name]["metrics.wer.value"]
    assert wer["old"] == before["metrics"]["wer"]["value"]
    assert wer["diff"] > 0, "one more word is wrong"
    changed = project.json("dvc", "metrics", "diff", "--json")[name]["data_version"]
    assert changed["old"] == before["data_version"] != changed["new"]
    assert "metrics.wer.value" in project.run("dvc", "metrics", "diff")
    runs = [json.loads(path.read_text()) for path in project.root.glob(".modellab/evaluations/*/evaluation.json")]
    newest = max(
        (run for run in runs if run["model"] == MODELS[0]), key=lambda run: (run["created_at"], run["timings"]["reused"])
    )
    assert newest["timings"]["inferred"] == 0, "a text changes no audio: nothing is inferred again"


@pytest.mark.real
def test_the_data_as_it_was_can_be_evaluated_still(project: Checkout, reproduced: str) -> None:
    """After the change above: HEAD has the data before it."""
    was = json.loads(project.run("git", "show", f"HEAD:results/evaluate/{MODELS[0]}/metrics.json"))
    pointer = (project.root / "data.dvc").read_text()
    arguments = ("modellab", "evaluate", MODELS[0], "--corpus", "starter", "--data-rev", "HEAD", "--json")
    evaluation = project.json(*arguments)
    assert evaluation["data_version"] == was["data_version"] != yaml.safe_load(pointer)["outs"][0]["md5"]
    assert evaluation["metrics"]["wer"]["value"] == was["metrics"]["wer"]["value"]
    assert evaluation["timings"]["inferred"] == 0
    assert evaluation["environment"]["data_revision"] == project.run("git", "rev-parse", "HEAD").strip()
    assert (project.root / "data.dvc").read_text() == pointer
    refused = project.run("modellab", "evaluate", MODELS[0], "--data-rev", "nowhere", code=2)
    assert "There is no revision 'nowhere'" in refused
