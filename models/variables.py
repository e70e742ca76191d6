"""Environment variables for what reads them once: a library that is loaded, a process that is started."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_changed = threading.RLock()
"""Held while the environment is not the user's."""


def unless_set(values: Mapping[str, str]) -> dict[str, str]:
    """Give the values, but the user's own of variables that are set."""
    return {name: os.environ.get(name, value) for name, value in values.items()}


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while the block runs; then the environment is as it was.

    Blocks nest; those of several threads run in turn.
    """
    with _changed:
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
