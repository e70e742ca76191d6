"""Versions in MLflow's model registry: one registered model a task, one version a fingerprint, everything in it.

A version is written before the history says a word of it, so that whatever the history names is there. Its artifacts never
change; what is found out later (comparisons, its stage) is in its tags.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import models
from models.card import ModelCard, find_card
from models.engine import engine_class, placement_of
from models.errors import StateError
from models.fingerprint import ModelFingerprint, model_fingerprint
from models.types import Task
from models.weights import Located, fetch, take_verified
from pipelines import tracking
from pipelines.confidence import map_path
from pipelines.decision import RuleResult
from pipelines.home import write_atomically
from pipelines.lab import Lab
from pipelines.types import Evaluation
from registry.events import canonical
from registry.state import Version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "modellab-versions"
ARTIFACT = "model"
TAG = "modellab."
FINGERPRINT = f"{TAG}fingerprint"
STAGE = f"{TAG}stage"
LIBRARIES = ("mlflow", "numpy", "pandas", "pydantic", "PyYAML", "soundfile", "soxr", "psutil")
"""What `models` and `registry.speech_model` import beside an engine's own library."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Described:
    """A model as it would run here, for one task."""

    card: ModelCard
    located: Located
    fingerprint: ModelFingerprint

    @property
    def version(self) -> Version:
        """Its name and fingerprint."""
        return Version(model=self.card.name, version=self.fingerprint.digest)


def describe(lab: Lab, model: str, task: Task, say: Say) -> Described:
    """Say which version of a model this is; fetches the weights if they are not here.

    Raises:
        CardError: The model is unknown, or does not do the task.
        WeightsError: No source has the weights.
        EngineError: Its library is not installed.
    """
    cards = lab.cards()
    card = find_card(model, cards)
    placement = placement_of(card)
    located = fetch(card, cards, lab.home.weights, say, partial(tracking.download_artifacts, lab))
    return Described(card, located, model_fingerprint(card, placement, located.sha256, task))


def model_name(task: Task) -> str:
    """Name of a task's registered model: ``models:/modellab-asr@production``."""
    return f"modellab-{task}"


def register(
    lab: Lab, described: Described, evaluation: Evaluation | None, rules: tuple[RuleResult, ...], verdict: str, say: Say
) -> int:
    """Make the MLflow version of a model, or find it.

    Args:
        lab: The project.
        described: The model.
        evaluation: Its evaluation; None of a model that was in production before anybody evaluated it.
        rules: What the gate said of it.
        verdict: The gate's; ``none`` where it said nothing.
        say: Told what is going on.

    Returns:
        The version's number.

    Raises:
        StateError: MLflow cannot be used.
        WeightsError: A weight file is not the verified one.
    """
    client = tracking.connect(lab)
    name = model_name(described.fingerprint.task)
    if (known := find_version(client, name, described.fingerprint.digest)) is not None:
        return int(known.version)
    say(f"Registering {described.card.name} with its weights as a version of {name}")
    _ensure_model(client, name, described.fingerprint.task)
    with tracking.tracked_run(client, lab, EXPERIMENT, described.card.name) as run_id:
        lab.home.root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="version-", dir=lab.home.root))
        try:
            _save(lab, described, evaluation, rules, verdict, scratch)
            client.log_artifacts(run_id, str(scratch / "saved"), ARTIFACT)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        source = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
    client.create_model_version(
        name, source, run_id, tags=_tags(lab, described, evaluation, verdict), description=described.card.summary
    )
    # Of two processes that registered one fingerprint at once, both take the first.
    made = find_version(client, name, described.fingerprint.digest)
    assert made is not None, "it was just made"
    return int(made.version)


