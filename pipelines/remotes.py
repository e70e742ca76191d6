"""What a remote has of the present version of ``data/``: each object, by size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from models.errors import StateError

if TYPE_CHECKING:
    from dvc.repo import Repo

LISTED_FROM = 200
"""From so many objects on the remote is listed as a whole; below, each is asked for."""
MISSING_SHOWN = 3


def forget_broken(repo: Repo, remote: Any) -> int:
    """Remove those of this version's objects that the remote has with another size, so that they are sent again.

    Returns:
        How many there were.
    """
    broken = [path for path, wanted, there in _compared(repo, remote) if there is not None and there != wanted]
    for path in broken:
        remote.fs.remove(path)
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
    if len(wanted) >= LISTED_FROM:
        found: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):  # nothing was ever pushed there
            found = odb.fs.find(odb.path, detail=True)
        sizes = {odb.fs.fs._strip_protocol(path): info.get("size") for path, info in dict(found).items()}
        for path, size in wanted.items():
            yield path, size, sizes.get(odb.fs.fs._strip_protocol(path))
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
