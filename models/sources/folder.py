"""Weights that already lie in a folder of this machine."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from models.card import PathSource
from models.sources.base import Order, Unavailable


def deliver(source: PathSource, order: Order) -> None:
    """Link the files, or copy them where the file system has no links."""
    folder = Path(expand(source.path)).expanduser()
    if not folder.is_dir():
        raise Unavailable(f"the folder {folder} does not exist")
    take(folder, {name: name for name in order.files}, order.into)


def take(folder: Path, names: Mapping[str, str], into: Path) -> None:
    """Link or copy files out of a folder.

    Args:
        folder: Where they lie.
        names: Name to be → name in the folder.
        into: Where to.

    Raises:
        Unavailable: One is not there.
    """
    for name, there in names.items():
        original = (folder / there).resolve()
        if not original.is_file():
            raise Unavailable(f"{folder} has no {there}")
        try:
            (into / name).hardlink_to(original)
        except OSError:  # another file system, or one without links
            shutil.copyfile(original, into / name)


def expand(text: str) -> str:
    """Put in the environment variables that a card's text names.

    Raises:
        Unavailable: One is not set.
    """
    expanded = os.path.expandvars(text)
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise Unavailable(f"{unset[1]} is not set")
    return expanded
