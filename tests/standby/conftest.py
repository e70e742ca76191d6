"""A standby process over a project with toys, started as `modellab up` does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from modellab import handover
from pipelines.home import write_atomically
from tests.conftest import Project
from tests.pipelines.toy_engine import toy_card, write_corpus

START = """
from modellab import servers
from modellab.commands.common import open_lab
_, lab = open_lab()
servers.start(lab.home, [spec for spec in servers.specs(lab.home, 1, 2) if spec.name == "standby"], print)
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a toy that takes its time writes what it does."""
    return tmp_path_factory.mktemp("slow")


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory, slow: Path) -> Iterator[Project]:
    """A project whose home has a longer path than a socket may have, with a toy model, a corpus and a standby process."""
    if not handover.SUPPORTED:
        pytest.skip("the standby process needs Linux")
    made = make_project()
    root = made.root / ("deep" * 20) / ("deeper" * 10)
    root.mkdir(parents=True)
    (made.root / "params.yaml").rename(root / "params.yaml")
    cards = toy_card(tmp_path_factory.mktemp("toy")), toy_card(slow, name="slow", decoding={"pause_s": 0.5})
    for each in cards:
        text = yaml.safe_dump(each.model_dump(mode="json", exclude_none=True))
        write_atomically(root / "cards" / f"{each.name}.yaml", text)
    write_corpus(root / "data" / "beeps", [{"language": "en"}] * 3)
    write_corpus(root / "data" / "many", [{"language": "en"}] * 200)
    project = Project(root, {**made.environment, "MODELLAB_PROJECT": str(root), "MODELLAB_CARDS": str(root / "cards")})
    stand_by(project)
    yield project
    project.run("down")


def stand_by(project: Project) -> None:
    """Do what `modellab up` does, without the servers."""
    environment = {**project.environment, "MODELLAB_HOME": ".modellab"}  # relative to where it is typed
    subprocess.run([sys.executable, "-c", START], env=environment, cwd=project.root, check=True, timeout=300)


@pytest.fixture
def waiting(project: Project) -> psutil.Process:
    (row,) = [row for row in project.run("status", "--json").json() if row["name"] == "standby"]
    assert row["running"], (project.home / "servers" / "standby.log").read_text()
    return psutil.Process(row["pid"])


def forks(project: Project) -> list[psutil.Process]:
    record = json.loads((project.home / "servers" / "standby.json").read_text())
    return psutil.Process(record["pid"]).children()


def wait_until(holds: Callable[[], bool], patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
