"""`modellab corpus validate`: hold a corpus to the suites of expectations."""

from __future__ import annotations

from typing import Annotated

import typer

from modellab.commands.common import Json, open_lab, with_progress
from modellab.console import out, print_json
from pipelines.validate.result import Validation

EXIT_INVALID = 1


def validate(
    name: Annotated[str, typer.Argument(help="A corpus by name or path.")],
    json_: Json = False,
) -> None:
    """Check a corpus: manifest, recordings, texts, licences, duplicates. Exits with 1 if an error is found."""
    _, lab = open_lab()
    from pipelines.validate.check import validate_corpus

    with with_progress():
        validation = validate_corpus(lab, name)
    if json_:
        print_json(validation)
    else:
        print_validation(validation)
    if not validation.valid:
        raise typer.Exit(EXIT_INVALID)


def print_validation(validation: Validation) -> None:
    """Print what was found, errors first."""
    for result in validation.failed:
        colour = "red" if result.severity == "error" else "yellow"
        out.print(f"[bold {colour}]{result.severity:<8}[/]", end=" ")
        out.print(result.sentence, markup=False)
    out.print(
        f"[bold]{validation.corpus}[/]: {validation.verdict}; {validation.utterances} lines, {validation.minutes:.1f} min, "
        f"{validation.speakers} speakers; {validation.measured} recordings read, {validation.reused} unchanged"
    )
    out.print(f"page: {validation.page}", markup=False, style="dim")
