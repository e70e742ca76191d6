"""What an engine is, and how a card becomes one.

An engine is a class in ``models/engines``, one library each. What it can do are the Protocols of `models.capabilities`; what
the lab needs to know before it builds one is on the class (`Engine`). The library itself is imported in the constructor
only, so that listing models, checking cards and fingerprinting stay fast and need no engine.
"""

from __future__ import annotations

import importlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, overload

from pydantic import ValidationError

from models import environments
from models.capabilities import METHODS, Synthesizer, Transcriber, Translator
from models.card import ModelCard
from models.errors import CardError, EngineError, unknown_name
from models.remote import RemoteEngine
from models.types import Record, Task

DEFAULT_DEVICE = "cpu"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how an engine runs."""

    device: str
    """A device of the card: ``cpu``, ``cuda``."""
    compute_type: str
    """The engine's own name of the number format (``int8``, ``float32`` …)."""
    threads: int
    """CPU threads the engine may use for a call. Changes speed only, so it is not part of a fingerprint."""
    calls: int = 1
    """Calls that the engine should be ready to compute side by side. Changes speed and memory only."""


class Engine(Protocol):
    """What every engine class carries, beside the Protocols of what it can do.

    A class whose answers depend on something that is neither in the card nor in its weights, such as what a server runs,
    also has a class method ``identity(args) -> Mapping[str, str]``, which says it; it goes into the fingerprint. Arguments
    that change nothing of what is answered (a price, a time-out) are named in ``operational``, and do not. A class that may
    answer otherwise the next time has a class method ``repeatable(decoding) -> bool``, which says whether it does so. A
    class whose instance gets more done when several threads call it at once has a class method
    ``calls_at_once(placement) -> int``, which says how many.
    """

    packages: ClassVar[tuple[str, ...]]
    """Distributions whose versions are part of a fingerprint: what they compute is what the model says."""
    Decoding: ClassVar[type[Record]]
    """Decoding options: the fields that a card may set under ``decoding``, with their defaults."""

    def __init__(self, weights: Path, placement: Placement, decoding: Any, **args: Any) -> None:
        """Import the library and load the weights."""
        ...


def engine_class(card: ModelCard) -> type[Engine]:
    """Import the card's engine class; its library is not imported yet.

    Raises:
        EngineError: The module or the class does not exist, or the class is not an engine.
    """
    found = import_named(card.engine, f"engine of {card.name}")
    is_engine = inspect.isclass(found) and hasattr(found, "packages") and hasattr(found, "Decoding")
    if not is_engine:
        raise EngineError(
            f"{card.engine}, the engine of {card.name}, is not an engine class.",
            "It needs the attributes `packages` and `Decoding` (see models/engine.py).",
        )
    engine: type[Engine] = found
    return engine


def decoding_of(card: ModelCard) -> Record:
    """Check the card's decoding settings and fill in the engine's defaults.

    Raises:
        CardError: The engine has no such option, or its value is out of range.
        EngineError: The engine class cannot be imported.
    """
    model = engine_class(card).Decoding
    for name in card.decoding:
        if name not in model.model_fields:
            message, remedy = unknown_name("decoding option", name, model.model_fields)
            raise CardError(f"{card.name}: {message}", remedy)
    try:
        return model.model_validate(card.decoding)
    except ValidationError as error:
        first = error.errors()[0]
        raise CardError(
            f"{card.name}: the decoding option {'.'.join(map(str, first['loc']))} is wrong: {first['msg']} "
            f"(found {first.get('input')!r}).",
            "Mend the card.",
        ) from error


def is_repeatable(card: ModelCard) -> bool:
    """Say whether the model, as the card sets it, answers the same each time: it draws nothing, or from a seed.

    Raises:
        CardError: A decoding setting is wrong.
        EngineError: The engine class cannot be imported.
    """
    asked = getattr(engine_class(card), "repeatable", None)
    return True if asked is None else bool(asked(decoding_of(card)))


def calls_at_once(card: ModelCard, placement: Placement) -> int:
    """Say how many calls side by side the engine gets most done with, on one copy of the weights.

    Args:
        card: The model.
        placement: Where it runs; its ``calls`` are not looked at.

    Raises:
        EngineError: The engine class cannot be imported, or its environment does not exist.
    """
    asked = getattr(engine_class(card), "calls_at_once", None)
    # An engine in an environment of its own has one pipe to it.
    return 1 if asked is None or interpreter_of(card) is not None else int(asked(placement))


