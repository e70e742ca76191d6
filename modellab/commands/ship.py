"""The end of `modellab demo`: what won is packaged, served for one request, and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modellab.commands.serve import print_parity, store_of
from modellab.console import TerminalProgress, err, out
from models.errors import LabError
from models.types import Task
from pipelines.decision import Comparison
from pipelines.lab import Lab

if TYPE_CHECKING:
    from serving.ship import Shipped


def winner_of(comparison: Comparison) -> str:
    """Name the model to ship: the candidate if it passed; else what it was compared with stays."""
    return comparison.candidate if comparison.verdict == "pass" else comparison.baseline


def ship_winner(lab: Lab, comparison: Comparison) -> Shipped:
    """Package and serve what won.

    Raises:
        LabError: It cannot be built, or does not start.
    """
    from serving.ship import ship

    return ship(lab, store_of(lab), winner_of(comparison), TerminalProgress().say)


def production_of(lab: Lab, task: Task) -> str | None:
    """Name the model in production; None where there is none, or it has no card here."""
    from registry.stages import production_model, read_state

    try:
        card = production_model(task, lab.cards(), read_state(lab))
    except LabError:
        return None
    return card.name if card else None


def show_winner(comparison: Comparison, production: str | None) -> None:
    """Say which model is shipped, and why.

    Args:
        comparison: What was compared.
        production: The model in production for its task.
    """
    out.print()
    if comparison.verdict == "pass":
        out.print(f"{comparison.candidate} passed, so it is the one to package.", markup=False)
        return
    because = "failed" if comparison.verdict == "fail" else "did not pass (inconclusive is no pass)"
    stays = "stays in production" if comparison.baseline == production else "stays"
    out.print(f"{comparison.candidate} {because}: {comparison.baseline} {stays}, and is the one to package.", markup=False)


def show_shipped(shipped: Shipped) -> None:
    """Print what came of it, and how to serve it for real."""
    if shipped.parity is not None:
        print_parity(shipped.parity)
    if shipped.reused:
        out.print(f"package: {shipped.tag}, which passed its parity check when it was made", markup=False)
    elif shipped.request is not None:
        out.print(f"package: {shipped.tag}", markup=False)
    request = shipped.request
    if request is None:
        err.print("[bold red]Not packaged:[/] the Bento does not answer as it was tested, and was deleted.")
        return
    told = "as it was tested" if request.different is None else f"expected {request.different.expected!r}"
    answer = f"{request.id} in {request.seconds:.1f} s: {request.answer!r}, {told}"
    out.print(f"one request through the OpenAI client: {answer}", markup=False)
    out.print(f"The service was stopped. To serve it for real: {shipped.command}", markup=False)
