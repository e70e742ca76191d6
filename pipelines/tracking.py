"""Logging to MLflow: one run an evaluation or a comparison, with everything needed to trust it later.

The only step that imports ``mlflow``; it works on the SQLite file in the home as well as against a server.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from models.collector import collector_paused
from models.errors import StateError
from pipelines.decision import Comparison
from pipelines.lab import Lab
from pipelines.transcribe import Item
from pipelines.types import Evaluation, MetricResult

if TYPE_CHECKING:
    from mlflow import MlflowClient

EVALUATIONS = "modellab-evaluations"
COMPARISONS = "modellab-comparisons"
DIGEST_CHARACTERS = 36
"""MLflow's limit for the digest of a dataset."""
PARAM_CHARACTERS = 500
_UNFINISHED = ".mlflow-"
"""Begins the names of folders in which a database is being made."""


def preload(lab: Lab) -> None:
    """Import MLflow and make its tables; call it in a thread while workers infer, for it takes seconds.

    Raises:
        StateError: The store cannot be opened.
    """
    connect(lab)


def connect(lab: Lab) -> MlflowClient:
    """Open the tracking store.

    Raises:
        StateError: It cannot be reached or opened.
    """
    with collector_paused():
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

    try:
        make_database(lab)
        with collector_paused():  # the client of a database imports as much again
            client = MlflowClient(tracking_uri=lab.tracking_uri)
            client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise StateError(
            f"MLflow's store {lab.tracking_uri} cannot be used ({str(error).splitlines()[0]}).",
            "Check MODELLAB_MLFLOW_URI and the home's rights.",
        ) from error
    return client


def make_database(lab: Lab) -> None:
    """Make MLflow's SQLite file in the home, whole or not at all; does nothing where there is one, or another store.

    MLflow makes its tables and migrates them in many steps, and refuses for ever what a process left that was killed in
    between. So it does that beside the place, under a lock that ends with the process.

    Raises:
        OSError: The home cannot be written.
        MlflowException: MLflow cannot make it.
    """
    target = lab.home.mlflow_database
    if lab.mlflow_uri is not None or target.exists():
        return
    with FileLock(lab.home.root / f".{target.name}.lock"), collector_paused():
        for left in lab.home.root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        if target.exists():
            return
        from mlflow import MlflowClient

        with tempfile.TemporaryDirectory(dir=lab.home.root, prefix=_UNFINISHED) as folder:
            path = Path(folder) / target.name
            MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
            path.replace(target)


def download_artifacts(lab: Lab, uri: str, into: Path) -> Path:
    """Download what ``models:/NAME/VERSION``, ``runs:/RUN/PATH`` or an artifact's URI names; see `models.sources.mlflow`.

    Args:
        lab: Whose tracking store has it.
        uri: As above.
        into: A folder for the files.

    Returns:
        Where they lie in it.

    Raises:
        StateError: The store cannot be used, or has no such artifacts.
    """
    connect(lab)  # says which store it is, where there is none
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    # The library asks for a model's version where this points to, whatever it is told by argument.
    mlflow.set_tracking_uri(lab.tracking_uri)
    try:
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(into)))
    except (MlflowException, OSError) as error:
        raise StateError(f"MLflow has no {uri} ({str(error).splitlines()[0]}).", "Check the card's source.") from error


@contextmanager
def tracked_run(client: MlflowClient, lab: Lab, experiment: str, name: str) -> Iterator[str]:
    """Open a run and give its id; it ends as finished, or as failed when the block raises."""
    run = client.create_run(_experiment(client, lab, experiment), run_name=name)
    try:
        yield run.info.run_id
    except BaseException:
        client.set_terminated(run.info.run_id, status="FAILED")
        raise
    client.set_terminated(run.info.run_id, status="FINISHED")


def _experiment(client: MlflowClient, lab: Lab, name: str) -> str:
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    # A server has its own place for artifacts; beside a bare database they would go into the working folder.
    server = (lab.mlflow_uri or "").startswith(("http:", "https:"))
    location = None if server else (lab.home.mlflow_artifacts / name).as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        # Another process made it in between.
        known = client.get_experiment_by_name(name)
        if known is None:
            raise
        return str(known.experiment_id)


