"""What `modellab registry list` shows."""

from __future__ import annotations

from models.card import Stage
from models.types import Record, Task
from pipelines.lab import Lab
from registry.history import History
from registry.stages import MANAGED, PRODUCTION, production_model
from registry.state import fold


class VersionRow(Record):
    """One version."""

    task: Task
    model: str
    version: str
    """Fingerprint; empty of a model whose card alone says that it is in production."""
    stage: Stage
    since: str
    """When it came there, ISO 8601, UTC; empty as above."""
    by: str
    """Who brought it there."""


def list_rows(lab: Lab, history: History) -> list[VersionRow]:
    """List every version that has a stage, production first, then the newest."""
    events = history.events()
    state = fold(events)
    rows: list[VersionRow] = []
    for task, task_state in state.tasks.items():
        for version, stage in task_state.stages.items():
            moved = next(
                event
                for event in reversed(events)
                if event.task == task
                and event.to_stage
                and (event.version == version or (event.details.get("replaces") or {}).get("version") == version)
            )
            rows.append(
                VersionRow(
                    task=task,
                    model=task_state.models[version],
                    version=version,
                    stage=stage,
                    since=moved.at,
                    by=moved.actor,
                )
            )
    for task in MANAGED:
        if state.of(task).production is None and (card := production_model(task, lab.cards(), state)) is not None:
            rows.append(VersionRow(task=task, model=card.name, version="", stage=PRODUCTION, since="", by="its card"))
    rows.sort(key=lambda row: row.since, reverse=True)
    return sorted(rows, key=lambda row: (row.task, row.stage != PRODUCTION))
