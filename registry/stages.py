"""Which stage a model is in, and which one is in production: the history's word, and until there is one the card's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from models.card import ModelCard, Stage
from models.errors import CardError, StateError
from models.types import Task
from pipelines.lab import Lab
from registry.database import database_uri
from registry.history import open_history
from registry.state import State, Version, fold

PRODUCTION = "production"
MANAGED: tuple[Task, ...] = ("asr", "tts")
"""Tasks that are evaluated, and so can be promoted for."""
ORDER: tuple[Stage, ...] = ("archived", "experimental", "candidate", "production")
"""From the least; of a model that is in several stages for several tasks the most is shown."""


def read_state(lab: Lab) -> State:
    """Read what the history says; nothing where there is none.

    Where MLflow is behind a server and no database was named there can be no history, and the cards' word stands.

    Raises:
        StateError: The database cannot be reached.
    """
    try:
        database_uri(lab)
    except StateError:
        return State({}, {})
    return fold(open_history(lab).events())


def stage_of(card: ModelCard, state: State, task: Task | None = None) -> Stage:
    """Stage of a model: that of its newest version, else the one its card starts it in.

    Args:
        card: The model.
        state: From `read_state`.
        task: One of its tasks; None for the highest stage over all of them.
    """
    tasks = [task] if task else [one for one in card.tasks if one in MANAGED] or card.tasks
    stages = [_stage_for(card, state, one) for one in tasks]
    return max(stages, key=ORDER.index)


def _stage_for(card: ModelCard, state: State, task: Task) -> Stage:
    found = state.of(task).stage_of_model(card.name)
    if found is not None:
        return found
    # A card cannot claim what the history has given to another.
    taken = card.stage == PRODUCTION and state.of(task).production is not None
    return "experimental" if taken else card.stage


def production_version(state: State, task: Task) -> Version | None:
    """The version in production for a task by the history; None where it says nothing."""
    return state.of(task).production


def production_model(task: Task, cards: Mapping[str, ModelCard], state: State) -> ModelCard | None:
    """The model in production for a task, None if there is none.

    Raises:
        CardError: More than one card claims to be, and the history says nothing; or the one in production has no card here.
    """
    version = production_version(state, task)
    if version is not None:
        if version.model not in cards:
            raise CardError(
                f"{version} is in production for {task}, and there is no such card here.",
                "Bring the card back, or name another folder of cards in MODELLAB_CARDS.",
            )
        return cards[version.model]
    found = [card for card in cards.values() if task in card.tasks and card.stage == PRODUCTION]
    if len(found) > 1:
        names = ", ".join(card.name for card in found)
        raise CardError(f"{len(found)} models claim production for {task}: {names}.", "Leave `stage: production` on one.")
    return found[0] if found else None


def task_named(name: str) -> Task | None:
    """Take a word for a task; None if it is none."""
    return next((task for task in get_args(Task) if task == name), None)
