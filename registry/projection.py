"""MLflow's copy of the history: the aliases ``production`` and ``candidate`` of a task's registered model, and stage tags.

An alias points to one version at a time, but cannot be moved on a condition. So it follows the history and never leads it:
whoever opens the lifecycle brings it up to date, also after a process that was killed between the two. A process that holds
`Database.projecting` reads the history after it has got it; an older state can never be written over a newer one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.types import Task
from pipelines import tracking
from pipelines.lab import Lab
from registry.database import EVENTS, PROJECTED
from registry.history import History
from registry.state import TaskState, fold
from registry.versions import FINGERPRINT, STAGE, TAG, model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

MARK = "mlflow"
PRODUCTION, CANDIDATE = "production", "candidate"


def bring_up_to_date(lab: Lab, history: History, *, always: bool = False) -> bool:
    """Make MLflow's aliases and tags what the history says, if an event came since that was last done.

    Args:
        lab: The project.
        history: Its history.
        always: Look, whether or not an event came: somebody may have moved an alias by hand.

    Returns:
        Whether anything was wrong.

    Raises:
        StateError: MLflow or the database cannot be used.
    """
    if not always and _projected(history) == _head(history):
        return False
    with history.database.projecting():
        events = history.events()
        if not events:
            return False
        client = tracking.connect(lab)
        changed = False
        for task, state in fold(events).tasks.items():
            changed |= _project(client, task, state, history)
        history.at("projected")
        _mark(history, events[-1].seq)
    return changed


def _project(client: MlflowClient, task: Task, state: TaskState, history: History) -> bool:
    name = model_name(task)
    versions = {
        version.tags[FINGERPRINT]: version
        for version in sorted(client.search_model_versions(f"name = '{name}'"), key=lambda found: -int(found.version))
        if FINGERPRINT in version.tags
    }
    if not versions:
        return False
    changed = False
    for fingerprint, stage in state.stages.items():
        version = versions.get(fingerprint)
        if version is not None and version.tags.get(STAGE) != stage:
            client.set_model_version_tag(name, version.version, STAGE, stage)
            history.at("tagged")
            changed = True
    candidates = [fingerprint for fingerprint in state.models if state.stages[fingerprint] == CANDIDATE]
    wanted = {
        PRODUCTION: state.production.version if state.production else None,
        CANDIDATE: candidates[-1] if candidates else None,
    }
    aliases = client.get_registered_model(name).aliases
    for alias, wanted_fingerprint in wanted.items():
        version = versions.get(wanted_fingerprint or "")
        if version is not None and str(aliases.get(alias, "")) != str(version.version):
            client.set_registered_model_alias(name, alias, version.version)
            history.at(f"alias {alias}")
            changed = True
        if version is None and alias in aliases:
            client.delete_registered_model_alias(name, alias)
            changed = True
    return changed


def tag_version(lab: Lab, task: Task, fingerprint: str, tags: dict[str, Any]) -> None:
    """Add what was found out about a version after it was registered; see `registry.versions` for the names.

    Raises:
        StateError: MLflow cannot be used.
    """
    from registry.versions import find_version

    client = tracking.connect(lab)
    version = find_version(client, model_name(task), fingerprint)
    if version is not None:
        for key, value in tags.items():
            client.set_model_version_tag(version.name, version.version, f"{TAG}{key}", str(value))


def _head(history: History) -> int:
    return _number(history, EVENTS, f"SELECT MAX(seq) FROM {EVENTS}")  # noqa: S608


def _projected(history: History) -> int:
    return _number(history, PROJECTED, f"SELECT seq FROM {PROJECTED} WHERE name = '{MARK}'")  # noqa: S608


def _number(history: History, table: str, query: str) -> int:
    if not history.database.exists:
        return 0
    with history.database.reading() as connection:
        if not history.database.has_table(connection, table):
            return 0
        return int(connection.exec_driver_sql(query).scalar() or 0)


def _mark(history: History, seq: int) -> None:
    from sqlalchemy import text

    with history.database.writing() as connection:
        connection.exec_driver_sql(f"DELETE FROM {PROJECTED} WHERE name = '{MARK}'")  # noqa: S608
        connection.execute(text(f"INSERT INTO {PROJECTED} (name, seq) VALUES ('{MARK}', :seq)"), {"seq": seq})  # noqa: S608
