"""The data of another revision: read through DVC, whole and verified, and the working tree is none the wiser."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import CorpusError, LabError
from pipelines import pinned as pinning
from pipelines.dataversion import data_version, version_of
from pipelines.lab import Lab, Layout
from pipelines.pinned import at_revision
from tests.pipelines.test_dataversion import QUIET_GIT, recorded

OLD, NEW = (
    '{"audio_filepath": "a.wav", "duration": 1, "text": "one"}\n',
    '{"audio_filepath": "a.wav", "duration": 1, "text": "two"}\n',
)


def run(root: Path, *command: str) -> str:
    environment = {**os.environ, **QUIET_GIT, "DVC_SITE_CACHE_DIR": str(root.parent / "dvc-site")}
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=environment).stdout


def dvc(root: Path, *arguments: str) -> None:
    run(root, sys.executable, "-m", "dvc", *arguments)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in a folder of a git repository: no data, then two versions of it, each pushed; and a change at work."""
    top = tmp_path_factory.mktemp("history")
    root = top / "repository" / "lab"
    corpus = root / "data" / "calls"
    corpus.mkdir(parents=True)
    run(root.parent, "git", "init", "-q")
    (root / "params.yaml").write_text("gate: {}\n")
    run(root, "git", "add", "params.yaml")
    run(root, "git", "commit", "-qm", "nothing yet")
    run(root, "git", "tag", "empty")
    dvc(root, "init", "-q", "--subdir")
    dvc(root, "remote", "add", "-q", "-d", "store", str(top / "store"))
    for tag, text in (("old", OLD), ("new", NEW)):
        (corpus / "manifest.jsonl").write_text(text)
        (corpus / "a.wav").write_bytes(tag.encode() * 1000)
        dvc(root, "add", "-q", "data")
        dvc(root, "push", "-q")
        run(root, "git", "add", ".")
        run(root, "git", "commit", "-qm", tag)
        run(root, "git", "tag", tag)
    (corpus / "manifest.jsonl").write_text("being edited\n")
    return top


@pytest.fixture
def lab(history: Path, tmp_path: Path) -> Lab:
    copy = shutil.copytree(history, tmp_path / "copy", symlinks=True)
    lab = Lab(project=copy / "repository" / "lab", home_folder=copy / "home", layout=Layout(workers=1, threads=1))
    lab.home.open()
    config = lab.project / ".dvc" / "config"
    config.write_text(config.read_text().replace(str(history), str(copy)).replace("../../../store", str(copy / "store")))
    return lab


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".dvc/tmp" not in str(path)
    }


def quiet(line: str) -> None:
    return None


def pinned(lab: Lab, revision: str) -> Lab:
    return at_revision(lab, revision, say=quiet)


def manifest(lab: Lab) -> str:
    return (lab.data / "calls" / "manifest.jsonl").read_text()


def test_each_revision_has_its_data_and_its_version(lab: Lab) -> None:
    before = tree(lab.project)
    old, new = pinned(lab, "old"), pinned(lab, "new")
    assert manifest(old) == OLD and manifest(new) == NEW
    assert (old.data / "calls" / "a.wav").read_bytes() == b"old" * 1000
    assert version_of(new) == recorded(lab.project) != version_of(old)
    assert version_of(lab) == data_version(lab.project) == f"{recorded(lab.project)}+modified"
    assert tree(lab.project) == before, "nothing in the working tree, its cache or its pointers has moved"
    assert run(lab.project, "git", "rev-parse", "old").strip() == old.pinned.commit if old.pinned else False


@pytest.mark.parametrize("revision", ["HEAD", "HEAD~1", "new^", "heads"])
def test_a_revision_is_whatever_git_takes(lab: Lab, revision: str) -> None:
    if revision == "heads":
        revision = run(lab.project, "git", "rev-parse", "--abbrev-ref", "HEAD").strip()
    assert manifest(pinned(lab, revision)) == (OLD if "1" in revision or "^" in revision else NEW)


def test_without_a_revision_nothing_changes(lab: Lab) -> None:
    assert at_revision(lab, None) is lab and not lab.home.data_versions.exists()


