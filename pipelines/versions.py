"""Versions of ``data/`` in DVC and git: tracked, committed, pushed and pulled."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import CorpusError, StateError
from models.types import Record
from pipelines.dataversion import POINTER, data_version, recorded_version
from pipelines.progress import listener

if TYPE_CHECKING:
    from dvc.repo import Repo

DATA = "data"
TEAM = "team"
"""Name given to the remote that `push` sets up."""
_BINDING = re.compile(r"^ +(remote|push):.*\n", re.MULTILINE)
GIT_TIMEOUT_S = 120
_REMOTE_LIBRARIES = frozenset({"botocore", "aiobotocore", "aiohttp", "s3fs", "asyncssh", "sshfs", "fsspec", "gcsfs"})


class Pushed(Record):
    """What a push did. `corpus push --json` prints it."""

    remote: str
    """Name of the remote."""
    url: str
    data_version: str
    pushed: int
    """Objects that the remote did not have."""
    verified: int
    """Objects of this version that the remote has, each of the right size."""
    repaired: int
    """Objects that the remote had lost, or had in part only, and that were sent again."""
    git: tuple[str, ...]
    """What is left to do, as commands; empty when it was done."""
    commit: str | None
    """The commit, where one was asked for."""


class Pulled(Record):
    """What a pull did. `corpus pull --json` prints it."""

    data_version: str
    fetched: int
    """Objects that were not in the cache."""
    changed: tuple[str, ...]
    """What of ``data/`` is new or other than before."""


@contextmanager
def _repository(project: Path) -> Iterator[Repo]:
    """Open DVC's repository; its errors are told in its words.

    Raises:
        StateError: The project is none, or DVC could not do what was asked.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    # DVC draws its bars only for who listens, and only on a terminal.
    logging.getLogger("dvc").setLevel(logging.INFO if sys.stderr.isatty() else logging.WARNING)
    try:
        with Repo(str(project)) as repo:
            yield repo
    except NotDvcRepoError as error:
        raise StateError(f"{project} is not under DVC.", "Run `dvc init` in it (in a git checkout) first.") from error
    except DvcException as error:
        raise StateError(f"DVC says: {_told(error)}.", "Mend this and run the command again.") from error
    except Exception as error:
        # What the libraries of a remote raise has no common class.
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _REMOTE_LIBRARIES:
            raise
        raise StateError(
            f"The remote cannot be used: {_told(error)}.", "Check its address (.dvc/config), your rights and the network."
        ) from error


def _told(error: BaseException) -> str:
    causes = [str(error)]
    while (cause := error.__cause__) is not None:
        error = cause
        if str(cause):
            causes.append(str(cause))
    return "; ".join(" ".join(text.split()).rstrip(".") for text in dict.fromkeys(causes))


def is_versioned(project: Path) -> bool:
    """Whether DVC keeps versions of the project's data."""
    return (project / ".dvc").is_dir()


def track(project: Path) -> str:
    """Make the present ``data/`` a version, as `dvc add data` does; gives the version.

    Raises:
        StateError: The project is not under DVC, or DVC could not add.
    """
    listener.get().say("dvc add data")
    with _repository(project) as repo:
        repo.add([str(project / DATA)])
    return recorded_version(project) or ""


def git_steps(project: Path, message: str) -> tuple[str, ...]:
    """What records this version in git, as commands; empty where nothing has changed or there is no git."""
    if not (changed := _changed_pointers(project)):
        return ()
    return (f"git add {' '.join(changed)}", f'git commit -m "{message}"')


def commit(project: Path, message: str) -> str | None:
    """Commit what names this version, and nothing else that may lie staged; gives the commit, or None if none is due.

    Raises:
        StateError: git refuses.
    """
    if not (changed := _changed_pointers(project)):
        return None
    _git(project, "add", "--", *changed)
    _git(project, "commit", "--quiet", "-m", message, "--", *changed)
    return _git(project, "rev-parse", "HEAD").strip()


def _changed_pointers(project: Path) -> list[str]:
    """Those of our files that git sees as new or changed."""
    if not (project / ".git").exists():
        return []
    names = [name for name in (POINTER, ".dvc/config", ".gitignore") if (project / name).exists()]
    told = _git(project, "status", "--porcelain", "--", *names)
    return [line[3:] for line in told.splitlines()]