def find_version(client: MlflowClient, name: str, fingerprint: str) -> ModelVersion | None:
    """Find the version of a fingerprint, the first if there are several; None if there is none."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{FINGERPRINT}` = '{fingerprint}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _ensure_model(client: MlflowClient, name: str, task: Task) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        try:
            client.create_registered_model(
                name, {f"{TAG}task": task}, f"What modellab knows of {task}: the alias production is what is served."
            )
        except MlflowException:
            client.get_registered_model(name)  # another process made it in between


def _tags(lab: Lab, described: Described, evaluation: Evaluation | None, verdict: str) -> dict[str, str]:
    tags = {
        f"{TAG}model": described.card.name,
        f"{TAG}task": described.fingerprint.task,
        FINGERPRINT: described.fingerprint.digest,
        f"{TAG}weights": weights_digest(described.fingerprint),
        f"{TAG}verdict": verdict,
        f"{TAG}licence": described.card.licence,
        f"{TAG}calibrated": str(map_path(lab.home, described.fingerprint.digest).is_file()).lower(),
    }
    if evaluation is not None:
        tags |= {f"{TAG}evaluations": evaluation.run_id, f"{TAG}data_version": evaluation.data_version}
    return tags


def weights_digest(fingerprint: ModelFingerprint) -> str:
    """The sha256 of the weights' names and digests, as a service tells it."""
    return hashlib.sha256(canonical(fingerprint.weights).encode()).hexdigest()


def _save(
    lab: Lab,
    described: Described,
    evaluation: Evaluation | None,
    rules: tuple[RuleResult, ...],
    verdict: str,
    scratch: Path,
) -> None:
    """Write the MLflow model into ``saved/`` of a scratch folder."""
    import mlflow.pyfunc

    folder = scratch / ARTIFACT
    (folder / "weights").mkdir(parents=True)
    for name, digest in described.located.sha256.items():
        take_verified(described.located.folder / name, folder / "weights" / name, digest)
    told: dict[str, Any] = {
        "card": described.card.model_dump(mode="json"),
        "fingerprint": described.fingerprint.model_dump(mode="json"),
        "digest": described.fingerprint.digest,
        "weights_digest": weights_digest(described.fingerprint),
        "evaluations": [] if evaluation is None else [evaluation.run_id],
        "data_version": None if evaluation is None else evaluation.data_version,
        "decision": {"verdict": verdict, "rules": [rule.model_dump(mode="json") for rule in rules]},
    }
    write_atomically(folder / "version.json", canonical(told))
    write_atomically(folder / "card.yaml", yaml.safe_dump(told["card"], sort_keys=False, allow_unicode=True))
    calibration = map_path(lab.home, described.fingerprint.digest)
    if calibration.is_file():
        shutil.copyfile(calibration, folder / "calibration.json")
    code = scratch / "models"
    shutil.copytree(Path(models.__path__[0]), code, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "cards"))
    mlflow.pyfunc.save_model(
        scratch / "saved",
        python_model=str(Path(__file__).with_name("speech_model.py")),
        artifacts={ARTIFACT: str(folder)},
        code_paths=[str(code)],
        pip_requirements=_requirements(described),
        metadata={"model": described.card.name, "fingerprint": described.fingerprint.digest},
    )


def _requirements(described: Described) -> list[str]:
    packages: Mapping[str, str] = {
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
        **described.fingerprint.versions,
    }
    for name in engine_class(described.card).packages:
        assert name in packages, "a fingerprint has the version of every package of its engine"
    # A local version such as torch's +cpu is on no index.
    return [f"{name}=={version.partition('+')[0]}" for name, version in sorted(packages.items())]


def loadable(lab: Lab, task: Task) -> str:
    """Address of what is in production, for `mlflow.pyfunc.load_model`.

    Raises:
        StateError: MLflow has no such alias.
    """
    from mlflow.exceptions import MlflowException

    client = tracking.connect(lab)
    try:
        client.get_model_version_by_alias(model_name(task), "production")
    except MlflowException as error:
        raise StateError(f"MLflow has no production version of {model_name(task)}.", "Promote one.") from error
    return f"models:/{model_name(task)}@production"
