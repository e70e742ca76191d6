"""Settings from the environment (``MODELLAB_*``), and the switches that keep every dependency quiet and offline.

This module is imported before any heavy library, because several of them read their switches when imported.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.card import SHIPPED_CARDS
from models.errors import StateError
from pipelines.lab import Lab, Layout

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Its migrations would announce each table of a new home.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # It would draw bars into our own progress, and say "downloading" of a copy on this disk.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A run that ends at a server would print its address into what `--json` prints.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Python's resource tracker reports the semaphores of workers that Ctrl-C ended; the system has freed them.
    "PYTHONWARNINGS": "ignore:resource_tracker",
    # Git would otherwise be asked for at import, with a warning where it is missing.
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Telemetry of the dependencies, off unless the user has set a variable otherwise."""

PROJECT_MARKER = "params.yaml"


class Settings(BaseSettings):
    """What can be set from outside; unset values have the defaults described."""

    model_config = SettingsConfigDict(env_prefix="MODELLAB_", extra="ignore")

    home: Path | None = None
    """State between runs; default ``.modellab/`` in the project."""
    project: Path | None = None
    """The project; default: the nearest folder at or above the working folder that holds ``params.yaml``."""
    cards: str = ""
    """More folders of model cards, separated like ``PATH``."""
    mlflow_uri: str | None = None
    """MLflow tracking URI; default: an SQLite file in the home."""
    history_uri: str | None = None
    """Database of the history of releases; default: MLflow's."""
    workers: int | None = Field(default=None, ge=1)
    """Worker processes; default: the cores, at most four."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of each worker; default: the cores shared out."""
    prefect_port: int = Field(default=4200, ge=1, le=65535)
    """Port of the local Prefect server that `modellab up` starts."""
    alert_webhook: str | None = None
    """Address that gets a JSON body when production regresses (docs/schedules.md); unset: the log has it. Holds a secret."""
    debug: bool = False
    """Show tracebacks and the dependencies' warnings; ``--debug`` sets it."""
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    """Port of the local MLflow server that `modellab up` starts."""

    def project_folder(self) -> Path:
        """The project's folder.

        Raises:
            StateError: No ``params.yaml`` at or above the working folder, nor beside the installed packages.
        """
        if self.project is not None:
            return self.project.expanduser().resolve()
        here = Path.cwd()
        checkout = Path(__file__).resolve().parent.parent
        for folder in (here, *here.parents, checkout):
            if (folder / PROJECT_MARKER).is_file():
                return folder
        raise StateError(
            f"No {PROJECT_MARKER} at or above {here}, so this is not a modellab project.",
            "Change into a checkout, or set MODELLAB_PROJECT.",
        )

    def home_folder(self) -> Path:
        """The home's folder."""
        if self.home is not None:
            return self.home.expanduser().resolve()
        return self.project_folder() / ".modellab"

    def lab(self) -> Lab:
        """The lab these settings describe; its home is made and proved writable."""
        more = tuple(Path(part).expanduser().resolve() for part in self.cards.split(os.pathsep) if part)
        lab = Lab(
            project=self.project_folder(),
            home_folder=self.home_folder(),
            card_folders=(SHIPPED_CARDS, *more),
            mlflow_uri=self.mlflow_uri,
            history_uri=self.history_uri,
            layout=Layout.of_machine(self.workers, self.threads),
        )
        lab.home.open()
        return lab


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        StateError: A variable has a value that cannot be used; it is named.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"MODELLAB_{'_'.join(str(part) for part in first['loc']).upper()}"
        raise StateError(f"{name} is {first.get('input')!r}: {first['msg']}.", f"Correct or unset {name}.") from error


def quiet_dependencies(home: Path, *, debug: bool = False) -> None:
    """Set the switches in this process's environment, where its children find them too."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))
    # Our own progress and errors take the console; Prefect would print the traceback of every error twice.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING" if debug else "CRITICAL")
    # The embedded server needs 15 to 23 s on two cores; its default patience of 20 s is too short.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("MPLCONFIGDIR", str(home / "matplotlib"))
