"""A comparison with what is in production is made with what was released, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.lab import Lab, Layout
from registry import lifecycle
from registry.history import open_history
from registry.state import Version
from tests.conftest import Project
from tests.flows.toys import add_toy

EXIT_INCONCLUSIVE = 3
RELEASED = "f" * 64

pytestmark = pytest.mark.real


def released(project: Project, model: str, version: str) -> None:
    """Put a version of a model into production."""
    cards = (Path(project.environment["MODELLAB_CARDS"]),)
    lab = Lab(project=project.root, home_folder=project.home, card_folders=cards, layout=Layout(workers=1, threads=1))
    lifecycle.bootstrap(open_history(lab), "asr", Version(model=model, version=version), {})


def test_production_that_is_no_longer_what_was_released_is_not_compared_with(
    toy_project: Project, prefect_server: str
) -> None:
    """Its card, its weights or a library has changed: beating what runs here says nothing about what runs there."""
    add_toy(toy_project, "old", "speech", 2)
    add_toy(toy_project, "new", "speech", 2)
    released(toy_project, "old", RELEASED)
    answer = toy_project.run("compare", "new", "--json")
    assert answer.code == EXIT_INCONCLUSIVE, answer.err
    (rule,) = answer.json()["rules"]
    assert rule["verdict"] == "inconclusive"
    assert f"old ({RELEASED[:12]}) is in production, and as old is here it would be " in rule["reason"]
    assert "has changed since it was released" in rule["reason"]


def test_production_as_it_was_released_is_compared_with(toy_project: Project, prefect_server: str) -> None:
    add_toy(toy_project, "old", "speech", 2)
    add_toy(toy_project, "new", "speech", 2)
    here = toy_project.run("evaluate", "old", "--json").json()["model_fingerprint"]["digest"]
    released(toy_project, "old", here)
    result = toy_project.run("compare", "new", "--json").json()
    assert result["baseline"] == "old" and result["evaluations"].keys() == {"candidate", "baseline"}
