"""Python environments of their own, for engines whose libraries cannot share the lab's.

A card names one (``environment: lfm``). Its interpreter is the one that ``MODELLAB_ENV_LFM`` names (a Python, or the folder
of a virtual environment), or that of ``.venv-lfm`` in the checkout, which ``make env-lfm`` makes.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from models.errors import EngineError

CHECKOUT = Path(__file__).parents[1]
PYTHONS: Mapping[str, str] = {"lfm": "3.12"}
"""Environments that the Makefile makes (``make env-NAME``) → the Python that they need."""
DISTRIBUTION = "modellab"
ASK_TIMEOUT_S = 60.0
"""How long an interpreter may take to say what is installed; a cold start from a slow disk takes seconds."""

_ASK = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def variable(environment: str) -> str:
    """Name the environment variable that says where an environment is."""
    return f"MODELLAB_ENV_{environment.upper().replace('-', '_')}"


@dataclass(frozen=True, slots=True)
class _Missing:
    """An environment that is not there."""

    message: str
    cure: str
    """The command that makes it, with what must be done first."""


def find_interpreter(environment: str | None, packages: Sequence[str]) -> Path | None:
    """Find the interpreter that runs an environment's engines; None is this process's own.

    What the variable names wins. Otherwise, where this process's Python has the packages, no other is needed.

    Args:
        environment: Its name, as in a card; None is this process's.
        packages: Distributions that the engine needs.

    Raises:
        EngineError: The environment does not exist.
    """
    found = _locate(environment, packages)
    if isinstance(found, _Missing):
        raise EngineError(found.message, f"To make it usable: {found.cure}")
    return found


def how_to_complete(environment: str | None, packages: Sequence[str]) -> str | None:
    """Give the command that makes an environment have these distributions; None where it has them all."""
    found = _locate(environment, packages)
    if isinstance(found, _Missing):
        return found.cure
    try:
        missing = missing_from(found, packages)
    except EngineError:  # a broken environment is as good as none
        missing = list(packages)
    if not missing:
        return None
    if environment is None or os.environ.get(variable(environment)):
        return _how_to_install(missing, found)
    return _how_to_make(environment)


def _locate(environment: str | None, packages: Sequence[str]) -> Path | _Missing | None:
    if environment is None:
        return None
    if named := os.environ.get(variable(environment)):
        path = Path(named).expanduser()
        python = path / "bin" / "python" if path.is_dir() else path
        if os.access(python, os.X_OK):
            return python
        message = f"{variable(environment)} names {named}, where there is no Python."
        return _Missing(message, f"{message[:-1]}: unset {variable(environment)}")
    if not missing_from(None, packages):
        return None
    python = CHECKOUT / f".venv-{environment}" / "bin" / "python"
    if python.exists():
        return python
    return _Missing(f"The environment {environment!r} does not exist: no {python}.", _how_to_make(environment))


def installed(interpreter: Path | None, packages: Sequence[str]) -> Mapping[str, str]:
    """Say which of these distributions an environment has: name → version.

    Args:
        interpreter: From `find_interpreter`. Another than this process's own is asked once, since starting it takes a while.
        packages: Names of distributions.

    Raises:
        EngineError: The interpreter cannot be run.
    """
    if interpreter is not None:
        return _asked(interpreter, interpreter.stat().st_mtime_ns, tuple(packages))
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def missing_from(interpreter: Path | None, packages: Sequence[str]) -> list[str]:
    """Name the distributions that an environment lacks; see `installed`."""
    found = installed(interpreter, packages)
    return [package for package in packages if package not in found]


@functools.cache
def _asked(interpreter: Path, mtime_ns: int, packages: tuple[str, ...]) -> Mapping[str, str]:
    command = [str(interpreter), "-P", "-c", _ASK, *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=True)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise EngineError(
            f"The Python {interpreter} cannot be run: {said[-1] if said else error}.", "Make it anew."
        ) from error
    return found


def _how_to_make(environment: str) -> str:
    python = PYTHONS.get(environment)
    if python is None or not (CHECKOUT / "Makefile").exists():
        return f"export {variable(environment)}=/path/to/python, of an environment with the engine's library"
    if _runs(f"python{python}"):
        return f"make env-{environment}"
    path = f"PYTHON{python.replace('.', '')}=/path/to/python{python}"
    return f"install Python {python}, which is not on your PATH, then: make env-{environment} {path}"


def _runs(python: str) -> bool:
    # A version manager's shim lies on the path and fails: only running it tells.
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, timeout=ASK_TIMEOUT_S, check=False).returncode == 0
    except OSError:
        return False


def _how_to_install(packages: Sequence[str], interpreter: Path | None) -> str:
    pip = f"{interpreter} -m pip" if interpreter else "pip"
    return " ".join([pip, "install", *(shlex.quote(_bounded(package)) for package in packages)])


def _bounded(package: str) -> str:
    """Add the bounds that modellab declares for a distribution."""
    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a folder that was not installed
        declared = []
    for requirement in declared:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name and name[0].lower() == package.lower():
            return requirement.partition(";")[0].strip()
    return package
