"""The hub's real client and our downloads, against a server that answers as the hub does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from models.card import ModelCard
from models.marker import MARKER
from models.sources.hub import git_blob_id
from models.weights import PARTIAL, locate, status
from tests.models.file_server import Fault, FileServer, serving
from tests.models.toy_weights import FILES, REVISION, A, B, fetch_elsewhere

MakeCard = Callable[..., ModelCard]
NEWER = "b" * 40


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Hub:
    """A hub with one repository: a large file on another server, and a small one of git's own."""

    url: str
    cdn: FileServer
    large: bytes = A
    small: bytes = B
    branch: str = REVISION
    """Where ``main`` is."""
    commit: str | None = None
    """The commit stated, where it is not the one asked for."""
    stated: str = ""
    """The sha256 stated of the large file, where it is not the right one."""

    def fetch(self, cache: Path, card: ModelCard, home: Path) -> str:
        """Fetch a card from it and return the last line printed."""
        process = fetch_elsewhere(cache, card, HF_ENDPOINT=self.url, HF_HOME=str(home))
        return process.communicate(timeout=60)[0].splitlines()[-1]


@pytest.fixture
def hub() -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(whole=False)

        def do_GET(self) -> None:
            self.answer(whole=True)

        def answer(self, *, whole: bool) -> None:
            _, _, rest = self.path.partition("/some/repo/resolve/")
            revision, _, name = rest.partition("/")
            commit = {"main": told.branch}.get(revision, revision) if told.commit is None else told.commit
            content = {"model.bin": told.large, "configs/main.json": told.small}.get(name)
            if content is None:
                self.respond(404, {"X-Error-Code": "EntryNotFound"}, b"")
            elif name == "model.bin":
                digest = told.stated or hashlib.sha256(content).hexdigest()
                linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
                self.respond(302, {"X-Repo-Commit": commit, "Location": f"{told.cdn.url}blob", **linked}, b"")
            else:
                headers = {"X-Repo-Commit": commit, "ETag": f'"{blob_id(B)}"', "Content-Length": str(len(content))}
                self.respond(200, headers, content if whole else b"")

        def respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    with serving({"blob": A}) as cdn:
        told = Hub(f"http://127.0.0.1:{server.server_port}", cdn)
        yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub_card(make_card: MakeCard) -> MakeCard:
    """A card of the hub's two files, one of them under another name."""

    def make(*, known: bool = True, revision: str = REVISION, **more: Any) -> ModelCard:
        members = {"sub/config.json": "configs/main.json"}
        source = {"kind": "hub", "repo": "some/repo", "revision": revision, "members": members, **more}
        return make_card(weights={"files": FILES if known else dict.fromkeys(FILES), "sources": [source]})

    return make


def test_a_commit_of_the_hub(hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path) -> None:
    card = hub_card()
    assert hub.fetch(cache, card, tmp_path / "hf") == "done"
    assert locate(card, cache).sha256 == FILES
    assert sorted(path.name for path in (cache / "toy").iterdir()) == [MARKER, "model.bin", "sub"]
    assert status(card, {}, cache).note == "from hub some/repo@aaaaaaaa"


def test_a_branch_without_digests_is_held_to_what_the_hub_states(
    hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path
) -> None:
    card = hub_card(known=False, revision="main")
    assert "hub some/repo@main (sha256 noted at first fetch)" in status(card, {}, cache).note
    assert hub.fetch(cache, card, tmp_path / "hf") == "done"
    assert locate(card, cache).sha256 == FILES
    note = f"from hub some/repo@main (commit {REVISION}), sha256 noted at first fetch"
    assert status(card, {}, cache).note == note


def test_a_branch_that_moves_later_changes_nothing_here(hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path) -> None:
    card = hub_card(known=False, revision="main")
    hub.fetch(cache, card, tmp_path / "hf")
    hub.branch, hub.large = NEWER, b"newer weights"
    hub.cdn.files["/blob"] = hub.large
    assert hub.fetch(cache, card, tmp_path / "hf") == "done"
    assert locate(card, cache).sha256 == FILES
    (cache / "toy" / "model.bin").write_bytes(b"damaged")
    assert "was noted when it was first fetched" in hub.fetch(cache, card, tmp_path / "hf")


