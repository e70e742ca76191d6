"""The data of any git revision, read through DVC into the home; the working tree is neither read nor touched.

An export is named by DVC's digest of ``data/`` and made of DVC's cache: files are linked where the file system allows it,
and copied otherwise, each checked against its digest first. A few exports are kept, the least recently used one goes first,
and none goes while a process uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from filelock import FileLock

from models.errors import CorpusError, StateError
from pipelines.dataversion import POINTER, parse_pointer
from pipelines.home import write_atomically
from pipelines.lab import Lab, Pinned

KEPT = 4
"""Exports that stay; links to DVC's cache cost nothing, copies their size."""
SHORT = 12
MARKER = "export.json"
GIT_TIMEOUT_S = 60

_in_use: list[IO[str]] = []
"""Locks held until this process ends: the exports that it reads."""


def at_revision(lab: Lab, revision: str | None, corpora: tuple[str, ...] = (), say: Callable[[str], None] = print) -> Lab:
    """Give a lab whose data is that of a revision; the same lab where none is named.

    Args:
        lab: The project.
        revision: A commit, tag or branch.
        corpora: Those asked for; a path is no data of a revision and refused.
        say: Told when something must be fetched.

    Raises:
        CorpusError: The revision is unknown or names no data, or its data is not to be had.
        StateError: The home has no room for it.
    """
    if revision is None:
        return lab
    for name in corpora:
        if "/" in name or name.startswith("."):
            raise CorpusError(
                f"--data-rev reads corpora of a revision, and {name} is a path.",
                "Name the corpus as it is called under data/.",
            )
    return lab.model_copy(update={"pinned": pin(lab, revision, say)})


def pin(lab: Lab, revision: str, say: Callable[[str], None]) -> Pinned:
    """Export the data of a revision, or find it exported; see `at_revision`."""
    commit = resolve(lab.project, revision)
    name = f"revision {revision}" if commit.startswith(revision) else f"revision {revision} ({commit[:SHORT]})"
    pointer = _git(lab.project, "show", f"{commit}:./{POINTER}")
    if pointer is None:
        raise CorpusError(
            f"{name.capitalize()} has no {POINTER}, so it names no data.",
            f"`git log --oneline -- {POINTER}` lists the revisions that do.",
        )
    version = parse_pointer(pointer, f"{POINTER} of {name}")
    root = lab.home.data_versions
    root.mkdir(parents=True, exist_ok=True)
    folder = root / version.removesuffix(".dir")
    _hold(folder)
    with FileLock(root / f".{folder.name}.making"):
        if not _is_whole(folder):
            _export(lab, commit, name, version, folder, say)
    _discard_old(root, folder)
    return Pinned(revision=revision, commit=commit, version=version, folder=folder / "data")


def resolve(project: Path, revision: str) -> str:
    """Find the commit of a revision.

    Raises:
        CorpusError: There is none.
    """
    if _git(project, "rev-parse", "--git-dir") is None:
        raise CorpusError(f"{project} is no git checkout, so it has no revisions.", "Leave --data-rev out.")
    commit = _git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if not commit:
        raise CorpusError(
            f"There is no revision {revision!r} in {project}.",
            f"Name a commit, a tag or a branch; `git log --oneline -- {POINTER}` lists those that changed the data.",
        )
    return commit.strip()


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments], capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _hold(folder: Path) -> None:
    """Keep others from discarding an export for as long as this process lives; also says when it was last used."""
    lock = (folder.parent / f"{folder.name}.used").open("a", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_SH)
    os.utime(lock.name)
    _in_use.append(lock)


