"""Which version of ``data/`` the numbers come from, in DVC's words."""

from __future__ import annotations

from pathlib import Path

import yaml

from models.collector import collector_paused
from models.errors import CorpusError
from pipelines.lab import Lab

POINTER = "data.dvc"
UNTRACKED = "untracked"


def recorded_version(project: Path) -> str | None:
    """Read the hash that ``data.dvc`` names; None where the project has no such file.

    Raises:
        CorpusError: The file is there and is not what `dvc add data` writes.
    """
    pointer = project / POINTER
    if not pointer.is_file():
        return None
    return parse_pointer(pointer.read_bytes(), str(pointer))


def parse_pointer(text: str | bytes, name: str) -> str:
    """Read the hash that the text of a ``data.dvc`` names.

    Raises:
        CorpusError: It is not what `dvc add data` writes; ``name`` is told.
    """
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        (out,) = yaml.safe_load(plain)["outs"]
        recorded = out["md5"]
        if not isinstance(recorded, str):
            raise TypeError(f"md5 is {recorded!r}")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise CorpusError(
            f"{name} does not name one tracked folder with its md5 ({' '.join(str(error).split())}).",
            "Bring back the committed file with `git checkout data.dvc`, or run `dvc add data`.",
        ) from error
    return recorded


def data_version(project: Path) -> str:
    """DVC's hash of ``data/``, followed by ``+modified`` where the working tree differs from it.

    ``untracked`` where the project has no ``data.dvc``.

    Raises:
        CorpusError: See `recorded_version`.
    """
    recorded = recorded_version(project)
    if recorded is None:
        return UNTRACKED
    return f"{recorded}+modified" if _is_modified(project) else recorded


def version_of(lab: Lab) -> str:
    """The version of the data that a lab reads: that of its revision, else the working tree's by `data_version`.

    Raises:
        CorpusError: See `recorded_version`.
    """
    return lab.pinned.version if lab.pinned is not None else data_version(lab.project)


def _is_modified(project: Path) -> bool:
    with collector_paused():
        from dvc.dvcfile import load_file
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

    try:
        # Not `Repo.data_status`: that writes to DVC's index database, which waits 5 s for another writer and then gives up
        # ("database is locked"), while `dvc repro`, which runs us, or a second evaluation may be writing to it.
        with Repo(str(project)) as repo:
            (out,) = load_file(repo, str(project / POINTER)).stage.outs
            return bool(out.workspace_status())
    except DvcException:
        # Outside a git or DVC checkout nothing vouches for the files; that is what the mark says.
        return True
