"""Settings from the environment (``MODELLAB_*``)."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from modellab.places import find_home, find_project
from models.card import SHIPPED_CARDS
from models.errors import StateError
from pipelines.lab import Lab, Layout


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
        """The project's folder; raises as `find_project` does."""
        return find_project(self.project)

    def home_folder(self) -> Path:
        """The home's folder; raises as `find_home` does."""
        return find_home(self.home, self.project)

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
