"""The identity of what runs: two models with one fingerprint give the same answers.

A card's name, summary and stage are not part of it, nor is the number of threads: they change nothing that is heard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from models.card import ModelCard, Sha256
from models.engine import Placement, decoding_of, engine_class, how_to_complete, interpreter_of
from models.environments import installed
from models.errors import CardError, EngineError, unknown_name
from models.types import Record, Task


class ModelFingerprint(Record):
    """All that decides what a model answers."""

    engine: str
    """``module:Class`` of the adapter."""
    versions: dict[str, str]
    """Distribution → version, for the libraries that compute."""
    weights: dict[str, Sha256]
    """File name → sha256."""
    args: dict[str, Any]
    """Extra arguments of the engine's constructor, but for the operational ones."""
    decoding: dict[str, Any]
    """Every decoding setting, those the card leaves to the engine's defaults too."""
    device: str
    """``cpu``, ``cuda``."""
    compute_type: str
    """The engine's own name of the number format."""
    task: Task
    """What it is asked to do."""
    identity: dict[str, str] = {}
    """What the engine says of what lies outside the card and the weights, such as the model a server runs."""

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON (sorted keys, no white space, UTF-8), as 64 hex digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def model_fingerprint(
    card: ModelCard, placement: Placement, weights_sha256: Mapping[str, str], task: Task | None = None
) -> ModelFingerprint:
    """Say what would run; neither the library nor the weights are loaded.

    Args:
        card: The model.
        placement: Where and how it runs.
        weights_sha256: Of the files that are there (`models.weights.Located.sha256`), which need not be those of the card's
            first source.
        task: None is the card's first.

    Raises:
        CardError: The model does not do the task, or a decoding setting is wrong.
        EngineError: A library of the engine is not installed, or what it depends on cannot be asked.
    """
    task = task or card.tasks[0]
    if task not in card.tasks:
        message, remedy = unknown_name("task", task, card.tasks)
        raise CardError(f"{card.name}: {message}", remedy)
    engine = engine_class(card)
    identify = getattr(engine, "identity", None)
    return ModelFingerprint(
        engine=card.engine,
        versions=_versions(card, engine.packages),
        weights=dict(weights_sha256),
        args={name: value for name, value in card.args.items() if name not in getattr(engine, "operational", ())},
        decoding=decoding_of(card).model_dump(mode="json"),
        device=placement.device,
        compute_type=placement.compute_type,
        task=task,
        identity=dict(identify(card.args)) if identify else {},
    )


def _versions(card: ModelCard, packages: Sequence[str]) -> dict[str, str]:
    """Ask the environment that the engine runs in, which need not be this process's."""
    found = installed(interpreter_of(card), packages)
    for package in packages:
        if package not in found:
            raise EngineError(
                f"{card.name} needs {package}, which is not installed.", f"To make it usable: {how_to_complete(card)}"
            )
    return dict(found)