def test_an_empty_cache_is_filled_from_the_remote(lab: Lab) -> None:
    shutil.rmtree(lab.project / ".dvc" / "cache")
    told: list[str] = []
    assert manifest(at_revision(lab, "old", say=told.append)) == OLD
    assert told and "Fetching the data of revision old" in told[0]


def test_an_export_is_kept_and_found_again(lab: Lab) -> None:
    first = pinned(lab, "old").data
    shutil.rmtree(lab.project / ".dvc" / "cache")
    shutil.rmtree(lab.project.parents[1] / "store")
    assert pinned(lab, "old").data == first, "it needs neither cache nor remote any more"


@pytest.mark.parametrize("harm", ["changed", "lost", "added", "unmarked"])
def test_an_export_that_was_meddled_with_is_made_anew(lab: Lab, harm: str) -> None:
    folder = pinned(lab, "old").data
    audio = folder / "calls" / "a.wav"
    if harm == "changed":
        audio.unlink()
        audio.write_bytes(b"other")
    elif harm == "lost":
        audio.unlink()
    elif harm == "added":
        (folder / "calls" / "b.wav").write_bytes(b"more")
    else:
        (folder.parent / pinning.MARKER).unlink()
    again = pinned(lab, "old").data
    assert {path.name for path in (again / "calls").iterdir()} == {"a.wav", "manifest.jsonl"}
    assert (again / "calls" / "a.wav").read_bytes() == b"old" * 1000


def cached(lab: Lab, content: bytes) -> Path:
    digest = hashlib.md5(content).hexdigest()
    return lab.project / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]


def no_data_yet(lab: Lab) -> str:
    return "empty"


def unknown(lab: Lab) -> str:
    return "olden"


def an_option(lab: Lab) -> str:
    return "--help"


def lost_everywhere(lab: Lab) -> str:
    shutil.rmtree(lab.project / ".dvc" / "cache")
    shutil.rmtree(lab.project.parents[1] / "store")
    return "old"


def damaged(lab: Lab) -> str:
    path = cached(lab, b"old" * 1000)
    path.chmod(0o644)
    path.write_bytes(b"odd" * 1000)
    return "old"


def no_git(lab: Lab) -> str:
    shutil.rmtree(lab.project.parent / ".git")
    return "old"


def no_dvc(lab: Lab) -> str:
    shutil.rmtree(lab.project / ".dvc")
    return "old"


def broken_pointer(lab: Lab) -> str:
    (lab.project / "data.dvc").write_text("outs: []\n")
    run(lab.project, "git", "commit", "-qam", "broken")
    return "HEAD"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (no_data_yet, "has no data.dvc"),
        (unknown, "There is no revision 'olden'"),
        (an_option, "There is no revision '--help'"),
        (lost_everywhere, "neither in DVC's cache nor on its remote"),
        (damaged, "is damaged in DVC's cache"),
        (no_git, "is no git checkout"),
        (no_dvc, "is no DVC project"),
        (broken_pointer, "does not name one tracked folder"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_not_to_be_had_is_said(lab: Lab, harm: Callable[[Lab], str], told: str) -> None:
    revision = harm(lab)
    with pytest.raises(LabError, match=told) as error:
        pinned(lab, revision)
    assert error.value.remedy and "\n" not in str(error.value)
    assert not list(lab.home.root.rglob("manifest.jsonl")), "nothing half made is left where it could be taken for data"


def test_a_path_is_no_corpus_of_a_revision(lab: Lab) -> None:
    with pytest.raises(CorpusError, match=r"\./data/calls is a path"):
        at_revision(lab, "old", ("./data/calls",))


def test_a_bounded_number_of_exports_is_kept_and_none_that_is_used(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinning, "KEPT", 2)
    first = pinned(lab, "old").data
    for number in range(3):
        (lab.project / "data" / "calls" / "manifest.jsonl").write_text(NEW * (number + 2))
        dvc(lab.project, "add", "-q", "data")
        run(lab.project, "git", "commit", "-qam", str(number))
        pinned(lab, "HEAD")
    assert first.is_dir(), "this process reads it"
    while pinning._in_use:
        pinning._in_use.pop().close()
    pinned(lab, "new")
    assert len(list(lab.home.data_versions.glob("*/data"))) == 2 and not first.exists()