def placement_of(
    card: ModelCard, device: str | None = None, compute_type: str | None = None, threads: int | None = None
) -> Placement:
    """Fill in what the caller left open from the card and the machine.

    Args:
        card: Whose defaults to use.
        device: One of the card's devices; None is ``cpu``, or the card's first where it has none.
        compute_type: None takes the card's for this device.
        threads: None takes all cores this process may use.

    Raises:
        EngineError: The card has no such device, or `threads` is below 1.
    """
    device = device or (DEFAULT_DEVICE if DEFAULT_DEVICE in card.devices else next(iter(card.devices)))
    if device not in card.devices:
        message, remedy = unknown_name("device", device, card.devices)
        raise EngineError(f"{card.name}: {message}", remedy)
    if threads is None:
        threads = available_cores()
    if threads < 1:
        raise EngineError(f"{card.name}: an engine cannot run with {threads} threads.", "Give 1 or more.")
    return Placement(device, compute_type or card.devices[device].compute_type, threads)


def available_cores() -> int:
    """Count the cores this process may run on, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@overload
def build_engine(card: ModelCard, weights: Path, placement: Placement, task: Literal["asr"] = "asr") -> Transcriber: ...
@overload
def build_engine(card: ModelCard, weights: Path, placement: Placement, task: Literal["translation"]) -> Translator: ...
@overload
def build_engine(card: ModelCard, weights: Path, placement: Placement, task: Literal["tts"]) -> Synthesizer: ...
@overload
def build_engine(card: ModelCard, weights: Path, placement: Placement, task: Task) -> Any: ...
def build_engine(card: ModelCard, weights: Path, placement: Placement, task: Task = "asr") -> Any:
    """Load a model that can do a task; the same instance does the other tasks of its card.

    Where the card names an environment that is not this process's, the engine is loaded there, and what is returned calls
    it.

    Args:
        card: The model.
        weights: Folder of its verified weights (`models.weights.locate`).
        placement: From `placement_of`.
        task: What it must be able to do.

    Raises:
        CardError: A decoding setting or an argument of the card is not one of the engine's.
        EngineError: The library or its environment is missing, it cannot run as placed, or the engine cannot do the task.
    """
    engine = engine_class(card)
    if task not in card.tasks or not hasattr(engine, METHODS[task]):
        raise EngineError(f"{card.name} ({card.engine}) does not do {task}.", "Choose another model.")
    known = [name for name, kind in inspect.signature(engine).parameters.items() if kind.kind is kind.KEYWORD_ONLY]
    for name in card.args:
        if name not in known:
            message, remedy = unknown_name("engine argument", name, known)
            raise CardError(f"{card.name}: {message}", remedy)
    decoding = decoding_of(card)
    interpreter = interpreter_of(card)
    if interpreter is None:
        return engine(weights, placement, decoding, **card.args)
    if missing := missing_packages(card):
        raise EngineError(
            f"The environment {card.environment!r} of {card.name} ({interpreter}) has no {' and no '.join(missing)}.",
            f"To make it usable: {how_to_complete(card)}",
        )
    return RemoteEngine(interpreter, card, weights, placement, task)


def import_named(reference: str, what: str) -> Any:
    """Import ``module:name``.

    Args:
        reference: As written in a card.
        what: What it is for, for the message.

    Raises:
        EngineError: It is not of this form, the module cannot be imported, or it has no such name.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise EngineError(f"The {what} is {reference!r}.", "Write it as `package.module:Name`.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise EngineError(
            f"The {what}, {reference}, cannot be imported: {error}.",
            f"Check the card, and that {module_name} is installed here.",
        ) from error
    try:
        return getattr(module, name)
    except AttributeError as error:
        public = [entry for entry in vars(module) if not entry.startswith("_")]
        message, remedy = unknown_name(f"name in {module_name}", name, public)
        raise EngineError(f"The {what}, {reference}, cannot be imported. {message}", remedy) from error


def interpreter_of(card: ModelCard) -> Path | None:
    """Find the interpreter that the card's engine runs in; None is this process's own.

    Raises:
        EngineError: The engine class cannot be imported, or its environment does not exist.
    """
    return environments.find_interpreter(card.environment, engine_class(card).packages)


def missing_packages(card: ModelCard) -> list[str]:
    """Name the distributions that the card's engine needs and that are not installed where it would run.

    Raises:
        EngineError: The engine class cannot be imported, or its environment does not exist.
    """
    return environments.missing_from(interpreter_of(card), engine_class(card).packages)


def how_to_complete(card: ModelCard) -> str | None:
    """Give the command that installs what the card's engine lacks; None where it lacks nothing.

    Raises:
        EngineError: The engine class cannot be imported.
    """
    return environments.how_to_complete(card.environment, engine_class(card).packages)


def missing_library(requirement: str, error: ImportError) -> EngineError:
    """Word a library that is not installed, with the command that installs it."""
    return EngineError(f"The engine's library cannot be imported: {error}.", f"Install it with: pip install '{requirement}'")
