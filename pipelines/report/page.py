"""The shell of all pages: templates with escaping on, styles and script inside, and the settings that all show."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pipelines.report import formatting
from pipelines.types import Evaluation

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Fact:
    """One number of the summary with its label."""

    label: str
    value: str
    detail: str = ""
    alarming: bool = False
    """Whether the reader must not overlook it."""


def settings_rows(evaluation: Evaluation) -> dict[str, dict[str, str]]:
    """Group what an evaluation was made with: the model's fingerprint, the evaluation's, the environment."""
    return {
        "Model fingerprint": formatting.flatten(evaluation.model_fingerprint),
        "Evaluation fingerprint": formatting.flatten(evaluation.fingerprint.model_dump()),
        "Environment": dict(evaluation.environment),
        "Run": {
            "run": evaluation.run_id,
            "created": evaluation.created_at,
            "corpora": ", ".join(evaluation.corpora),
            "data version": evaluation.data_version,
            "selection": selection_text(evaluation) or "everything",
            "predictions": Path(evaluation.predictions).name,
        },
    }


def selection_text(evaluation: Evaluation) -> str:
    """Say which part of the data was asked for; empty for everything."""
    return ", ".join(f"{key} {value}" for key, value in evaluation.selection.items())


def instant_text(iso: str) -> str:
    """Shorten an ISO 8601 instant to the minute: ``2025-11-23 04:10 UTC``."""
    utc = iso.endswith(("Z", "+00:00"))
    return f"{iso[:10]} {iso[11:16]} UTC" if utc and len(iso) >= 16 else iso


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Inlined as they are: read as templates, a `{#` of the style sheet would open a comment.
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.globals |= {
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        # The page may fetch nothing and run nothing but its own script, whatever a manifest smuggles into it.
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; media-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
        "fmt": formatting,
        "instant": instant_text,
    }
    return environment


def compile_template(template: str) -> None:
    """Read a template of this folder and what it builds on, so that `render` need not."""
    _environment().get_template(template)


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template of this folder; every value is escaped but the package's own `Markup`."""
    return _environment().get_template(template).render(values)
