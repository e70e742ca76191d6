"""Which stage a model is in, and which one is in production."""

from __future__ import annotations

from collections.abc import Mapping

from models.card import ModelCard, Stage
from models.errors import CardError
from models.types import Task

PRODUCTION = "production"


def stage_of(card: ModelCard) -> Stage:
    """Stage of a model: the one its card starts it in."""
    return card.stage


def production_model(task: Task, cards: Mapping[str, ModelCard]) -> ModelCard | None:
    """The model in production for a task, None if there is none.

    Raises:
        CardError: More than one claims to be.
    """
    found = [card for card in cards.values() if task in card.tasks and stage_of(card) == PRODUCTION]
    if len(found) > 1:
        names = ", ".join(card.name for card in found)
        raise CardError(f"{len(found)} models claim production for {task}: {names}.", "Leave `stage: production` on one.")
    return found[0] if found else None
