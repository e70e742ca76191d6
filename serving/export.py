"""A package as one file, for a machine that has no checkout of this project."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from models.errors import StateError
from models.types import Record
from serving.package import PYTHON_VERSION, size_mib
from serving.store import Bento, Store

FORMATS = (".tar", ".tar.gz", ".bento")
"""Tar, as it is or packed. Weights hardly shrink: ``.tar`` takes seconds, ``.bento``, which is packed with xz, minutes."""
REQUIREMENTS = "env/python/requirements.txt"


class Exported(Record):
    """What an export made."""

    tag: str
    """The Bento's, which the other machine serves it by."""
    file: str
    """Where it was written."""
    size_mib: float
    """Of the file."""
    commands: tuple[str, ...]
    """What to run on the other machine, in a shell, in the folder that holds the file."""


def check_target(file: Path) -> Path:
    """Refuse a file that cannot be written, before anything is built; gives it made absolute.

    Raises:
        StateError: Its name has another ending, its folder is not there or not writable, or something is there already.
    """
    file = file.expanduser().absolute()
    if not file.name.endswith(FORMATS):
        raise StateError(f"A package cannot be written as {file.name!r}.", f"End its name in one of: {', '.join(FORMATS)}.")
    if not os.access(file.parent, os.W_OK | os.X_OK) or not file.parent.is_dir():
        raise StateError(f"The folder {file.parent} is not there, or may not be written to.", "Make it, or name another.")
    if file.exists():
        raise StateError(f"{file} is there already.", "Remove it, or name another file.")
    return file


def export(store: Store, bento: Bento, file: Path) -> Exported:
    """Write a Bento to a file that is whole or not there.

    Args:
        store: Where the Bento lies.
        bento: Which.
        file: Ends in one of `FORMATS`.

    Raises:
        StateError: It cannot be written.
    """
    file = check_target(file)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".export-") as folder:
        part = Path(folder) / file.name
        store.run("export", bento.tag, str(part))
        part.replace(file)
    commands = commands_for(bento.tag, shlex.quote(file.name))
    return Exported(tag=bento.tag, file=str(file), size_mib=size_mib(file), commands=commands)


def commands_for(tag: str, name: str) -> tuple[str, ...]:
    """Write what serves an exported package elsewhere: its own requirements first, which bring BentoML.

    Args:
        tag: The Bento's.
        name: The file's name, as a shell takes it.
    """
    return (
        f"tar -xf {name} --strip-components=3 ./{REQUIREMENTS}",
        f"python{PYTHON_VERSION} -m venv served && served/bin/pip install -r requirements.txt",
        'export BENTOML_HOME="$PWD/store" BENTOML_DO_NOT_TRACK=True',
        f'served/bin/bentoml import "$PWD"/{name}',  # it looks for a bare name at the root
        f"served/bin/bentoml serve {tag} --host 127.0.0.1 --port 3000",
    )
