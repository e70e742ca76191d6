"""Weights made here from those of another card."""

from __future__ import annotations

from models.card import ConvertSource
from models.engine import import_named
from models.errors import LabError
from models.sources.base import Order, Unavailable


def deliver(source: ConvertSource, order: Order) -> None:
    """Fetch the other card's weights and convert them."""
    try:
        import_named(source.converter, "converter")(order.fetch_other(source.card), order.into)
    except LabError as error:
        raise Unavailable(error.message) from error
