"""Where a server with the OpenAI API is, and how it may be used."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from models.backoff import is_loopback
from models.errors import EngineError
from models.types import Record


class Connection(Record):
    """How a server is reached: the arguments of a card that are not about what it does."""

    base_url: str
    """Up to and with ``/v1``; ``${VARIABLES}`` are expanded."""
    model: str
    """The server's name of the model; ``${VARIABLES}`` are expanded."""
    api_key_env: str | None = None
    """Environment variable that holds the key; the key itself is never written down."""
    concurrency: int = Field(default=4, ge=1)
    """Calls of this process that may be under way at once."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Longest wait for one answer; it is asked again after that."""
    allow_http: bool = False
    """Whether a server beyond this machine may be used unencrypted."""

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> Connection:
        """Read it out of a card's arguments, with the environment's variables put in.

        Raises:
            EngineError: One is missing or wrong, or a variable that it names is not set.
        """
        known = {name: args[name] for name in cls.model_fields if name in args}
        for name in ("base_url", "model"):
            if isinstance(known.get(name), str):
                known[name] = _expand(known[name], name)
        try:
            connection = cls.model_validate(known)
        except ValidationError as error:
            first = error.errors()[0]
            raise EngineError(
                f"The engine argument {first['loc'][0]} is wrong: {first['msg']}.", "Mend the card."
            ) from error
        parts = urlsplit(connection.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise EngineError(
                f"base_url must be like https://host/v1, without a user, a key or a query; its host is {parts.hostname!r}.",
                "Correct it; a key belongs into the variable that api_key_env names.",
            )
        if parts.scheme == "http" and not (connection.allow_http or is_loopback(parts.hostname)):
            raise EngineError(
                f"{connection.base_url} is not encrypted.", "Use https, or set the card's argument `allow_http: true`."
            )
        return connection

    def key(self) -> str | None:
        """The key, if one is used.

        Raises:
            EngineError: Its variable is not set.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise EngineError(
                f"{self.api_key_env} is not set; it should hold the key for {self.base_url}.",
                "Set it (to any word, if the server asks for no key).",
            )
        return key


def _expand(text: str, name: str) -> str:
    expanded = os.path.expandvars(text)
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise EngineError(f"{unset[1]} is not set; the card's {name} is {text}.", f"Set {unset[1]}.")
    return expanded