def _discard_old(root: Path, current: Path) -> None:
    used = sorted(root.glob("*.used"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in used[KEPT:]:
        folder = path.with_suffix("")
        if folder == current:
            continue
        with path.open("a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # somebody reads it
            shutil.rmtree(folder, ignore_errors=True)
            path.unlink(missing_ok=True)


def _is_whole(folder: Path) -> bool:
    """Say whether an export has exactly the files it was made of, unchanged by size and time."""
    try:
        told: dict[str, list[int]] = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return told == dict(_stats(folder / "data"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stats(data: Path) -> Iterator[tuple[str, list[int]]]:
    for path in data.rglob("*"):
        if path.is_file():
            found = path.stat()
            yield path.relative_to(data).as_posix(), [found.st_size, found.st_mtime_ns]


def _export(lab: Lab, commit: str, name: str, version: str, folder: Path, say: Callable[[str], None]) -> None:
    """Build an export beside its place, and put it there whole."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.open_repo import NotDvcRepoError
    from dvc.scm import SCMError

    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with Repo(str(lab.project)) as repo:
            cache = repo.cache.local
            if _lacking(cache, version):
                say(f"Fetching the data of {name}")
                _fetch(lab.project, repo, commit)
                if _lacking(cache, version):
                    raise _not_to_be_had(name, version, "")
            _check_room(lab, cache, version)
            for digest, relative in _listing(cache, version, name):
                _place(cache.oid_to_path(digest), digest, partial / "data" / relative, name)
    except NotDvcRepoError as error:
        raise CorpusError(f"{lab.project} is no DVC project.", "Run `dvc init`, or leave --data-rev out.") from error
    except (DvcException, SCMError, OSError) as error:
        raise _not_to_be_had(name, version, f" ({' '.join(str(error).split())})") from error
    write_atomically(partial / MARKER, json.dumps({"commit": commit, "files": dict(_stats(partial / "data"))}))
    partial.rename(folder)


def _not_to_be_had(name: str, version: str, why: str) -> CorpusError:
    return CorpusError(
        f"The data of {name} ({version}) is neither in DVC's cache nor on its remote{why}.",
        "Run `dvc push` where it was added, or add the remote that has it.",
    )


def _fetch(project: Path, repo: Any, commit: str) -> None:
    """Bring the revision's data into DVC's cache, quietly: standard output belongs to the result."""
    # DVC sees a revision as a file system of its own, whose root is git's.
    within = (_git(project, "rev-parse", "--show-prefix") or "").strip()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        # Remotes are where they are now, not where that revision's config had them.
        now = {section: dict(repo.config[section]) for section in ("core", "remote")}
        repo.fetch(targets=[f"/{within}{POINTER}"], revs=[commit], workspace=False, config=now)


def _lacking(cache: Any, version: str) -> bool:
    """Say whether the cache lacks a version or a part of it."""
    if not Path(cache.oid_to_path(version)).is_file():
        return True
    return any(not Path(cache.oid_to_path(digest)).is_file() for digest, _ in _listing(cache, version, version))


def _listing(cache: Any, version: str, name: str) -> list[tuple[str, PurePosixPath]]:
    """Read DVC's list of a folder: digest and path of every file.

    Raises:
        CorpusError: It is no such list, or a path leaves the folder.
    """
    try:
        rows = json.loads(Path(cache.oid_to_path(version)).read_text(encoding="utf-8"))
        files = [(str(row["md5"]), PurePosixPath(row["relpath"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"DVC's list of the files of {name} cannot be read ({error}).",
            "Run `dvc fetch --all-commits` to mend the cache.",
        ) from error
    for digest, path in files:
        if path.is_absolute() or ".." in path.parts or not digest.isalnum():
            raise CorpusError(
                f"DVC's list of the files of {name} has {str(path)!r}.", "It was tampered with: fetch it anew."
            )
    return files


def _check_room(lab: Lab, cache: Any, version: str) -> None:
    """Refuse what the home has no room for, were every file copied."""
    size = sum(Path(cache.oid_to_path(digest)).stat().st_size for digest, _ in _listing(cache, version, version))
    free = shutil.disk_usage(lab.home.root).free
    linked = Path(cache.path).stat().st_dev == lab.home.root.stat().st_dev
    if size > free and not linked:
        raise StateError(
            f"The data is {size / 2**20:.0f} MiB, and {lab.home.root} has room for {free / 2**20:.0f} MiB.",
            "Make room, or set MODELLAB_HOME to a larger disk.",
        )


def _place(source: str, digest: str, target: Path, name: str) -> None:
    """Link or copy one file whose bytes are what its digest says."""
    with Path(source).open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != digest:
        raise CorpusError(
            f"{target.name} of {name} is damaged in DVC's cache: its digest is {found}, not {digest}.",
            f"Delete {source}, and run the command again to fetch it.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)
