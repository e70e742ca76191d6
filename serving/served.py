"""A model that a service holds: loaded once in this process, warmed up before it answers, and named by what it is."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.audio import SAMPLE_RATE_HZ
from models.calibration_map import CalibrationMap
from models.capabilities import METHODS
from models.card import ModelCard
from models.engine import Placement, build_engine, placement_of
from models.fingerprint import ModelFingerprint, model_fingerprint
from models.types import Task
from models.weights import Located

WARM_UP_TEXT = "Ready."
"""Short, in Latin letters, which every voice so far reads."""


@dataclass(eq=False)
class ServedModel:
    """One model, ready or about to be."""

    card: ModelCard
    """What was packaged."""
    fingerprints: Mapping[Task, ModelFingerprint]
    """Task → identity of what runs here; the first is that of the card's first task."""
    engine: Any
    """What `models.engine.build_engine` gave: it does every task of the card."""
    calibration: CalibrationMap | None = None
    """From the engine's probability of a word to how often such words are right; None where none was fitted."""
    created: int = 0
    """When it was packaged, Unix time in seconds; fixed, for it is part of what a client compares."""
    owned_by: str = "modellab"
    _warm: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def name(self) -> str:
        """The card's name: the id that a client asks for."""
        return self.card.name

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can do."""
        return self.card.tasks

    @property
    def ready(self) -> bool:
        """Whether it has been warmed up."""
        return self._warm.is_set()

    @property
    def fingerprint(self) -> str:
        """Digest of the fingerprint for the card's first task, 64 hex digits: what evaluations are compared by."""
        return self.fingerprints[self.card.tasks[0]].digest

    @property
    def weights_digest(self) -> str:
        """The sha256 of the weights' names and digests, as 64 hex digits."""
        weights = self.fingerprints[self.card.tasks[0]].weights
        return hashlib.sha256(json.dumps(weights, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def can(self, task: Task) -> bool:
        """Say whether the card claims the task and the engine has the method for it."""
        return task in self.card.tasks and hasattr(self.engine, METHODS[task])

    def warm_up(self) -> None:
        """Run each task once, so that no client pays for what libraries put off to their first call.

        Raises:
            EngineError: It cannot do what its card says.
        """
        if self.ready:
            return
        silence = np.zeros(SAMPLE_RATE_HZ, np.float32)
        if self.can("asr"):
            self.engine.transcribe(silence, language=None)
        elif self.can("translation"):
            self.engine.translate(silence, language=None, target="en")
        if self.can("tts"):
            self.engine.synthesize(WARM_UP_TEXT)
        self._warm.set()


def load(
    card: ModelCard,
    located: Located,
    *,
    placement: Placement | None = None,
    calibration: CalibrationMap | None = None,
    created: int = 0,
) -> ServedModel:
    """Build a model's engine in this process; `ServedModel.warm_up` comes after.

    Args:
        card: The model.
        located: Its verified weights.
        placement: Where and how it runs; None is the card's default.
        calibration: From the package.
        created: Unix time of packaging, in seconds.

    Raises:
        CardError: A setting of the card is wrong.
        EngineError: The library is missing, or cannot run as placed.
    """
    placement = placement or placement_of(card)
    engine = build_engine(card, located.folder, placement, card.tasks[0])
    fingerprints = {task: model_fingerprint(card, placement, located.sha256, task) for task in card.tasks}
    return ServedModel(card, fingerprints, engine, calibration, created)
