"""Weights in a repository of the Hugging Face hub.

The hub's client tells where a file is and what it should be. The bytes are brought by `models.sources.download`, since the
client throws a download away that does not end (huggingface_hub 2.4, ``_download_to_tmp_and_move``).
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from models.backoff import SYSTEM_CLOCK, Clock
from models.card import HubSource
from models.sources.base import CHUNK_BYTES, Delivery, Order, Unavailable, first_line
from models.sources.download import download
from models.sources.folder import take
from models.sources.http import open_client

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

TIMEOUT_S = 10.0
"""How long the hub may take to answer whether it has a file."""
COMMIT, SHA256 = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")
COMMIT_CHARACTERS = 8


def describe(source: HubSource, commit: str | None = None) -> str:
    """Name the source; a branch with the commit it was at."""
    if COMMIT.fullmatch(source.revision):
        return f"hub {source.repo}@{source.revision[:COMMIT_CHARACTERS]}"
    return f"hub {source.repo}@{source.revision}" + (f" (commit {commit})" if commit else "")


def deliver(source: HubSource, order: Order, clock: Clock = SYSTEM_CLOCK) -> Delivery:
    """Download the files of one commit.

    Files that git-lfs keeps come back with the sha256 that the hub states; others are checked here against the id that git
    gives them.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise Unavailable("the hub is switched off (HF_HUB_OFFLINE=1)")
    try:
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not re-exported
    except ImportError as error:
        raise Unavailable(f"{error}; install it with: pip install huggingface_hub") from error
    try:  # one question of our own: the client would try for half a minute before it gives up
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)
    except Exception as error:
        raise Unavailable(f"{constants.ENDPOINT} cannot be reached ({first_line(error)})") from error

    revision, stated = source.revision, {}
    with open_client(allow_http=constants.ENDPOINT.startswith("http:")) as client:
        for name, digest in order.files.items():
            remote = source.members.get(name, name)
            found = _look_up(source.repo, remote, revision)
            revision = _commit(found, revision)  # all files of one commit, though the branch may move meanwhile
            etag = found.etag or ""
            if SHA256.fullmatch(etag):
                stated[name] = etag
                if digest not in (None, etag):
                    raise Unavailable(f"{remote}: the card has sha256 {digest}, the hub {etag}")
            finished = order.scratch / revision / name
            finished.parent.mkdir(parents=True, exist_ok=True)
            url = hf_hub_url(source.repo, remote, revision=revision)
            download(client, url, finished, order.say, headers=build_hf_headers(), clock=clock)
            if COMMIT.fullmatch(etag) and (got := git_blob_id(finished)) != etag:
                finished.unlink()
                raise Unavailable(f"{remote}: the hub has git's id {etag}, what came has {got}")
    take(order.scratch / revision, {name: name for name in order.files}, order.into)
    return Delivery(describe(source, revision), stated)


def _look_up(repo: str, remote: str, revision: str) -> HfFileMetadata:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        return get_hf_file_metadata(hf_hub_url(repo, remote, revision=revision), timeout=TIMEOUT_S)
    except Exception as error:  # the client has dozens, of three libraries; each means: try the next source
        raise Unavailable(f"{remote}: {first_line(error)}") from error


def _commit(found: HfFileMetadata, asked: str) -> str:
    commit = found.commit_hash or ""
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(asked) and commit != asked):
        raise Unavailable(f"the hub was asked for {asked} and answers with commit {commit!r}")
    return commit


def git_blob_id(path: Path) -> str:
    """Compute the id that git gives a file: the SHA-1 of a header with its length, and its bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
