"""`modellab models`: the support matrix, one card, and its weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from modellab.commands.common import Json, open_lab
from modellab.console import TerminalProgress, out, print_json
from models.card import ModelCard, find_card
from models.types import Record
from pipelines.lab import Lab

if TYPE_CHECKING:
    from registry.state import State

app = typer.Typer(help="The support matrix: models, their stages and their weights.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(help="A model's name; see `modellab models list`.")]


class MatrixRow(Record):
    """One line of the support matrix."""

    model: str
    engine: str
    """Adapter module, without its package."""
    environment: str | None
    """Python environment that the engine lives in; None for the lab's own."""
    tasks: tuple[str, ...]
    languages: tuple[str, ...]
    compute_types: dict[str, str]
    """Device → number format."""
    stage: str
    weights_present: bool
    usable: bool
    """Whether the engine's library is installed, the weights are here, and what the card asks for is set."""
    state: Literal["usable", "no library", "no weights", "not set up"]
    """What is wanted first."""
    note: str
    """Where the weights came from, or the one command that makes the model usable."""


@app.command("list")
def list_models(json_: Json = False) -> None:
    """List every model with its engine, tasks, stage, and whether its weights are here."""
    _, lab = open_lab()
    from registry.stages import read_state

    cards, state = lab.cards(), read_state(lab)
    rows = [matrix_row(card, cards, lab, state) for card in cards.values()]
    if json_:
        print_json(rows)
        return
    words = {"engine": [row.engine.replace("_", " ") for row in rows], "tasks": [", ".join(row.tasks) for row in rows]}
    narrowest = {
        heading: max((len(word) for text in texts for word in text.split()), default=0) for heading, texts in words.items()
    }
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("model", "engine", "tasks", "stage", "state"):
        # Where the terminal is narrow, engines and tasks go on in a second line, and no word is broken.
        least = narrowest.get(heading)
        table.add_column(heading, min_width=least, no_wrap=least is None)
    for row in rows:
        table.add_row(
            row.model,
            row.engine.replace("_", " "),
            ", ".join(row.tasks),
            row.stage,
            f"[{'green' if row.usable else 'yellow'}]{row.state}[/]",
        )
    out.print(table)
    for row in rows:
        if not row.usable:
            out.print(f"[yellow]{row.model}[/]: {escape(row.note)}", soft_wrap=True)  # a command is copied whole


def matrix_row(card: ModelCard, cards: Mapping[str, ModelCard], lab: Lab, state: State) -> MatrixRow:
    """Say what can be known of a model without loading it."""
    from models.engine import how_to_complete
    from models.weights import status
    from registry.stages import stage_of

    weights = status(card, cards, lab.home.weights)
    unset = unset_variables(card)
    install = how_to_complete(card)
    note = weights.note
    if install:
        note = install if weights.present else f"{install} && modellab models fetch {card.name}"
    elif unset and weights.present:
        note = f"export {' '.join(f'{name}=...' for name in unset)}"
    return MatrixRow(
        model=card.name,
        engine=card.engine.partition(":")[0].rpartition(".")[2],
        environment=card.environment,
        tasks=card.tasks,
        languages=card.languages,
        compute_types={device: defaults.compute_type for device, defaults in card.devices.items()},
        stage=stage_of(card, state),
        weights_present=weights.present,
        usable=weights.present and not install and not unset,
        state="no library" if install else "no weights" if not weights.present else "not set up" if unset else "usable",
        note=note,
    )


def unset_variables(card: ModelCard) -> list[str]:
    """Name the environment variables that the card's arguments ask for and that are not set, such as a server's address."""
    texts = [value for value in card.args.values() if isinstance(value, str)]
    asked = dict.fromkeys(name for text in texts for name in re.findall(r"\$\{(\w+)\}", text))
    return [name for name in asked if not os.environ.get(name)]


@app.command("show")
def show(model: Model, json_: Json = False) -> None:
    """Show a model's card, and where its weights are."""
    _, lab = open_lab()
    cards = lab.cards()
    card = find_card(model, cards)
    from registry.stages import read_state

    row = matrix_row(card, cards, lab, read_state(lab))
    if json_:
        print_json({"card": card, "matrix": row})
        return
    import yaml

    out.print(yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True), markup=False)
    out.print(f"weights: {'here' if row.weights_present else 'missing'} ({row.note})", markup=False)


@app.command("fetch")
def fetch_weights(model: Model, json_: Json = False) -> None:
    """Fetch a model's weights from the first source that has them, and check every file."""
    _, lab = open_lab()
    from models.weights import fetch
    from pipelines.tracking import download_artifacts

    cards = lab.cards()
    located = fetch(
        find_card(model, cards), cards, lab.home.weights, TerminalProgress().say, partial(download_artifacts, lab)
    )
    if json_:
        print_json({"model": model, "folder": str(located.folder), "sha256": located.sha256})
        return
    where = f"{len(located.sha256)} files checked, in {located.folder}" if located.sha256 else "needs no weights"
    out.print(f"{model}: {where}", markup=False)
