"""Errors a user can act on: what was found, what was expected, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabError(Exception):
    """A problem with data, settings or a model that the user can mend.

    The command line prints it as one sentence with its remedy and exits with 2; a traceback is shown only
    with ``--debug``.
    """

    exit_code = 2
    """Of the command that it ends."""

    def __init__(self, message: str, remedy: str) -> None:
        """Take what is wrong (which item, found, expected) and what to do about it."""
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """Join message and remedy into the line people read."""
        return f"{self.message} {self.remedy}"


class AudioError(LabError):
    """One recording cannot be used: unreadable, empty, not finite, too long, or not what its manifest says."""


class CorpusError(LabError):
    """A corpus or its manifest cannot be read."""


class CardError(LabError):
    """A model card is missing or wrong."""


class WeightsError(LabError):
    """Weights could not be had from any source, or are not the ones the card names."""


class EngineError(LabError):
    """An engine cannot do what was asked, or its library is missing."""


class UnspeakableError(EngineError):
    """A voice refuses one text, for it would leave part of it out; other texts are not concerned."""


class PolicyError(LabError):
    """The gate's policy in ``params.yaml`` is wrong."""


class StateError(LabError):
    """The home folder or a server that modellab keeps cannot be used."""


def unknown_name(kind: str, name: str, available: Iterable[str]) -> tuple[str, str]:
    """Word the answer to a name that does not exist: what is close to it and what there is.

    Returns the message and the remedy for a `LabError`.
    """
    names = sorted(available)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    listing = ", ".join(names) if names else "none"
    return f"There is no {kind} named {name!r}.", f"{hint}Available: {listing}."