def log_evaluation(client: MlflowClient, evaluation: Evaluation, items: Sequence[Item]) -> None:
    """Log one evaluation into its run: parameters, metrics, tags, and the corpora as inputs."""
    tags = {
        "modellab.kind": "evaluation",
        "modellab.model": evaluation.model,
        "modellab.data_version": evaluation.data_version,
        "modellab.fingerprint": evaluation.fingerprint.digest,
        "modellab.model_fingerprint": evaluation.fingerprint.model,
        **{_metric_key(f"modellab.validation.{corpus}"): found for corpus, found in evaluation.validations.items()},
        **{f"modellab.{key}": value for key, value in evaluation.environment.items()},
    }
    if "git_commit" in evaluation.environment:
        tags["mlflow.source.git.commit"] = evaluation.environment["git_commit"]
    params: dict[str, Any] = {
        "model": evaluation.model,
        "task": evaluation.task,
        "corpora": ",".join(evaluation.corpora),
        "workers": evaluation.timings.workers,
        "threads": evaluation.timings.threads,
        **{f"selection.{key}": value for key, value in evaluation.selection.items()},
        **{f"model.{key}": value for key, value in _flat(evaluation.model_fingerprint)},
        **{f"normalizer.{key}": value for key, value in evaluation.fingerprint.normalizers.items()},
    }
    metrics = _metric_values(evaluation.metrics)
    for name, per_slice in evaluation.slices.items():
        metrics |= _metric_values(per_slice, f"{name.replace('=', '.')}/")
    for loss in evaluation.losses:
        for suffix, number in (("", loss.delta), ("/ci_low", loss.ci_low), ("/ci_high", loss.ci_high)):
            if number is not None:
                metrics[_metric_key(f"loss/{loss.variant}/{loss.metric}{suffix}")] = number
    _log_batch(client, evaluation.run_id, metrics, params, tags)
    _log_inputs(client, evaluation, items)


def log_comparison(client: MlflowClient, comparison: Comparison, folder: Path) -> None:
    """Log one comparison into its run: the verdict and each rule's numbers."""
    tags = {
        "modellab.kind": "comparison",
        "modellab.verdict": comparison.verdict,
        "modellab.candidate": comparison.candidate,
        "modellab.baseline": comparison.baseline,
        "modellab.data_version": comparison.data_version,
        "modellab.policy": comparison.policy_digest,
        **{f"modellab.evaluation.{side}": run for side, run in comparison.evaluations.items()},
    }
    params: dict[str, Any] = {"candidate": comparison.candidate, "baseline": comparison.baseline}
    metrics: dict[str, float] = {}
    for rule in comparison.rules:
        key = _metric_key(f"{rule.rule}/{rule.slice.replace('=', '.')}")
        for part in ("candidate", "baseline", "delta", "ci_low", "ci_high"):
            value = getattr(rule, part)
            if value is not None:
                metrics[f"{key}/{part}"] = value
    _log_batch(client, comparison.run_id, metrics, params, tags)
    client.log_artifacts(comparison.run_id, str(folder))


def _metric_values(metrics: Mapping[str, MetricResult], prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for name, result in metrics.items():
        for suffix, value in (("", result.value), ("/ci_low", result.ci_low), ("/ci_high", result.ci_high)):
            if value is not None:
                out[_metric_key(f"{prefix}{name}{suffix}")] = value
    return out


def _metric_key(text: str) -> str:
    """MLflow takes letters, digits and ``_-. /:`` in the name of a metric or a tag."""
    return "".join(char if char.isalnum() or char in "_-. /:" else "_" for char in text)


def _log_batch(
    client: MlflowClient, run_id: str, metrics: dict[str, float], params: dict[str, Any], tags: dict[str, str]
) -> None:
    import time

    from mlflow.entities import Metric, Param, RunTag

    now_ms = int(time.time() * 1000)
    rows = [Metric(key, value, now_ms, 0) for key, value in metrics.items()]
    # MLflow takes at most 1000 metrics and 100 parameters or tags in one request.
    for start in range(0, max(1, len(rows)), 900):
        client.log_batch(run_id, metrics=rows[start : start + 900])
    client.log_batch(run_id, params=[Param(key, str(value)[:PARAM_CHARACTERS]) for key, value in params.items()])
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _log_inputs(client: MlflowClient, evaluation: Evaluation, items: Sequence[Item]) -> None:
    """Name the corpora as the run's inputs: what they hold is told by their digest, DVC's version and git's commit."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for corpus, digest in evaluation.fingerprint.corpora.items():
        rows = [item for item in items if item.corpus == corpus]
        where = {"path": f"data/{corpus}", "dvc": evaluation.data_version}
        where["mlflow.source.git.commit"] = evaluation.environment.get("git_commit", "")
        profile = {"utterances": len(rows), "audio_s": sum(item.utterance.duration for item in rows)}
        dataset = Dataset(
            name=corpus,
            digest=digest[:DIGEST_CHARACTERS],
            source_type="code",
            source=json.dumps({"tags": where}),
            profile=json.dumps(profile),
        )
        tags = [InputTag("mlflow.data.context", "evaluation"), InputTag("dvc", evaluation.data_version)]
        inputs.append(DatasetInput(dataset, tags))
    client.log_inputs(evaluation.run_id, datasets=inputs)


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
