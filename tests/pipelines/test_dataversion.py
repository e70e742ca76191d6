"""The data version is DVC's hash, and says when the working tree is not what that hash stands for."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from models.errors import CorpusError
from pipelines.dataversion import UNTRACKED, data_version, recorded_version

TEXT = "hello\n"
QUIET_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@t",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@t",
}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC checkout with one corpus under data/, made as a person makes it."""
    root = tmp_path_factory.mktemp("tracked")
    (root / "data" / "calls").mkdir(parents=True)
    (root / "data" / "calls" / "manifest.jsonl").write_text(TEXT)
    dvc = [sys.executable, "-m", "dvc"]
    for command in (
        ["git", "init", "-q"],
        [*dvc, "init", "-q"],
        [*dvc, "add", "-q", "data"],
        ["git", "add", "."],
        ["git", "commit", "-qm", "data"],
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True, env={**os.environ, **QUIET_GIT})
    return root


@pytest.fixture
def project(tracked: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tracked, tmp_path / "project", symlinks=True)


def recorded(project: Path) -> str:
    return str(yaml.safe_load((project / "data.dvc").read_text())["outs"][0]["md5"])


def change(project: Path) -> None:
    (project / "data" / "calls" / "manifest.jsonl").write_text("other\n")


def add(project: Path) -> None:
    (project / "data" / "calls" / "more.wav").write_text("new")


def rename(project: Path) -> None:
    (project / "data" / "calls").rename(project / "data" / "talks")


def delete(project: Path) -> None:
    (project / "data" / "calls" / "manifest.jsonl").unlink()


def lose_all(project: Path) -> None:
    shutil.rmtree(project / "data")


def lose_dvc(project: Path) -> None:
    shutil.rmtree(project / ".dvc")


def lose_git(project: Path) -> None:
    shutil.rmtree(project / ".git")


def test_a_project_without_data_dvc_is_untracked(tmp_path: Path) -> None:
    assert data_version(tmp_path) == UNTRACKED == "untracked"


def test_what_dvc_recorded_is_the_version(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded(project).endswith(".dir")
    assert data_version(project) == recorded(project)
    monkeypatch.chdir("/")
    assert data_version(project) == recorded(project), "wherever the command is run"


@pytest.mark.parametrize("edit", [change, add, rename, delete, lose_all, lose_dvc, lose_git], ids=lambda edit: edit.__name__)
def test_what_nothing_vouches_for_is_marked(project: Path, edit: Callable[[Path], None]) -> None:
    edit(project)
    assert data_version(project) == f"{recorded(project)}+modified"


def test_mending_a_change_takes_the_mark_away(project: Path) -> None:
    change(project)
    assert data_version(project).endswith("+modified")
    (project / "data" / "calls" / "manifest.jsonl").write_text(TEXT)
    assert data_version(project) == recorded(project)


def test_an_empty_cache_changes_nothing(project: Path) -> None:
    """After `dvc gc` the files are still what data.dvc says."""
    shutil.rmtree(project / ".dvc" / "cache")
    assert data_version(project) == recorded(project)


def test_a_recorded_change_is_a_new_version(project: Path) -> None:
    before = data_version(project)
    change(project)
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data"], cwd=project, check=True, capture_output=True)
    assert data_version(project) == recorded(project) != before


def test_the_version_is_had_while_dvc_writes_its_index(project: Path, tmp_path: Path) -> None:
    """As while `dvc repro` runs the evaluation: whoever shares DVC's index database meets "database is locked"."""
    with Repo(str(project)) as repo:
        repo.data_status(targets=["data"])
        (database,) = Path(repo.site_cache_dir).glob("index/data/db.db")
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert data_version(project) == recorded(project)


@pytest.mark.parametrize(
    "text",
    ["", "outs: []", "outs:\n- path: data", "outs:\n- md5: 7\n  path: data", "[", "- a", "outs: null", b"\xff\xfe"],
    ids=repr,
)
def test_a_broken_pointer_is_one_sentence(project: Path, text: str | bytes) -> None:
    (project / "data.dvc").write_bytes(text if isinstance(text, bytes) else text.encode())
    for ask in (recorded_version, data_version):
        with pytest.raises(CorpusError, match=r"data\.dvc does not name one tracked folder.*git checkout data\.dvc"):
            ask(project)
