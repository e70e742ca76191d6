"""Weights among the artifacts of MLflow's tracking store.

Layers above `models` know the store; whoever calls `models.weights.fetch` hands in the function that reads it.
"""

from __future__ import annotations

from models.card import MlflowSource
from models.errors import LabError
from models.sources.base import Order, Unavailable
from models.sources.folder import take


def deliver(source: MlflowSource, order: Order) -> None:
    """Download the artifacts and take the files."""
    if order.artifacts is None:
        raise Unavailable("MLflow is not set up here")
    try:
        folder = order.artifacts(source.uri, order.scratch)
    except LabError as error:
        raise Unavailable(error.message) from error
    take(folder, {name: source.members.get(name, name) for name in order.files}, order.into)
