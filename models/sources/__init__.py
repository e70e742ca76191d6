"""Where weights come from, one module a kind.

A source puts files into a folder and says why if it cannot; whether they are the right ones is checked by
`models.weights`, for all sources alike. Nothing that was downloaded is imported or run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from models.card import (
    ConvertSource,
    HttpSource,
    HubSource,
    MlflowSource,
    ModelCard,
    PackageSource,
    PathSource,
    WeightSource,
)
from models.sources import convert, folder, http, hub, mlflow, package
from models.sources.base import Artifacts, Delivery, Order, Progress, Unavailable

__all__ = ["Artifacts", "Delivery", "Order", "Progress", "Unavailable", "describe", "obtain", "possible", "resumes"]


def describe(source: WeightSource) -> str:
    """Name a source in a few words."""
    match source:
        case PathSource():
            return f"folder {source.path}"
        case PackageSource():
            return f"package{'s' if len(source.packages) > 1 else ''} {' and '.join(source.packages)}"
        case HubSource():
            return hub.describe(source)
        case MlflowSource():
            return f"MLflow's {source.uri}"
        case HttpSource():
            return source.url
        case ConvertSource():
            return f"the weights of {source.card}"


def possible(source: WeightSource, cards: Mapping[str, ModelCard]) -> bool:
    """Say, without asking anyone, whether a source may have the weights."""
    if isinstance(source, PathSource):
        return Path(os.path.expandvars(source.path)).expanduser().is_dir()
    return not isinstance(source, ConvertSource) or source.card in cards


def resumes(source: WeightSource) -> bool:
    """Say whether a fetch goes on where a killed one stopped. MLflow and pip download anew."""
    return isinstance(source, HubSource | HttpSource)


def obtain(source: WeightSource, order: Order) -> Delivery:
    """Put the ordered files into the order's folder.

    Raises:
        Unavailable: The source cannot give them.
        OSError: They cannot be written.
    """
    match source:
        case PathSource():
            folder.deliver(source, order)
        case PackageSource():
            package.deliver(source, order)
        case HubSource():
            return hub.deliver(source, order)
        case MlflowSource():
            mlflow.deliver(source, order)
        case HttpSource():
            http.deliver(source, order)
        case ConvertSource():
            convert.deliver(source, order)
    return Delivery(describe(source))
