"""Where a lab's things are: what every step is told instead of looking it up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.card import SHIPPED_CARDS, ModelCard, read_cards
from models.engine import available_cores
from models.types import Record
from pipelines.corpus import DERIVED
from pipelines.home import Home

DEFAULT_WORKERS = 4
"""Worker processes at most, unless told otherwise: each holds a model in memory."""


class Layout(Record):
    """How inference is spread over one machine."""

    workers: int
    """Processes, each with one model."""
    threads: int
    """Threads of each process."""

    @property
    def shards_in_flight(self) -> int:
        """Shards handed to the workers at a time: one more than there are, so that the next already waits when one ends."""
        return self.workers + 1

    @classmethod
    def of_machine(cls, workers: int | None = None, threads: int | None = None) -> Layout:
        """The layout that was fastest where it was measured: single-threaded workers (benchmarks/layouts.py).

        Short clips spend their time in many small operators, where two processes of one thread beat one of two.
        """
        cores = available_cores()
        chosen = workers or min(cores, DEFAULT_WORKERS)
        return cls(workers=chosen, threads=threads or max(1, cores // chosen))


class Pinned(Record):
    """The data of a git revision, exported into the home (`pipelines.pinned`)."""

    revision: str
    """As it was asked for."""
    commit: str
    """What it stands for."""
    version: str
    """DVC's hash of ``data/`` there."""
    folder: Path
    """The corpora."""


class Lab(Record):
    """A project and its state; plain paths, so that it can be a parameter of a flow."""

    project: Path
    """The checkout: ``params.yaml``, ``data.dvc``, ``data/``."""
    home_folder: Path
    """``MODELLAB_HOME``."""
    card_folders: tuple[Path, ...] = (SHIPPED_CARDS,)
    """Folders of model cards."""
    mlflow_uri: str | None = None
    """Tracking server or database; None for the SQLite file in the home."""
    history_uri: str | None = None
    """Database of the history; None for MLflow's."""
    layout: Layout
    """Processes and threads."""
    pinned: Pinned | None = None
    """The data of a revision; None for the working tree's."""
    computed_folder: Path | None = None
    """A folder for predictions and speech of its own, to compute everything anew; None for the home's."""

    @property
    def home(self) -> Home:
        """The home's folders."""
        return Home(self.home_folder, self.computed_folder)

    @property
    def data(self) -> Path:
        """The folder of corpora."""
        return self.pinned.folder if self.pinned is not None else self.project / "data"

    @property
    def derived(self) -> Path:
        """The folder of corpora made from others: degraded variants."""
        return self.data.parent / DERIVED

    @property
    def params(self) -> Path:
        """The policy and other parameters."""
        return self.project / "params.yaml"

    @property
    def tracking_uri(self) -> str:
        """What MLflow is told."""
        return with_driver(self.mlflow_uri or f"sqlite:///{self.home.mlflow_database}")

    def cards(self) -> Mapping[str, ModelCard]:
        """All cards, by name."""
        return read_cards(self.card_folders)


def with_driver(uri: str) -> str:
    """Name the driver that is installed for PostgreSQL: SQLAlchemy 2.1 would look for another where none is named."""
    kind, separator, rest = uri.partition("://")
    return f"postgresql+psycopg2://{rest}" if separator and kind in ("postgresql", "postgres") else uri
