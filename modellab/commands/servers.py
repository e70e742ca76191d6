"""`modellab up`, `down` and `status`."""

from __future__ import annotations

from collections.abc import Sequence

from modellab import servers
from modellab.commands.common import Json, open_lab
from modellab.console import TerminalProgress, out, print_json
from modellab.servers import ServerStatus


def up(json_: Json = False) -> None:
    """Start local Prefect and MLflow servers with their pages, and what lets evaluations start at once."""
    settings, lab = open_lab()
    if not lab.home.mlflow_database.exists():
        from pipelines.tracking import connect

        connect(lab)  # makes the database whole; the server would leave half of it if it were killed now
    wanted = servers.specs(lab.home, settings.prefect_port, settings.mlflow_port)
    show(servers.start(lab.home, wanted, TerminalProgress().say), json_)


def down(json_: Json = False) -> None:
    """Stop the servers that `up` started."""
    _, lab = open_lab()
    stopped = servers.stop(lab.home)
    if json_:
        print_json({"stopped": stopped})
    else:
        out.print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


def status(json_: Json = False) -> None:
    """Say which servers run, and where."""
    _, lab = open_lab()
    show(servers.status(lab.home), json_)


def show(rows: Sequence[ServerStatus], as_json: bool) -> None:
    """Print the servers' status."""
    if as_json:
        print_json(list(rows))
        return
    for row in rows:
        where = f" at {row.url}" if row.url else ""
        state = f"[green]running[/]{where} (process {row.pid})" if row.running else "[dim]not running[/]"
        out.print(f"{row.name:8} {state}")
