"""Where the project and its home lie; imports little, for `modellab.handover` asks before anything else runs."""

from __future__ import annotations

from pathlib import Path

from models.errors import StateError

PROJECT_MARKER = "params.yaml"


def find_project(chosen: Path | None) -> Path:
    """Give the project's folder: as chosen, else the nearest at or above the working folder, else the checkout.

    Raises:
        StateError: No ``params.yaml`` at or above the working folder, nor beside the installed packages.
    """
    if chosen is not None:
        return chosen.expanduser().resolve()
    here = Path.cwd()
    checkout = Path(__file__).resolve().parent.parent
    for folder in (here, *here.parents, checkout):
        if (folder / PROJECT_MARKER).is_file():
            return folder
    raise StateError(
        f"No {PROJECT_MARKER} at or above {here}, so this is not a modellab project.",
        "Change into a checkout, or set MODELLAB_PROJECT.",
    )


def find_home(chosen: Path | None, project: Path | None) -> Path:
    """Give the home's folder: as chosen, else in the project; raises as `find_project` does."""
    if chosen is not None:
        return chosen.expanduser().resolve()
    return find_project(project) / ".modellab"
