"""`modellab registry`: what is where, what happened, and the way back."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer
from rich.table import Table

from modellab.commands.approvals import By, Reason
from modellab.commands.common import Json, TaskName, open_lab
from modellab.commands.evaluation import task_named
from modellab.console import TerminalProgress, err, out, print_json
from models.errors import StateError
from models.types import Task

app = typer.Typer(help="Stages, their history, and rollback.", no_args_is_help=True)

EXIT_ALTERED = 1


@app.command("list")
def list_versions(json_: Json = False) -> None:
    """List every version that has a stage, and what is in production."""
    _, lab = open_lab()
    from registry.history import open_history
    from registry.listing import list_rows
    from registry.projection import bring_up_to_date

    history = open_history(lab)
    bring_up_to_date(lab, history)
    rows = list_rows(lab, history)
    if json_:
        print_json([row.model_dump(mode="json") for row in rows])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("task", "stage", "model", "version", "since", "by"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row.task, row.stage, row.model, row.version[:12], row.since[:16].replace("T", " "), row.by)
    out.print(table)


@app.command("history")
def show_history(
    model: Annotated[str | None, typer.Argument(help="Only events of this model.")] = None,
    task: TaskName = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Only what had happened by this date (UTC).")] = None,
    json_: Json = False,
) -> None:
    """Print every event: who, when, what, from, to, why. Exits with 1 if the history was altered."""
    _, lab = open_lab()
    from registry.events import faults
    from registry.history import as_of as until
    from registry.history import open_history
    from registry.state import fold

    everything = open_history(lab).events()
    found, wanted = faults(everything), task_named(task)
    known = until(everything, as_of)
    shown = [e for e in known if (model is None or e.model == model) and (wanted is None or e.task == wanted)]
    production = {
        name: {**state.production.model_dump(), "since": state.since.at, "event": state.since.seq}
        for name, state in fold(known).tasks.items()
        if state.production is not None and state.since is not None and (wanted is None or name == wanted)
    }
    if json_:
        print_json(
            {
                "events": [event.model_dump(mode="json") for event in shown],
                "production": production,
                "faults": [fault.model_dump() for fault in found],
            }
        )
    else:
        for event in shown:
            moved = f" {event.from_stage or 'new'} → {event.to_stage}" if event.to_stage else ""
            why = f": {event.reason}" if event.reason else ""
            what = f"{event.model} {event.version[:12]}".strip()
            who = f"{event.actor} ({event.origin})"
            out.print(
                f"{event.seq:>4}  {event.at[:19]}Z  {event.task}  {event.kind}  {what}{moved}  by {who}{why}", markup=False
            )
        when = f" as of {as_of}" if as_of else ""
        for name, row in production.items():
            out.print(f"production for {name}{when}: {row['model']} ({str(row['version'])[:12]})", markup=False)
        if not everything:
            out.print("Nothing has happened yet; what a card says of its stage stands.")
    _report_faults([f"event {fault.seq}: {fault.fault}" for fault in found])


@app.command("rollback")
def rollback(
    task: Annotated[str, typer.Argument(help="asr or tts.")], reason: Reason, by: By = None, json_: Json = False
) -> None:
    """Return to the last production version, after its parity check. Needs nobody's approval."""
    _, lab = open_lab()
    from registry.history import open_history
    from registry.identity import identify, read_rules
    from serving.release import BentoSteps, roll_back

    wanted = _task(task)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the service that is asked for parity ends with us
    actor, steps = identify(by, os.environ), BentoSteps(lab, TerminalProgress().say)
    done = roll_back(lab, open_history(lab), wanted, actor, reason, read_rules(lab.params), steps)
    if json_:
        print_json(done)
        return
    if done.already:
        out.print("You did this before, for the same reason; to go back further, give another one.")
    out.print(f"{done.production} is in production for {done.task} again, in place of {done.replaced}.", markup=False)


@app.command("verify")
def verify(
    head: Annotated[str | None, typer.Option("--head", help="NUMBER:DIGEST as noted earlier; must still be so.")] = None,
    json_: Json = False,
) -> None:
    """Say whether the history is as it was written, and MLflow's aliases as the history says.

    Prints the head: note it elsewhere, and give it by --head to prove that nobody wrote the history anew. Exits with 1 if
    anything was altered; aliases that were moved are put right.
    """
    _, lab = open_lab()
    from registry.events import faults
    from registry.history import open_history
    from registry.projection import bring_up_to_date

    history = open_history(lab)
    events = history.events()
    found = faults(events, _head(head) if head else None)
    repaired = bring_up_to_date(lab, history, always=True) if events and not found else False
    now = f"{events[-1].seq}:{events[-1].hash}" if events else ""
    if json_:
        print_json(
            {"events": len(events), "head": now, "faults": [f.model_dump() for f in found], "aliases_repaired": repaired}
        )
    else:
        out.print(f"{len(events)} events, {'altered' if found else 'none altered'}. head: {now or 'none'}", markup=False)
        if repaired:
            out.print("MLflow's aliases or tags were not what the history says; they are now.")
    _report_faults([f"event {fault.seq}: {fault.fault}" for fault in found])


def _head(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) < 8:
        raise StateError(f"{text!r} is no head.", "Give NUMBER:DIGEST, as `modellab registry verify` printed it.")
    return int(number), digest


def _report_faults(lines: list[str]) -> None:
    for line in lines:
        err.print(f"[bold red]altered[/] {line}")
    if lines:
        raise typer.Exit(EXIT_ALTERED)


def _task(name: str) -> Task:
    found = task_named(name)
    assert found is not None, "a name was given"
    return found
