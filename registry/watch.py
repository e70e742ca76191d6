"""Whom a scheduled run watches, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.card import ModelCard, find_card
from models.errors import CardError
from models.types import Record, Task
from pipelines.home import Home, write_atomically
from pipelines.lab import Lab
from pipelines.prepare import EVALUATED
from pipelines.regression import Regression
from registry.alerts import Alert
from registry.stages import PRODUCTION, production_model, read_state, stage_of

CANDIDATE = "candidate"
ASKED_FOR = "asked for"


class Watched(Record):
    """One model for one task."""

    model: str
    """The card's name."""
    task: Task
    """What it is evaluated for."""
    role: str
    """``production``, ``candidate``, or ``asked for``."""


class Compared(Record):
    """A candidate against production, in a run that compares."""

    candidate: str
    task: Task
    verdict: str
    report: str


class RunSummary(Record):
    """What a run came to; kept as ``schedules/runs/…`` in the home, and the result of its flow."""

    schedule: str
    """The run's name in ``params.yaml``, or ``ad hoc``."""
    began_at: str
    """ISO 8601, UTC."""
    findings: tuple[Regression, ...]
    """One for each model and task."""
    comparisons: tuple[Compared, ...] = ()
    """Candidates against production."""
    alerts: tuple[Alert, ...] = ()
    """What was raised."""

    @property
    def line(self) -> str:
        """The summary in a line."""
        told = [f"{found.model} ({found.role}): {found.verdict}" for found in self.findings]
        told += [f"{one.candidate} against production: {one.verdict}" for one in self.comparisons]
        return "; ".join(told) or "nothing is in production, and nothing is a candidate"


def watched(lab: Lab, names: Sequence[str] = ()) -> list[Watched]:
    """List the models to evaluate: production first, then the candidates of each task.

    Args:
        lab: Its cards and its history.
        names: Only these, whatever their stage; none for production and candidates.

    Raises:
        CardError: A name is unknown, or does nothing that can be evaluated.
    """
    cards, state = lab.cards(), read_state(lab)
    chosen = [find_card(name, cards) for name in names]
    for card in chosen:
        if not set(card.tasks) & set(EVALUATED):
            raise CardError(f"{card.name} does nothing that can be evaluated.", f"That is {' and '.join(EVALUATED)}.")
    found: list[Watched] = []
    for task in EVALUATED:
        production = production_model(task, cards, state)
        roles: dict[str, str] = {
            card.name: CANDIDATE for card in _candidates(task, cards) if stage_of(card, state, task) == CANDIDATE
        }
        if production is not None:
            roles = {production.name: PRODUCTION, **{name: role for name, role in roles.items() if name != production.name}}
        if chosen:
            roles = {card.name: roles.get(card.name, ASKED_FOR) for card in chosen if task in card.tasks}
        found += [Watched(model=name, task=task, role=role) for name, role in roles.items()]
    return found


def _candidates(task: Task, cards: Mapping[str, ModelCard]) -> list[ModelCard]:
    return sorted((card for card in cards.values() if task in card.tasks), key=lambda card: card.name)


def keep_summary(home: Home, summary: RunSummary) -> Path:
    """Write a run's summary into the home."""
    moment = summary.began_at.replace(":", "").replace("+0000", "Z")
    path = home.schedules / "runs" / f"{moment}-{summary.schedule.replace(' ', '-')}.json"
    write_atomically(path, summary.model_dump_json(indent=1))
    return path
