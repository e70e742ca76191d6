"""What a corpus is held to: ``validation`` in ``params.yaml``, and in a ``corpus.yaml`` what differs for that corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from models.errors import PolicyError, unknown_name
from models.types import Record
from pipelines.corpus import CorpusConfig

Severity = Literal["error", "warning"]
SECTION = "validation"


class ValidationLimits(Record):
    """Thresholds of the suites. The defaults are what ``params.yaml`` ships."""

    licences: tuple[str, ...] = ("public-domain", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "Apache-2.0", "MIT", "internal")
    """Licences that may be used. A row's may go on in brackets: ``CC0-1.0 (of the recording)``."""
    nonspeech: tuple[str, ...] = ("nonspeech", "non-speech", "noise", "music", "silence")
    """Values that, in any tag, say that an empty text is meant."""
    min_duration_s: float = Field(default=0.2, ge=0)
    max_duration_s: float = Field(default=300, gt=0)
    min_words_per_second: float = Field(default=0.1, ge=0)
    max_words_per_second: float = Field(default=6, gt=0)
    max_clipped: float = Field(default=0.001, ge=0, le=1)
    """Share of samples at full scale."""
    max_dc_offset: float = Field(default=0.02, ge=0, le=1)
    """Mean of a channel, of full scale."""
    min_loudest_dbfs: float = Field(default=-55, le=0)
    """Level of the loudest 50 ms of a recording with speech."""
    max_silent: float = Field(default=0.95, ge=0, le=1)
    """Share of a recording with speech that is below -60 dBFS."""
    severity: dict[str, Severity] = {}
    """Expectation → error or warning, where it is not what the suite says."""

    @model_validator(mode="after")
    def _in_order(self) -> ValidationLimits:
        for quantity in ("duration_s", "words_per_second"):
            low, high = getattr(self, f"min_{quantity}"), getattr(self, f"max_{quantity}")
            if low >= high:
                raise ValueError(f"min_{quantity} ({low:g}) must be below max_{quantity} ({high:g})")
        return self


def read_limits(params: Path, config: CorpusConfig) -> ValidationLimits:
    """Read the project's limits, and what the corpus says differs for it.

    Raises:
        PolicyError: A field is unknown or has a value that cannot be used; it is named, with its file.
    """
    from pipelines.validate.suites import expectation_names

    project = _section(params)
    limits = _checked(project, f"{params.name}: {SECTION}")
    if config.validation:
        merged = {**project, **config.validation}
        merged["severity"] = {**project.get("severity", {}), **_dict(config.validation.get("severity"))}
        limits = _checked(merged, f"corpus.yaml of {config.name or 'the corpus'}: {SECTION}")
    for name in limits.severity:
        if name not in expectation_names():
            message, remedy = unknown_name("expectation", name, expectation_names())
            raise PolicyError(f"{SECTION}.severity: {message}", remedy)
    return limits


def _section(params: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(params.read_text(encoding="utf-8")) if params.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"{params.name} cannot be read ({' '.join(str(error).split())}).", "Mend it.") from error
    section = document.get(SECTION) if isinstance(document, dict) else None
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise PolicyError(f"{params.name}: {SECTION} is {section!r}.", "Write its fields below it; see docs/corpora.md.")
    return section


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _checked(section: dict[str, Any], where: str) -> ValidationLimits:
    known = set(ValidationLimits.model_fields)
    if unknown := sorted(set(section) - known):
        message, remedy = unknown_name("field", str(unknown[0]), known)
        raise PolicyError(f"{where}: {message}", remedy)
    try:
        return ValidationLimits.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join([where.rpartition(": ")[2], *(str(part) for part in first["loc"])])
        raise PolicyError(
            f"{where.rpartition(': ')[0]}: {field} is {first.get('input')!r}: {first['msg']}.",
            "Correct it; docs/corpora.md says what each field means.",
        ) from error
