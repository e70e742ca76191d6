"""The libraries that measure speech, imported where they are first used: they are optional and slow to load."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from models.errors import LabError


def library(name: str) -> Any:
    """Import a library of the extra ``tts``.

    Raises:
        LabError: It is not installed, or lacks something that it needs.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise LabError(
            f"Measuring speech needs {name}, which cannot be imported: {error}.", "Install it with: pip install -e '.[tts]'"
        ) from error
