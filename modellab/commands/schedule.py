"""`modellab schedule`: serve the scheduled regression runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer
from filelock import FileLock, Timeout

from modellab import servers
from modellab.commands.common import Json, open_lab
from modellab.console import TerminalProgress, err, out, print_json
from modellab.servers import use_running_prefect
from models.errors import StateError
from models.types import Record


class Planned(Record):
    """One scheduled run, as ``--list`` shows it."""

    name: str
    cron: str
    timezone: str
    next_at: str
    """ISO 8601, in the schedule's time zone."""
    due: bool
    """Whether a moment of it was missed, which the next start catches up."""
    finished_at: str | None
    outcome: str


def schedule(
    list_: Annotated[bool, typer.Option("--list", help="Only show what runs when and how the last runs ended.")] = False,
    json_: Json = False,
) -> None:
    """Serve the scheduled deployments until interrupted: regression of production and candidates.

    Starts the local Prefect server if none runs.
    """
    # Runs tell in Prefect's interface what they do; other commands keep Prefect silent.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    settings, lab = open_lab()
    from pipelines.schedule import due_slot, next_slot, read_record, read_schedule
    from registry.alerts import webhook_address

    params = read_schedule(lab.params)
    now = datetime.now(UTC)
    planned = []
    for name, run in params.runs.items():
        record = read_record(lab.home, name)
        planned.append(
            Planned(
                name=name,
                cron=run.cron,
                timezone=params.timezone,
                next_at=next_slot(run.cron, params.timezone, now).isoformat(timespec="minutes"),
                due=due_slot(run.cron, params.timezone, record, now) is not None,
                finished_at=record.finished_at.isoformat(timespec="seconds") if record and record.finished_at else None,
                outcome=record.outcome if record else "",
            )
        )
    if json_:
        print_json(planned)
    else:
        for row in planned:
            last = f"last {row.finished_at}: {row.outcome}" if row.finished_at else "never ran"
            out.print(f"{row.name}: {row.cron} ({row.timezone}), next {row.next_at}; {last}", markup=False)
    if list_:
        return
    alerts_go_to = "its webhook" if webhook_address() else "the log: MODELLAB_ALERT_WEBHOOK is not set"
    lab.home.schedules.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lab.home.schedules / ".serving", timeout=0):
            use_running_prefect(lab.home)
            if "PREFECT_API_URL" not in os.environ:
                wanted = servers.specs(lab.home, settings.prefect_port, settings.mlflow_port)[:1]
                servers.start(lab.home, wanted, TerminalProgress().say)
                use_running_prefect(lab.home)
            err.print(f"Serving at {ui_address(os.environ)}; alerts go to {alerts_go_to}. Ctrl-C ends it.", markup=False)
            from flows.schedule import serve

            serve(lab, params)
    except Timeout as error:
        raise StateError(
            f"Another process serves the schedules of {lab.home.root} already.", "Stop it first, or leave it be."
        ) from error


def ui_address(environment: Mapping[str, str]) -> str:
    """Where Prefect's interface is."""
    return environment["PREFECT_API_URL"].removesuffix("/").removesuffix("/api")
