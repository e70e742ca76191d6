"""What all tests share: quiet dependencies, the starter corpus, real weights, and a project in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modellab import servers
from modellab.quiet import QUIET
from pipelines.home import Home

REPOSITORY = Path(__file__).parents[1]
STARTER = REPOSITORY / "data" / "starter"
SHARED_HOME = Path(os.environ.get("MODELLAB_HOME", REPOSITORY / ".modellab"))

os.environ.update(QUIET)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def starter() -> Path:
    """Folder of the starter corpus."""
    assert (STARTER / "manifest.jsonl").is_file(), "the starter corpus is missing: run `dvc pull` (`make test` does)"
    return STARTER


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """Cache of real weights, shared by all tests: models are fetched once."""
    folder = SHARED_HOME / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.out, f"nothing on standard output; standard error says:\n{self.err}"
        return json.loads(self.out)


@dataclass(frozen=True)
class Project:
    """A project in a folder of its own, used through the command line as its user would."""

    root: Path
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        return self.root / ".modellab"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "modellab", *arguments]

    def run(self, *arguments: str, **variables: str) -> Answer:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=600,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def add_corpus(self, name: str, rows: Sequence[dict[str, Any]], files: dict[str, Path]) -> Path:
        """Write a corpus of these rows; ``files`` are copied to their names in it."""
        folder = self.root / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        for target, source in files.items():
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / target)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
        return folder

    def add_starter_part(self, starter: Path, ids: Sequence[str], name: str = "mini") -> Path:
        """Write a corpus with these recordings of the starter corpus."""
        known = {row["id"]: row for row in map(json.loads, (starter / "manifest.jsonl").read_text().splitlines())}
        rows = [known[i] for i in ids]
        return self.add_corpus(name, rows, {row["audio_filepath"]: starter / row["audio_filepath"] for row in rows})


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the API of a real Prefect server for all tests; an embedded one would cost every command 20 s."""
    home = Home(tmp_path_factory.mktemp("server-home"))
    os.environ.update(PREFECT_HOME=str(home.prefect), PREFECT_LOGGING_LEVEL="CRITICAL")
    spec = servers.specs(home, free_port(), free_port())[0]
    servers.start(home, [spec], lambda line: None)
    yield f"{spec.url}/api"
    servers.stop(home)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def make_project(
    tmp_path_factory: pytest.TempPathFactory, shared_weights: Path, prefect_server: str
) -> Callable[[], Project]:
    """Make a project with the shipped policy and an empty home, whose weights are the shared ones."""

    def make() -> Project:
        root = tmp_path_factory.mktemp("project")
        (root / ".modellab").mkdir()
        (root / ".modellab" / "weights").symlink_to(shared_weights)
        (root / "data").mkdir()
        shutil.copyfile(REPOSITORY / "params.yaml", root / "params.yaml")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MODELLAB_", "PREFECT_", "MLFLOW_"))}
        ours = {"MODELLAB_PROJECT": str(root), "PYTHONPATH": str(REPOSITORY), "PREFECT_API_URL": prefect_server}
        return Project(root, {**kept, **ours})

    return make


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    return make_project()
