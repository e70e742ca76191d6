"""The command line: `modellab --help`.

Exit codes: 0 pass, 1 fail, 3 inconclusive, 2 usage or configuration error. Commands import what they need when they run,
so that help answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from modellab import console
from modellab.commands import (
    approvals,
    corpora,
    corpus_changes,
    degrade,
    evaluation,
    keys,
    lifecycle,
    matrix,
    schedule,
    serve,
    servers,
    validation,
)
from modellab.commands.common import EXIT_INTERRUPTED, INTERRUPTED
from models.errors import LabError

EXIT_USAGE = 2
DEBUG_FLAG = "--debug"

app = typer.Typer(
    name="modellab",
    help="Decides, with evidence, whether a speech model may replace the one in production.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(evaluation.demo)
app.command("evaluate")(evaluation.evaluate)
app.command("compare")(evaluation.compare)
app.command("report")(evaluation.report)
app.command("package")(serve.package)
app.command("serve")(serve.serve)
app.command("parity")(serve.parity)
app.command("promote")(approvals.promote)
app.command("approve")(approvals.approve)
app.command("reject")(approvals.reject)
app.command("schedule")(schedule.schedule)
app.command("up")(servers.up)
app.command("down")(servers.down)
app.command("status")(servers.status)
corpora.app.command("add")(corpus_changes.add)
corpora.app.command("validate")(validation.validate)
corpora.app.command("push")(corpus_changes.push)
corpora.app.command("pull")(corpus_changes.pull)
corpora.app.command("degrade")(degrade.degrade)
app.add_typer(matrix.app, name="models")
app.add_typer(corpora.app, name="corpus")
app.add_typer(approvals.app, name="approvals")
app.add_typer(lifecycle.app, name="registry")
app.add_typer(keys.app, name="keys")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(DEBUG_FLAG, help="Show the traceback of an error.")] = False,
) -> None:
    """Take the options of every command; ``--debug`` is read by `main`, wherever it stands."""


class UnforeseenError(LabError):
    """An error that nobody worded."""

    def __init__(self, error: Exception) -> None:
        """Take what was raised."""
        remedy = "This was not foreseen; run the command again with --debug for the traceback."
        super().__init__(f"{type(error).__name__}: {str(error).rstrip('.')}.", remedy)


def main() -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:]
    if DEBUG_FLAG in arguments:
        os.environ["MODELLAB_DEBUG"] = "1"
    debug = os.environ.get("MODELLAB_DEBUG", "") not in ("", "0")
    try:
        code = app(args=[a for a in arguments if a != DEBUG_FLAG], prog_name=app.info.name, standalone_mode=False)
    except LabError as error:
        if debug:
            raise
        report_error(error, as_json="--json" in arguments)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except typer.Exit as stop:
        code = stop.exit_code
    except Exception as error:
        code = usage_error(error)
        if code is None:
            if debug:
                raise
            report_error(UnforeseenError(error), as_json="--json" in arguments)
            code = EXIT_USAGE
    if code == EXIT_INTERRUPTED:
        console.err.print(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def report_error(error: LabError, *, as_json: bool) -> None:
    """Print an error: one sentence with its remedy, and a JSON object on standard output if that was asked for."""
    if as_json:
        console.print_json({"error": {"kind": type(error).__name__, "message": error.message, "remedy": error.remedy}})
    console.err.print("[bold red]Error:[/]", end=" ")
    console.err.print(str(error), markup=False)


def usage_error(error: Exception) -> int | None:
    """Let Typer's own usage errors print themselves; None for any other error."""
    show = getattr(error, "show", None)
    if show is None or not hasattr(error, "exit_code"):
        return None
    show()
    return EXIT_USAGE
