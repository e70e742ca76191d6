"""API keys: made here, kept as digests in a file, taken back by removing their line.

A key has 256 random bits, so its plain sha256 cannot be guessed from; a slow hash is for what people think up. The file has
one key a line, ``NAME SHA256``; ``#`` begins a comment.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from models.errors import StateError, unknown_name
from models.types import Record

RANDOM_BYTES = 32
_MADE = re.compile(r"# made (\S+)")
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


class ListedKey(Record):
    """A key in the file, without what opens anything. `keys list --json` prints these."""

    name: str
    """Whose it is."""
    made: str | None
    """When it was made, ISO 8601 in UTC; None in a line that was written by hand."""


def add_key(path: Path, name: str) -> str:
    """Make a key and add it to a file, which is made if it is not there; gives the key, which is kept nowhere.

    Raises:
        StateError: The name cannot be used, is used already, or the file cannot be read or written.
    """
    key, line = new_key(name)
    with _held(path):
        lines = _lines(path)
        if name in _parse(path, lines):
            raise StateError(f"There is a key named {name!r} already.", f"Choose another name, or run: keys revoke {name}")
        _write(path, [*lines, f"{line}  # made {datetime.now(UTC).isoformat(timespec='seconds')}"])
    return key


def list_keys(path: Path) -> list[ListedKey]:
    """List the keys of a file in its order; none where there is no file.

    Raises:
        StateError: It cannot be read, or a line is no key.
    """
    lines = _lines(path)
    made = {line.split()[0]: _MADE.search(line) for line in lines if line.split()}
    return [ListedKey(name=name, made=found[1] if (found := made[name]) else None) for name in _parse(path, lines)]


def revoke_key(path: Path, name: str) -> None:
    """Remove a key from a file: services that use the file refuse it from then on.

    Raises:
        StateError: There is none of this name, or the file cannot be read or written.
    """
    with _held(path):
        lines = _lines(path)
        known = _parse(path, lines)
        if name not in known:
            raise StateError(*unknown_name("key", name, known))
        _write(path, [line for line in lines if line.partition("#")[0].split()[:1] != [name]])


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
            self._keys = _parse(self._path, text.splitlines())
            self._state = state


def _parse(path: Path, lines: Sequence[str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = _LINE.fullmatch(content)
        if match is None or match[1] in keys:  # the line itself is not shown: it may be a key that was pasted in
            fault = "is not NAME SHA256" if match is None else "has a name that was used before"
            raise StateError(f"Line {number} of the keys file {path} {fault}.", "Correct or remove it.")
        keys[match[1]] = match[2]
    return keys


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"The keys file {path} cannot be read.", "Check its path and its permissions.") from error


def _write(path: Path, lines: Sequence[str]) -> None:
    """Replace the file whole: a service that reads it meanwhile sees the old keys or the new ones."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="utf-8") as new:
        new.write("".join(f"{line}\n" for line in lines))
        new.flush()
        os.fsync(new.fileno())
    Path(new.name).replace(path)  # made readable by its owner alone


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Let nobody else change the file meanwhile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StateError(f"The keys file {path} cannot be written ({error.strerror}).", "Check its folder.") from error


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
