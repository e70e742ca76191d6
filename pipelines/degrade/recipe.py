"""How a variant was made: its recipe, and what became of each recording."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.types import Record
from pipelines.degrade.effects import Means
from pipelines.degrade.steps import Step

VERSION = "1"
"""Of the effects: raised whenever the same recipe would give other bytes."""
LIBRARIES = ("numpy", "scipy", "soxr", "soundfile")
"""Their versions are a part of the recipe, for a release may move a sample."""
RECORD = "variant.json"


class Recipe(Record):
    """Everything that decides a variant's bytes, beside the recordings."""

    source: str
    """The corpus."""
    variant: str
    """Name of the variant."""
    steps: tuple[Step, ...]
    """What is done."""
    seed: int
    """See `DegradeParams.seed`."""
    sounds: dict[str, str]
    """Noise or impulse response → sha256 of its file."""
    libraries: dict[str, str]
    """Library → version."""
    version: str = VERSION
    """See `VERSION`."""

    @property
    def digest(self) -> str:
        """Digest of all the above."""
        return hashlib.sha256(self.model_dump_json().encode("utf-8")).hexdigest()


class Made(Record):
    """One recording of a variant."""

    id: str
    """Of the utterance, in both corpora."""
    source_sha256: str
    """Digest of the recording it was made of."""
    audio_filepath: str
    """Where it is, relative to the variant's folder."""
    duration: float
    """Length in seconds."""
    facts: dict[str, str]
    """What was drawn and done."""
    tags: dict[str, str]
    """Tags that the steps made untrue, with what is true."""
    clipped: int
    """Samples cut off at full scale."""


class Variant(Record):
    """``variant.json``: how a variant was made. Its presence marks a folder that may be made anew."""

    recipe: Recipe
    recordings: tuple[Made, ...]


class VariantReport(Record):
    """What making one variant came to. `corpus degrade --json` prints a list of them."""

    corpus: str
    """Name of the new corpus."""
    variant: str
    """Value of its tag ``variant``."""
    folder: Path
    """Where it is."""
    recordings: int
    """How many it has."""
    made: int
    """Recordings made in this run; the rest were there."""
    minutes: float
    """Length of all."""
    clipped: int
    """Recordings in which samples were cut off at full scale."""


def libraries() -> dict[str, str]:
    """Versions of `LIBRARIES`, and of libsndfile, whose encoders and decoders are used."""
    import soundfile

    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {**found, "libsndfile": soundfile.__libsndfile_version__}


def read_variant(folder: Path) -> Variant | None:
    """Read how a variant was made; None where the folder is none, or its record cannot be read."""
    try:
        return Variant.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def describe(steps: Iterable[Step]) -> str:
    """Say what is done, in words: ``noise (snr_db 10), telephone (law a-law)``."""
    return ", ".join(_described(step.model_dump(exclude={"kind"}, exclude_none=True), step.kind) for step in steps)


def _described(values: Mapping[str, Any], kind: str) -> str:
    inside = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items())
    return f"{kind} ({inside})" if inside else kind


def sounds_used(steps: Sequence[Step], means: Means) -> dict[str, str]:
    """The noises and rooms that a variant may draw from, with their digests."""
    kinds = {step.kind for step in steps}
    used = {f"noise/{sound.name}": sound.sha256 for sound in means.noises if "noise" in kinds}
    return used | {f"room/{sound.name}": sound.sha256 for sound in means.rooms if "room" in kinds}