def _git(project: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=project, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StateError(f"git cannot be run ({error}).", "Install git, or commit by hand.") from error
    if done.returncode:
        told = " ".join((done.stderr or done.stdout).split())
        raise StateError(f"git {arguments[0]} says: {told}.", "Mend this, and commit data.dvc by hand.")
    return done.stdout


def push(project: Path, *, to: str | None, endpoint: str | None = None, message: str | None = None) -> Pushed:
    """Send this version to the team's remote, and make sure that it can be pulled from there.

    DVC uploads the files first and the list of them (the ``.dir`` object) last, and every object under a passing name; so a
    push that was killed leaves no version, and the next one goes on. A remote that was interrupted by other means may hold
    objects in part: sizes are compared before and after, and such objects are sent again.

    Args:
        project: The checkout.
        to: Where to, the first time: a folder or a URL; becomes the default remote, named ``team``.
        endpoint: Address of an S3-compatible server, with `to`.
        message: Commit what names the version with this message; None to tell the commands instead.

    Raises:
        CorpusError: There is no remote, or ``data/`` has changed since it was tracked.
        StateError: DVC or the remote refuses, or the remote has not all of the version.
    """
    from pipelines.remotes import check_remote, forget_broken

    if not is_versioned(project):
        raise StateError(f"{project} is not under DVC.", "Run `dvc init` in it (in a git checkout) first.")
    if to is not None:
        _set_remote(project, to, endpoint)
    _unbind(project)
    version = data_version(project)
    if "+" in version:
        raise CorpusError("data/ has changed since it was tracked.", "Run `dvc add data` first, then push.")
    with _repository(project) as repo:
        name = _default_remote(repo)
        remote = repo.cloud.get_remote(name)
        url = str(repo.config["remote"][name]["url"])
        listener.get().say(f"pushing data/ to {url}")
        repaired = forget_broken(repo, remote)
        pushed = repo.push(targets=[str(project / POINTER)])
        verified = check_remote(repo, remote)
    told = message or f"Point data at the remote {name}"
    made = commit(project, told) if message is not None else None
    return Pushed(
        remote=name,
        url=url,
        data_version=version,
        pushed=pushed,
        verified=verified,
        repaired=repaired,
        git=() if made else git_steps(project, told),
        commit=made,
    )


def _set_remote(project: Path, to: str, endpoint: str | None) -> None:
    url = to if "://" in to else str(Path(to).expanduser().resolve())
    with _repository(project) as repo, repo.config.edit("repo") as config:
        known = config["remote"].get(TEAM, {}).get("url")
        if known is not None and str(known) != url:
            raise CorpusError(
                f"The remote {TEAM} is {known} already, not {url}.", f"Change it with `dvc remote modify {TEAM} url {url}`."
            )
        section: dict[str, Any] = {"url": url}
        if endpoint is not None:
            section["endpointurl"] = endpoint
        config["remote"][TEAM] = {**config["remote"].get(TEAM, {}), **section}
        config["core"]["remote"] = TEAM


def _default_remote(repo: Repo) -> str:
    name = repo.config["core"].get("remote")
    if not name:
        raise CorpusError(
            "There is no remote for your own corpora.",
            "Name one, once: `modellab corpus push --to URL` (a shared folder, s3://BUCKET/PATH, ssh://HOST/PATH).",
        )
    return str(name)


def _unbind(project: Path) -> None:
    """Free ``data.dvc`` from the read-only remote that the repository ships with, as soon as there is another."""
    with _repository(project) as repo:
        name = _default_remote(repo)
    pointer = project / POINTER
    if not pointer.is_file():
        raise CorpusError("data/ is not tracked yet.", "Run `dvc add data` first, then push.")
    text = pointer.read_text(encoding="utf-8")
    bound = dict(_bindings(text))
    if bound and bound.get("remote", "") != name:
        pointer.write_text(_BINDING.sub("", text), encoding="utf-8")


def _bindings(text: str) -> Iterator[tuple[str, str]]:
    for line in _BINDING.finditer(text):
        yield line[1], line[0].partition(":")[2].strip()


def pull(project: Path) -> Pulled:
    """Bring ``data/`` to the version that ``data.dvc`` names.

    Raises:
        StateError: DVC or the remote refuses, or ``data/`` has changes of its own.
    """
    listener.get().say("pulling data/")
    with _repository(project) as repo:
        done = repo.pull(targets=[str(project / POINTER)])
    changed: Sequence[str] = [path for kind in ("added", "modified", "deleted") for path in done.get(kind, ())]
    return Pulled(data_version=data_version(project), fetched=int(done["stats"].get("fetched", 0)), changed=tuple(changed))
