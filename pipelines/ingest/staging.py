"""The folder in which a corpus is put together: whole before it appears, and gone on with after a kill."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from models.audio import HASH_CHUNK_BYTES
from models.errors import CorpusError, StateError
from pipelines.home import write_atomically
from pipelines.ingest.plan import Plan, manifest_line
from pipelines.manifest import MANIFEST
from pipelines.progress import listener
from pipelines.validate.store import FactsStore, stamp_of

PREFIX = ".adding-"
"""Folders of this name under ``data/`` are being put together; DVC ignores them (``.dvcignore``)."""
IDENTITY = ".source"
"""File that says what is being added: of another source, nothing is kept."""
BATCH = 256
COPIERS = 4
"""Threads that copy; more wait for the same disk."""
_EXCHANGE = 2
"""Linux' RENAME_EXCHANGE: two names swap what they stand for, at once."""


def staging_folder(data: Path, name: str) -> Path:
    """Where a corpus of this name is put together."""
    return data / f"{PREFIX}{name}"


def open_staging(folder: Path, identity: str) -> None:
    """Make the folder, or go on with one that was left by a killed run of the same addition."""
    mark = folder / IDENTITY
    if folder.exists() and not (mark.is_file() and mark.read_text(encoding="utf-8") == identity):
        shutil.rmtree(folder)
    write_atomically(mark, identity)


def stage_recordings(folder: Path, plan: Plan, store: FactsStore, *, link: bool, total: int) -> set[str]:
    """Copy or link every recording; those that are there from before are passed over.

    Returns:
        Targets, relative to the folder.

    Raises:
        CorpusError: A file changed while it was added.
        StateError: The disk is full, or not writable.
    """
    progress = listener.get()
    progress.start("recordings linked" if link else "recordings copied", total)
    targets: set[str] = set()
    try:
        files = (pair for planned in plan.rows() for pair in planned.files)
        with ThreadPoolExecutor(COPIERS) as pool:
            while batch := list(islice(files, BATCH)):
                # Looked up here: the store's connection belongs to this thread.
                work = [(source, target, store.digest_of(source, stamp_of(source))) for source, target in batch]
                for _ in pool.map(lambda task: _bring(folder, *task, link=link), work):
                    pass
                targets.update(target for _, target in batch)
                progress.advance(len(batch))
    except OSError as error:
        raise StateError(
            f"Recordings cannot be written to {folder} ({error.strerror or error}).",
            "Free some space or mend the rights, and run the command again: what was copied is kept.",
        ) from error
    finally:
        progress.finish()
    return targets


def _bring(folder: Path, source: Path, place: str, sha256: str | None, *, link: bool) -> None:
    """Bring one file to its place; it appears there whole, and as it was when it was measured, if it was."""
    target = folder / place
    status = source.stat()
    with contextlib.suppress(OSError):
        there = target.stat()
        if (there.st_size, there.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name[:200]}.part")
    part.unlink(missing_ok=True)
    if link:
        _link(source, part)
    elif _copy(source, part) != sha256 and sha256 is not None:
        part.unlink()
        raise CorpusError(
            f"{source.name} changed while it was being added.", "Run the command again when nothing writes to the source."
        )
    if not link:
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
    part.replace(target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        target.symlink_to(source)  # another file system, or one without hard links


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def write_manifest(folder: Path, plan: Plan) -> None:
    """Write the manifest, line by line."""
    part = folder / f".{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as file:
        for planned in plan.rows():
            file.write(manifest_line(planned))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / MANIFEST)


def prune(folder: Path, kept: set[str]) -> None:
    """Remove what an earlier, killed run of the addition brought and this one does not name."""
    for path in list(_files(folder)):
        if str(path.relative_to(folder)) not in kept:
            path.unlink()


def _files(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (Path(here) / name for name in names)


def publish(staging: Path, target: Path) -> None:
    """Let the corpus appear under its name, in one step; what was there before is removed after."""
    (staging / IDENTITY).unlink(missing_ok=True)
    if not target.exists():
        staging.rename(target)
        return
    _exchange(staging, target)
    shutil.rmtree(staging)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders' names, so that a reader always finds one of them under either name."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = -100  # AT_FDCWD
    if libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), _EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(one))
    # A file system that cannot: two steps, with a moment in between.
    aside = one.with_name(f"{one.name}-old")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)
