"""What a remote has of the present version of ``data/``: each object, by size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from models.errors import StateError

if TYPE_CHECKING:
    from dvc.repo import Repo

LISTED_FROM = 1000
"""From so many objects on a server is listed as a whole; below, and on a disk, each is asked for."""
MISSING_SHOWN = 3
LIST_SUFFIX = ".dir"
"""Of the object that lists a version's files."""


def forget_broken(repo: Repo, remote: Any) -> int:
    """Withdraw this version from a remote that lists it and does not have all of it, so that it is sent again.

    DVC trusts its own notes of what it pushed once, and a list that is there: it would send nothing. So the list goes first,
    which also keeps others from pulling a part; then what has another size, and the notes.

    Returns:
        How many objects were missing or had another size.
    """
    from dvc_data.hashfile.db import get_index

    rows = list(_compared(repo, remote))
    broken = [(path, there) for path, wanted, there in rows if there != wanted]
    listed = [path for path, _, there in rows if path.endswith(LIST_SUFFIX) and there is not None]
    in_part = [path for path, there in broken if there is not None]
    if not in_part and not (broken and listed):
        return 0  # whole, or not pushed yet
    for path in dict.fromkeys([*listed, *in_part]):
        remote.fs.remove(path)
    with contextlib.closing(get_index(remote.odb)) as notes:
        notes.clear()
    return len(broken)


def check_remote(repo: Repo, remote: Any) -> int:
    """Make sure that the remote has every object of this version, whole.

    Returns:
        How many it has.

    Raises:
        StateError: Some are missing; they are named.
    """
    rows = list(_compared(repo, remote))
    bad = [path.rpartition("/files/")[2] or path for path, wanted, there in rows if there != wanted]
    if bad:
        more = f" and {len(bad) - MISSING_SHOWN} more" if len(bad) > MISSING_SHOWN else ""
        raise StateError(
            f"The remote {remote.name} does not have all of this version: {', '.join(bad[:MISSING_SHOWN])}{more} missing.",
            "Run the push again; it goes on where it was.",
        )
    return len(rows)


def _compared(repo: Repo, remote: Any) -> Iterator[tuple[str, int, int | None]]:
    """Give path, size in the cache, and size on the remote (None if it is not there) of each object."""
    odb = remote.odb
    cache = repo.cache.local
    wanted = {odb.oid_to_path(oid): cache.fs.size(cache.oid_to_path(oid)) for oid in _objects(repo)}
    if len(wanted) >= LISTED_FROM and odb.fs.protocol != "local":
        found: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):  # nothing was ever pushed there
            found = odb.fs.fs.find(odb.path, detail=True)  # fsspec's own: DVC's gives names alone
        for path, size in wanted.items():
            there = found.get(path)
            yield path, size, None if there is None else int(there["size"])
        return
    for path, size in wanted.items():
        try:
            yield path, size, int(odb.fs.size(path))
        except FileNotFoundError:
            yield path, size, None


def _objects(repo: Repo) -> set[str]:
    """Digests of everything that ``data.dvc`` names: the list, and the files in it."""
    from dvc.dvcfile import load_file

    from pipelines.dataversion import POINTER

    (out,) = load_file(repo, repo.fs.join(repo.root_dir, POINTER)).stage.outs
    tree = out.get_obj()
    if tree is None:
        raise StateError("The cache does not have the version that data.dvc names.", "Run `dvc add data` or pull first.")
    names = {str(out.hash_info.value)}
    with contextlib.suppress(TypeError):  # a single file is no list
        names |= {str(oid.value) for _, _, oid in tree}
    return names
