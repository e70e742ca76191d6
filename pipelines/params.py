"""Sections of ``params.yaml``: each is read and validated here, and its first fault is named with the page that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from models.errors import PolicyError
from models.types import Record

R = TypeVar("R", bound=Record)


def read_section(path: Path, section: str, shape: type[R], page: str, *, holds: str | None = None) -> R:
    """Read one section.

    Args:
        path: ``params.yaml``.
        section: Its key.
        shape: What it must be.
        page: Documentation that explains it, such as ``docs/gate.md``.
        holds: What the section is for, if it must be there; None lets the shape's defaults stand for a missing one.

    Raises:
        PolicyError: The file is missing or broken, or the section is missing or wrong.
    """
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise PolicyError(f"{path} does not exist.", "Restore it from git.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} is not valid YAML: {' '.join(str(error).split())}.", "Mend the file.") from error
    if not isinstance(data, dict):
        raise PolicyError(f"{path} is not valid YAML: {data!r:.40} has no sections.", "Mend the file.")
    given = data.get(section)
    if given is None and holds is not None:
        raise PolicyError(f"{path.name}: {section} is missing: it {holds}.", f"See {page}.")
    try:
        return shape.model_validate({} if given is None else given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([section, *(str(part) for part in first["loc"])])
        raise PolicyError(f"{path.name}: {where}: {first['msg']}.", f"See {page}.") from error
