"""`modellab corpus degrade`: the same recordings through noise, rooms, telephones and codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from modellab.commands.common import Json, open_lab
from modellab.console import TerminalProgress, out, print_json
from pipelines.progress import listener


def degrade(
    name: Annotated[str, typer.Argument(help="A corpus by name or path.")],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="One of degrade.variants in params.yaml; repeat. Default: all.")
    ] = None,
    noise: Annotated[Path | None, typer.Option("--noise", help="Your own noises: a folder, or one file.")] = None,
    rooms: Annotated[Path | None, typer.Option("--rooms", help="Your own impulse responses: a folder, or one file.")] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where the new corpora go. Default: results/corpora.")
    ] = None,
    json_: Json = False,
) -> None:
    """Make degraded variants of a corpus, each a corpus of its own that pairs with it, recording by recording."""
    _, lab = open_lab()
    from pipelines.degrade.order import degrade_corpus

    token = listener.set(TerminalProgress())
    try:
        reports = degrade_corpus(lab, name, tuple(variant or ()), noise=noise, rooms=rooms, into=out_folder)
    finally:
        listener.reset(token)
    if json_:
        print_json(reports)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("corpus", "recordings", "made now", "minutes", "with clipping"):
        table.add_column(heading, justify="left" if heading == "corpus" else "right")
    for row in reports:
        table.add_row(row.corpus, str(row.recordings), str(row.made), f"{row.minutes:.1f}", str(row.clipped or ""))
    out.print(table)
    first = reports[0]
    where = first.corpus if out_folder is None else first.folder
    out.print(f"Next: modellab evaluate MODEL --corpus {name} --corpus {where}", markup=False, style="dim")
