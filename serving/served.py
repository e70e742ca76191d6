"""A model that a service holds: loaded in this process, warmed up before it answers, and named by what it is.

One of several may be unloaded when nobody asks for it: `serving.residency` says when, and what asks for it loads it again.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from models.audio import SAMPLE_RATE_HZ
from models.calibration_map import CalibrationMap
from models.capabilities import METHODS
from models.card import ModelCard
from models.engine import Placement, build_engine, engine_class, placement_of
from models.errors import EngineError
from models.fingerprint import ModelFingerprint, model_fingerprint
from models.memory import give_memory_back, tidy
from models.types import Task
from models.weights import Located

WARM_UP_TEXT = "Ready."
"""Short, in Latin letters, which every voice so far reads."""


class UnavailableError(EngineError):
    """A model cannot be loaded now."""


@dataclass(eq=False)
class ServedModel:
    """One model, ready or about to be."""

    card: ModelCard
    """What was packaged."""
    fingerprints: Mapping[Task, ModelFingerprint]
    """Task → identity of what runs here; the first is that of the card's first task."""
    engine: Any
    """What `models.engine.build_engine` gave: it does every task of the card. None while the model is not loaded."""
    calibration: CalibrationMap | None = None
    """From the engine's probability of a word to how often such words are right; None where none was fitted."""
    calls: int = 1
    """Calls at once that it is placed for."""
    created: int = 0
    """When it was packaged, Unix time in seconds; fixed, for it is part of what a client compares."""
    owned_by: str = "modellab"
    build: Callable[[], Any] | None = field(default=None, repr=False)
    """Builds the engine; None where it is given once and for all."""
    _warm: threading.Event = field(default_factory=threading.Event, repr=False)
    _loading: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _users: int = field(default=0, repr=False)
    _last_used: float = field(default_factory=time.monotonic, repr=False)
    _tried: bool = field(default=False, repr=False)
    _voices: tuple[str, ...] = field(default=(), repr=False)

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
        """Whether it answered once since it was last tried to be loaded; one that was unloaded when idle stays ready."""
        return self._warm.is_set()

    @property
    def tried(self) -> bool:
        """Whether loading it and warming it up has come to an end once, well or not."""
        return self._tried

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory."""
        return self.engine is not None

    @property
    def voices(self) -> tuple[str, ...]:
        """What a voice offers; nothing before it was loaded once."""
        return tuple(self.engine.voices) if hasattr(self.engine, "voices") else self._voices

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
        return task in self.card.tasks and self.has(METHODS[task])

    def has(self, method: str) -> bool:
        """Say whether the engine has a method, loaded or not."""
        return hasattr(engine_class(self.card) if self.engine is None else self.engine, method)

    def warm_up(self) -> None:
        """Load it, and run each task once, so that no client pays for what libraries put off to their first call.

        Raises:
            UnavailableError: It cannot be loaded, or cannot do what its card says.
        """
        with self._loading:
            self._load()

    @contextmanager
    def in_use(self) -> Iterator[Any]:
        """Give the engine, loaded and warm; it is not unloaded before the block ends. May block: not for an event loop.

        Raises:
            UnavailableError: It cannot be loaded.
        """
        with self._loading:
            self._load()
            self._users += 1
            engine = self.engine
        try:
            yield engine
        finally:
            with self._loading:
                self._users -= 1
                self._last_used = time.monotonic()
            tidy()

    def unload(self, idle_s: float) -> bool:
        """Free its memory if nobody has used it for this long; says whether that was done."""
        if self.build is None or self.engine is None or not self._loading.acquire(blocking=False):
            return False
        try:
            if self._users or time.monotonic() - self._last_used < idle_s:
                return False
            self._voices, self.engine = self.voices, None
        finally:
            self._loading.release()
        give_memory_back()
        return True

    def _load(self) -> None:
        try:
            if self.engine is None:
                assert self.build is not None, "an engine that cannot be built is never unloaded"
                self._warm.clear()
                self.engine = self.build()
            if not self.ready:
                self._run_once()
                self._last_used = time.monotonic()
        except Exception as error:
            raise UnavailableError(f"The model {self.name} cannot be loaded now.", "See the service's log.") from error
        finally:
            self._tried = True

    def _run_once(self) -> None:
        if self.has("warm_up"):  # what silence does not reach, such as a compiler that waits for the first word
            self.engine.warm_up()
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
    later: bool = False,
) -> ServedModel:
    """Build a model's engine in this process; `ServedModel.warm_up` comes after.

    Args:
        card: The model.
        located: Its verified weights.
        placement: Where and how it runs; None is the card's default.
        calibration: From the package.
        created: Unix time of packaging, in seconds.
        later: Whether the engine is built when it is first used.

    Raises:
        CardError: A setting of the card is wrong.
        EngineError: The library is missing, or cannot run as placed.
    """
    placement = placement or placement_of(card)
    build = partial(build_engine, card, located.folder, placement, card.tasks[0])
    fingerprints = {task: model_fingerprint(card, placement, located.sha256, task) for task in card.tasks}
    engine = None if later else build()
    return ServedModel(card, fingerprints, engine, calibration, placement.calls, created, build=build)