def test_a_damaged_large_file_is_refused_though_the_card_has_no_digest(
    hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path
) -> None:
    hub.cdn.files["/blob"] = A[:-1] + b"?"
    card = hub_card(known=False)
    assert f"model.bin: expected sha256 {FILES['model.bin']} by the source" in hub.fetch(cache, card, tmp_path / "hf")
    assert not (cache / "toy").exists()
    hub.cdn.files["/blob"] = A
    assert hub.fetch(cache, card, tmp_path / "hf") == "done"


def test_a_damaged_small_file_is_refused_by_gits_id(hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path) -> None:
    hub.small = B[:-1] + b"?"
    assert "configs/main.json: the hub has git's id" in hub.fetch(cache, hub_card(known=False), tmp_path / "hf")
    assert not (cache / "toy").exists()


def test_a_large_file_that_is_another_is_not_downloaded(hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path) -> None:
    hub.stated = "0" * 64
    line = hub.fetch(cache, hub_card(), tmp_path / "hf")
    assert f"model.bin: the card has sha256 {FILES['model.bin']}, the hub {'0' * 64}" in line
    assert not hub.cdn.asked


@pytest.mark.parametrize("commit", ["", "../../../../outside", NEWER])
def test_another_commit_than_was_asked_for_is_refused(
    commit: str, hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path
) -> None:
    hub.commit = commit
    assert f"asked for {REVISION} and answers with commit {commit!r}" in hub.fetch(cache, hub_card(), tmp_path / "hf")
    assert not hub.cdn.asked


def test_what_was_begun_is_gone_on_with(hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path) -> None:
    card = hub_card(members={})  # the second file is not there
    assert "sub/config.json: 404" in hub.fetch(cache, card, tmp_path / "hf")
    partial = next((cache / PARTIAL / "toy").glob(f"*/{REVISION}/model.bin"))
    assert partial.read_bytes() == A
    # As a killed fetch leaves it.
    partial.rename(partial.with_name("model.bin.partial")).write_bytes(A[:1000])
    begun = {"url": f"{hub.url}/some/repo/resolve/{REVISION}/model.bin", "validator": '"1"', "size": len(A)}
    partial.with_name("model.bin.partial.json").write_text(json.dumps(begun))
    hub.fetch(cache, card, tmp_path / "hf")
    assert partial.read_bytes() == A
    assert hub.cdn.ranges_asked == [None, "bytes=1000-"]


def test_a_key_of_the_hub_stays_with_the_hub(
    hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = fetch_elsewhere(cache, hub_card(), HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"), HF_TOKEN="hf_secret")
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "done"
    assert not [headers for _, headers in hub.cdn.asked if "Authorization" in headers]


def test_a_broken_connection_to_the_files_is_gone_on_with(hub_card: MakeCard, cache: Path, hub: Hub, tmp_path: Path) -> None:
    hub.cdn.faults = [Fault(cut_after=5000)]
    assert hub.fetch(cache, hub_card(), tmp_path / "hf") == "done"
    assert hub.cdn.ranges_asked == [None, "bytes=5000-"]


def test_a_hub_out_of_reach_is_said_soon(hub_card: MakeCard, cache: Path, tmp_path: Path) -> None:
    """After one question of ours: the client's own retries take 23 s, and come back to the hub several times."""
    asked: list[object] = []

    def hang_up(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                connection, _ = listener.accept()
                asked.append(connection)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        nobody = fetch_elsewhere(cache, hub_card(), HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "hf"))
        out, _ = nobody.communicate(timeout=120)
    assert f"{endpoint} cannot be reached" in out
    assert len(asked) == 1


def test_the_id_that_git_gives_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "x") == "ce013625030ba8dba906f756967f9e9ca394464a"  # printed by git hash-object
