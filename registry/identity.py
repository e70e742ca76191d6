"""Who acts, how we know, and what they may do.

A name is a claim: whoever can run the command line or write the database can claim any. Roles and the rule of two people
guard against mistakes and leave a trace; against somebody with the database's password only the database's own rights do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from models.errors import LabError, PolicyError
from models.types import Record
from pipelines.params import read_section
from registry.events import Origin

SECTION = "lifecycle"
USER = "MODELLAB_USER"
ANYONE = "*"
NAME_CHARACTERS = 200

Role = Literal["request", "approve", "roll_back"]
VERBS: Mapping[Role, str] = {
    "request": "promote models",
    "approve": "approve or reject",
    "roll_back": "roll back",
}


class RefusedError(LabError):
    """Somebody may not do what they asked for, or it may not be done any more."""


class Actor(Record):
    """Who acts."""

    name: str
    """As given."""
    origin: Origin
    """How we know."""


class Rules(Record):
    """``lifecycle:`` in ``params.yaml``: who may do what."""

    request: tuple[str, ...] = (ANYONE,)
    """Who may promote and archive, and ask for production; ``*`` is anyone with a name."""
    approve: tuple[str, ...] = (ANYONE,)
    """Who may approve and reject; never their own request."""
    roll_back: tuple[str, ...] = (ANYONE,)
    """Who may roll back, which needs nobody's approval."""
    people: dict[str, tuple[str, ...]] = {}
    """Name → other names of the same person: e-mail addresses, accounts."""
    header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,100}$")
    """HTTP header in which a proxy in front of the approvals page names who is signed in; it must strip the client's own."""

    @model_validator(mode="after")
    def _names_are_names(self) -> Rules:
        for role in ("request", "approve", "roll_back"):
            names: tuple[str, ...] = getattr(self, role)
            if not names:
                raise ValueError(f"{role} names nobody; write ['*'] for anyone")
            for name in names:
                if name != ANYONE:
                    canonical_name(name)
        owners: dict[str, str] = {}
        for person, others in self.people.items():
            for name in (person, *others):
                owner = owners.setdefault(canonical_name(name), person)
                if owner != person:
                    raise ValueError(f"{name!r} is a name of both {owner} and {person}")
        return self

    def person(self, name: str) -> str:
        """Who a name means: the same for every spelling and every other name of one person.

        Raises:
            RefusedError: It is no name.
        """
        key = canonical_name(name)
        for person, others in self.people.items():
            if key in map(canonical_name, (person, *others)):
                return canonical_name(person)
        return key

    def check(self, actor: Actor, role: Role) -> None:
        """Refuse who does not have a role.

        Raises:
            RefusedError: They do not; who does is named.
        """
        names: tuple[str, ...] = getattr(self, role)
        if ANYONE in names or self.person(actor.name) in {self.person(name) for name in names}:
            self.person(actor.name)
            return
        raise RefusedError(f"{actor.name} may not {VERBS[role]}: {SECTION}.{role} names {', '.join(names)}.", "Ask them.")


def read_rules(path: Path) -> Rules:
    """Read who may do what; without a section in the file anyone may, but nobody approves their own request.

    Raises:
        PolicyError: The file is missing or wrong; the first fault is named.
    """
    try:
        return read_section(path, SECTION, Rules, "docs/lifecycle.md")
    except RefusedError as error:
        raise PolicyError(f"{path.name}: {SECTION}: {error.message}", "See docs/lifecycle.md.") from error


def identify(by: str | None, environment: Mapping[str, str]) -> Actor:
    """Say who runs a command: ``--by``, else ``MODELLAB_USER``.

    Raises:
        RefusedError: Neither says.
    """
    if by is not None:
        return named(by, "option")
    if environment.get(USER):
        return named(environment[USER], "environment")
    raise RefusedError("Nobody says who does this.", f"Give --by NAME, or set {USER}.")


def named(name: str, origin: Origin) -> Actor:
    """Take a name as given.

    Raises:
        RefusedError: It is no name.
    """
    canonical_name(name)
    return Actor(name=" ".join(unicodedata.normalize("NFC", name).split()), origin=origin)


def canonical_name(name: str) -> str:
    """One spelling for all spellings of a name: case, accents, spaces, punctuation and invisible characters do not count.

    Raises:
        RefusedError: Nothing is left, it is too long, or it mixes alphabets, in which letters of different ones look alike.
    """
    letters = [char for char in unicodedata.normalize("NFKD", name).casefold() if char.isalnum()]
    alphabets = {unicodedata.name(char, "?").split()[0] for char in letters if char.isalpha()}
    if not letters or len(name) > NAME_CHARACTERS:
        raise RefusedError(f"{name[:40]!r} is no name.", "Give a name with letters or digits.")
    if len(alphabets & {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"}) > 1:
        raise RefusedError(f"The name {name[:40]!r} mixes letters of several alphabets.", "Write it in one.")
    return "".join(letters)


def given_reason(reason: str) -> str:
    """Take a reason.

    Raises:
        RefusedError: There is none.
    """
    if not re.search(r"\w", reason):
        raise RefusedError("A reason is needed: those who read the history later want to know it.", "Give --reason TEXT.")
    return reason.strip()
