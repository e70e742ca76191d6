"""MLflow's database in the home is whole or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipelines import tracking
from pipelines.lab import Lab, Layout
from tests.conftest import REPOSITORY

KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines import tracking
from pipelines.lab import Lab

Path.replace = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
tracking.connect(Lab.model_validate_json(sys.argv[1]))
"""


def test_a_process_killed_while_the_database_is_made_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    lab = Lab(project=tmp_path, home_folder=tmp_path / "home", layout=Layout(workers=1, threads=1))
    done = subprocess.run([sys.executable, "-c", KILLED, lab.model_dump_json()], cwd=REPOSITORY, timeout=120)
    assert done.returncode == -9
    assert not lab.home.mlflow_database.exists()
    assert list(lab.home.root.glob(".mlflow-*")), "it was being made"

    client = tracking.connect(lab)
    assert client.create_experiment("first")
    assert lab.home.mlflow_database.is_file()
    assert not list(lab.home.root.glob(".mlflow-*"))
