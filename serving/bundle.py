"""What a package holds of a model: its card, its verified weights, and the evidence that it was tested.

Layout of the folder: ``bundle.json`` (`Bundle`), ``weights/``, ``card.yaml`` and ``decision.json`` for people,
``calibration.json`` where there is a map, and ``parity.json``, the report of the check, once that has passed. The service
reads it before it is ready, and refuses what is not as packaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from models.audio import file_sha256
from models.calibration_map import CalibrationMap
from models.card import ModelCard
from models.engine import Placement, placement_of
from models.errors import StateError, WeightsError
from models.fingerprint import ModelFingerprint, model_fingerprint
from models.types import Record, Task

BUNDLE = "bundle.json"
CARD = "card.yaml"
WEIGHTS = "weights"
CALIBRATION = "calibration.json"
DECISION = "decision.json"
PARITY = "parity.json"
REMEDY = "Package the model again: modellab package {}"
FAILED = "modellab cannot serve: "
"""Begins the line of a log that says why a service does not start: BentoML itself only tries again."""

GateVerdict = Literal["pass", "fail", "inconclusive", "none"]
"""A comparison's verdict; ``none`` where this version of the model was never compared."""


class Bundle(Record):
    """What was packaged."""

    card: ModelCard
    """The model."""
    device: str
    """Where it was tested."""
    compute_type: str
    """In which number format."""
    fingerprints: dict[Task, ModelFingerprint]
    """Of each of its tasks."""
    verdict: GateVerdict
    """What the gate said of this version."""
    comparison: str | None
    """Run id of the comparison that said so."""
    packaged_at: str
    """ISO 8601, UTC."""

    @property
    def task(self) -> Task:
        """The task that the model was tested in: the card's first."""
        return self.card.tasks[0]

    @property
    def digest(self) -> str:
        """Fingerprint of what was tested."""
        return self.fingerprints[self.task].digest

    def placement(self, threads: int | None) -> Placement:
        """Where to run it again; None takes all cores."""
        return placement_of(self.card, self.device, self.compute_type, threads)


def read_bundle(folder: Path) -> Bundle:
    """Read what was packaged.

    Raises:
        StateError: There is none, or it cannot be read.
    """
    path = folder / BUNDLE
    try:
        return Bundle.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StateError(f"The package {folder} has no {BUNDLE} that can be read.", REMEDY.format("MODEL")) from error


def read_calibration(folder: Path) -> CalibrationMap | None:
    """Read the map of word probabilities; None where the package has none.

    Raises:
        StateError: It cannot be read.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        return CalibrationMap.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StateError(f"{path} is not a calibration map.", REMEDY.format("MODEL")) from error


def check_bundle(bundle: Bundle, folder: Path) -> None:
    """Hold the weights and the libraries here to what was packaged; every byte of the weights is read.

    Raises:
        WeightsError: A file is missing, or is not the one that was packaged.
        StateError: A library has another version here, or the card was changed.
    """
    name, weights = bundle.card.name, folder / WEIGHTS
    for file, digest in bundle.fingerprints[bundle.task].weights.items():
        path = weights / file
        found = file_sha256(path) if path.is_file() else "nothing"
        if found != digest:
            raise WeightsError(
                f"The weights of {name} are not those that were packaged: {file}: expected sha256 {digest}, found {found}.",
                REMEDY.format(name),
            )
    placement = bundle.placement(1)
    for task, packaged in bundle.fingerprints.items():
        here = model_fingerprint(bundle.card, placement, packaged.weights, task)
        if here != packaged:
            raise StateError(
                f"{name} would not answer here as it was tested: {_difference(packaged, here)}.",
                "Install the package's own requirements (env/python/requirements.txt), or package the model again.",
            )


def _difference(packaged: ModelFingerprint, here: ModelFingerprint) -> str:
    parts = []
    for field in ModelFingerprint.model_fields:
        before, now = getattr(packaged, field), getattr(here, field)
        if isinstance(before, dict):
            parts += [f"{key} {before.get(key)} → {now.get(key)}" for key in before | now if before.get(key) != now.get(key)]
        elif before != now:
            parts.append(f"{field} {before} → {now}")
    return ", ".join(parts)
