"""The home folder: where everything that modellab keeps between runs lives."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from models.errors import StateError


@dataclass(frozen=True)
class Home:
    """Folders of one home (``MODELLAB_HOME``)."""

    root: Path
    computed: Path | None = None
    """Where predictions, speech and measures are instead: a run that computes everything anew."""

    @property
    def weights(self) -> Path:
        """Verified model weights, a folder a card."""
        return self.root / "weights"

    @property
    def predictions(self) -> Path:
        """The prediction store."""
        return (self.computed or self.root) / "predictions"

    @property
    def speech(self) -> Path:
        """What voices said, and its audio."""
        return (self.computed or self.root) / "speech"

    @property
    def measures(self) -> Path:
        """Measures of synthesised audio."""
        return (self.computed or self.root) / "measures"

    @property
    def evaluations(self) -> Path:
        """Results of evaluations, a folder a run."""
        return self.root / "evaluations"

    @property
    def comparisons(self) -> Path:
        """Results of comparisons, a folder a run."""
        return self.root / "comparisons"

    @property
    def duels(self) -> Path:
        """Speed measured side by side, a file a pair of models."""
        return self.root / "duels"

    @property
    def calibrations(self) -> Path:
        """Confidence maps, a file a model version."""
        return self.root / "calibrations"

    @property
    def schedules(self) -> Path:
        """What scheduled runs keep: when they ran, what was known good, alerts."""
        return self.root / "schedules"

    @property
    def data_versions(self) -> Path:
        """Data of earlier revisions, a folder a version."""
        return self.root / "data-versions"

    @property
    def validations(self) -> Path:
        """Results of validations, a folder a corpus, and what was measured of recordings."""
        return self.root / "validations"

    @property
    def mlflow_database(self) -> Path:
        """MLflow's SQLite file."""
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """MLflow's artifacts."""
        return self.root / "mlflow-artifacts"

    @property
    def prefect(self) -> Path:
        """Prefect's home: its database and logs."""
        return self.root / "prefect"

    @property
    def servers(self) -> Path:
        """What `modellab up` started: process ids, ports, logs."""
        return self.root / "servers"

    def open(self) -> Home:
        """Make the folder and prove that it can be written to.

        Raises:
            StateError: It cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise StateError(
                f"The home folder {self.root} cannot be written ({error.strerror or error}).",
                "Set MODELLAB_HOME to a folder you may write to.",
            ) from error
        return self


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old or the new content, never a part, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; results are meant to be read like any other file.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
