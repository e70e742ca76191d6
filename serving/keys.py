"""API keys: made here, kept as digests in a file, taken back by removing their line.

A key has 256 random bits, so its plain sha256 cannot be guessed from; a slow hash is for what people think up. The file has
one key a line, ``NAME SHA256``; ``#`` begins a comment.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from pathlib import Path

from models.errors import StateError

RANDOM_BYTES = 32
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})[ \t]+([0-9a-f]{64})")


def new_key(name: str) -> tuple[str, str]:
    """Make a key.

    Args:
        name: Whose it is; logs carry it, so letters, digits, ``.``, ``_`` and ``-`` only.

    Returns:
        The key, which is shown once and never stored, and the line for the file.

    Raises:
        StateError: The name has other characters, or more than 64.
    """
    key = f"ml-{secrets.token_urlsafe(RANDOM_BYTES)}"
    line = f"{name} {_digest(key)}"
    if not _LINE.fullmatch(line):
        raise StateError(f"A key cannot be named {name!r}.", "Use 1 to 64 letters, digits, dots, dashes or underscores.")
    return key, line


class KeyFile:
    """The keys that may be used now."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            StateError: It cannot be read, or a line is no key.
        """
        self._path = path
        self._lock = threading.Lock()
        self._state: tuple[int, int, int] | None = None
        self._keys: dict[str, str] = {}
        self._refresh()

    def owner_of(self, key: str) -> str | None:
        """Name the owner of a key; None where nobody's is like it. Takes the same time whichever is compared.

        Raises:
            StateError: The file changed into one that cannot be read: then no key counts.
        """
        self._refresh()
        given, owner = _digest(key), None
        for name, digest in self._keys.items():
            if hmac.compare_digest(given, digest):
                owner = name
        return owner

    def _refresh(self) -> None:
        with self._lock:
            try:
                found = self._path.stat()
                state = (found.st_mtime_ns, found.st_size, found.st_ino)
                if state == self._state:
                    return
                text = self._path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                self._state = None
                raise StateError(
                    f"The keys file {self._path} cannot be read.", "Check MODELLAB_SERVE_API_KEYS_FILE."
                ) from error
            self._state = None
            self._keys = self._parse(text)
            self._state = state

    def _parse(self, text: str) -> dict[str, str]:
        keys: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            content = line.partition("#")[0].strip()
            if not content:
                continue
            match = _LINE.fullmatch(content)
            if match is None or match[1] in keys:  # the line itself is not shown: it may be a key that was pasted in
                fault = "is not NAME SHA256" if match is None else "has a name that was used before"
                raise StateError(f"Line {number} of the keys file {self._path} {fault}.", "Correct or remove it.")
            keys[match[1]] = match[2]
        return keys


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
