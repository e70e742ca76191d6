"""Sharing data: a folder, a real S3 server, a real SSH server; and pushes that are ended half-way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from models.errors import CorpusError, StateError
from pipelines import remotes
from pipelines.dataversion import data_version
from pipelines.versions import commit, pull, push, track
from tests.conftest import free_port
from tests.ingest.conftest import Shelf, text_beside
from tests.ingest.killed import kill_at

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "data.dvc").read_text())["outs"][0]["nfiles"]
"""Files of data/ as shipped."""


def clone_of(project: Path, into: Path) -> Path:
    """A colleague's fresh clone."""
    subprocess.run(["git", "clone", "-q", str(project), str(into)], check=True)
    return into


def dvc(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "dvc"), *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def added(versioned: Shelf) -> Path:
    """A project with a corpus that is not pushed yet."""
    text_beside(versioned.source)
    versioned.add(speaker="x", commit=True)
    return versioned.lab.project


def test_a_fresh_clone_is_pulled_without_a_word(versioned: Shelf, tmp_path: Path, repository: Path) -> None:
    clone = clone_of(versioned.lab.project, tmp_path / "clone")
    shutil.copyfile(repository / "params.yaml", clone / "params.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "modellab", "corpus", "pull", "--quiet"],
        cwd=repository,
        env={**os.environ, "MODELLAB_PROJECT": str(clone), "MODELLAB_HOME": str(tmp_path / "home2")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert data_version(clone) == data_version(versioned.lab.project)
    assert len(files(clone / "data")) == SHIPPED


def test_without_a_remote_it_is_said_how_to_name_one(added: Path) -> None:
    with pytest.raises(CorpusError, match="modellab corpus push --to URL"):
        push(added, to=None)
    assert "push: false" in (added / "data.dvc").read_text(), "and the shipped remote stays protected"
    assert pull(added).fetched == 0, "what is here needs no remote"


def test_a_shared_folder_serves_a_clone_s_plain_pull(added: Path, tmp_path: Path) -> None:
    shipped = files(added / "starter-remote")
    first = push(added, to=str(tmp_path / "team"), message="Share it")
    assert (first.remote, first.repaired) == ("team", 0) and first.pushed == first.verified > SHIPPED
    assert first.commit and first.git == ()
    again = push(added, to=str(tmp_path / "team"))
    assert (again.pushed, again.verified, again.git) == (0, first.verified, ())
    clone = clone_of(added, tmp_path / "clone")
    assert "files added" in dvc(clone, "pull")
    assert files(clone / "data") == files(added / "data")
    assert files(added / "starter-remote") == shipped, "nothing is pushed into the repository"
    with pytest.raises(CorpusError, match=r"The remote team is .*team already"):
        push(added, to=str(tmp_path / "other"))


def test_a_changed_folder_is_not_pushed(added: Path, tmp_path: Path) -> None:
    (added / "data" / "calls" / "note.txt").write_text("new")
    with pytest.raises(CorpusError, match=r"has changed since it was tracked\. Run `dvc add data`"):
        push(added, to=str(tmp_path / "team"))


def test_a_killed_push_leaves_no_version_and_the_next_one_goes_on(added: Path, tmp_path: Path) -> None:
    team = tmp_path / "team"
    kill_at("dvc_objects.fs.local:LocalFileSystem.put_file", 20, lambda: push(added, to=str(team)))
    there = files(team)
    assert 0 < len(there) < SHIPPED and not any(name.endswith(".dir") for name in there)
    commit(added, "Name the remote")
    clone = clone_of(added, tmp_path / "clone")
    with pytest.raises(StateError, match="DVC says"):
        pull(clone)
    done = push(added, to=None)
    assert done.pushed == done.verified - len(there), "what was sent is not sent again"
    assert pull(clone).data_version == data_version(added)
    assert files(clone / "data") == files(added / "data")


def test_an_object_that_is_lost_or_there_in_part_is_sent_again(added: Path, tmp_path: Path) -> None:
    """`dvc push` by itself does not see it: it trusts its notes."""
    team = tmp_path / "team"
    push(added, to=str(team), message="Share it")
    in_part, lost = sorted((p for p in team.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)[-2:]
    whole = {path: path.read_bytes() for path in (in_part, lost)}
    in_part.chmod(0o644)
    in_part.write_bytes(whole[in_part][:100])
    lost.unlink()
    assert "up to date" in dvc(added, "push", "data.dvc")
    done = push(added, to=None)
    assert (done.repaired, done.pushed) == (2, 3), "both, and the list that was withdrawn"
    assert {path: path.read_bytes() for path in whole} == whole


def test_a_pull_does_not_run_over_work_that_is_not_tracked(added: Path, tmp_path: Path) -> None:
    push(added, to=str(tmp_path / "team"), message="Share it")
    clone = clone_of(added, tmp_path / "clone")
    pull(clone)
    manifest = clone / "data" / "calls" / "manifest.jsonl"
    manifest.write_text("mine")
    with pytest.raises(StateError, match="DVC says"):
        pull(clone)
    assert manifest.read_text() == "mine"
    track(clone)


# S3


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an S3 server, a process of its own, with a bucket."""
    port = free_port()
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{address}/lab", method="PUT"), timeout=5)  # makes the bucket
                break
            except OSError:
                assert server.poll() is None, "the S3 server ended"
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return s3


KILLED_PUSH = """
import sys
from pathlib import Path
from pipelines.versions import push
from tests.ingest.killed import arm
arm("s3fs:S3FileSystem._put_file", 20)
push(Path(sys.argv[1]), to=sys.argv[2], endpoint=sys.argv[3])
"""


def test_an_s3_server_serves_a_clone_also_after_a_killed_push(
    added: Path, bucket: str, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://lab/{tmp_path.name}"
    # A fresh process: the file system's own thread does not live through a fork.
    done = subprocess.run(
        [sys.executable, "-c", KILLED_PUSH, str(added), url, bucket],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -9, done.stderr
    pushed = push(added, to=url, endpoint=bucket, message="Share it")
    assert pushed.verified > SHIPPED and pushed.url == url
    monkeypatch.setattr(remotes, "LISTED_FROM", 1)
    again = push(added, to=None)
    assert (again.pushed, again.repaired, again.verified) == (0, 0, pushed.verified), "a listing tells the same"
    clone = clone_of(added, tmp_path / "clone")
    assert "files added" in dvc(clone, "pull")
    assert files(clone / "data") == files(added / "data")


def test_an_s3_bucket_that_is_not_there_is_told(added: Path, bucket: str) -> None:
    with pytest.raises(StateError, match=r"The remote cannot be used: .*bucket does not exist"):
        push(added, to="s3://nobody-has-this/x", endpoint=bucket)


# SSH


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an SSH server on this machine, which takes the key in this user's home and serves one folder."""
    home = tmp_path / "user"
    (home / ".ssh").mkdir(parents=True)
    key, served = home / ".ssh" / "id_ed25519", tmp_path / "served"
    served.mkdir()
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", SSH_SERVER, str(port), str(key), str(served)], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"
        monkeypatch.setenv("HOME", str(home))
        yield f"ssh://tester@127.0.0.1:{port}/lab"
    finally:
        server.terminate()
        server.wait(30)


SSH_SERVER = """
import asyncio, sys
from pathlib import Path
import asyncssh

port, key, served = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

async def main():
    user = asyncssh.generate_private_key("ssh-ed25519")
    key.write_bytes(user.export_private_key())
    key.chmod(0o600)
    allowed = asyncssh.import_authorized_keys(user.export_public_key().decode())
    await asyncssh.listen(
        "127.0.0.1", port, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")], authorized_client_keys=allowed,
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=served), allow_scp=False,
    )
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_an_ssh_server_serves_a_clone(added: Path, ssh: str, tmp_path: Path) -> None:
    pushed = push(added, to=ssh, message="Share it")
    assert pushed.verified > SHIPPED
    assert len(files(tmp_path / "served")) == pushed.verified
    clone = clone_of(added, tmp_path / "clone")
    assert "files added" in dvc(clone, "pull")
    assert files(clone / "data") == files(added / "data")
