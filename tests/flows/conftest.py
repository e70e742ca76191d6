"""A project of toys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Project


@pytest.fixture
def toy_project(make_project: Callable[[], Project], tmp_path: Path) -> Project:
    """A project whose weights are not the shared ones, for the toy's would stay there."""
    made = make_project()
    (made.home / "weights").unlink()
    cards = tmp_path / "cards"
    cards.mkdir()
    return Project(made.root, {**made.environment, "MODELLAB_CARDS": str(cards), "MODELLAB_WORKERS": "1"})
