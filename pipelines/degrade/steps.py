"""What can be done to a recording, as ``degrade:`` in ``params.yaml`` names it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from models.errors import PolicyError, unknown_name
from models.types import Record
from pipelines.params import read_section

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
"""Of a variant: it becomes a part of a folder's name and the value of a tag."""


class Noise(Record):
    """Noise is added at a signal-to-noise ratio over the active speech level."""

    kind: Literal["noise"]
    snr_db: float = Field(ge=-30, le=60)
    """Active level of the speech (ITU-T P.56) over the mean power of the noise."""
    file: str | None = None
    """Name of the noise; None to draw one for each recording."""


class Room(Record):
    """The recording is played in a room: convolved with its impulse response, at the same speech level."""

    kind: Literal["room"]
    file: str | None = None
    """Name of the impulse response; None to draw one for each recording."""


class Telephone(Record):
    """The band of a telephone call, 300 to 3400 Hz at 8 kHz (as ITU-T G.712), in the code of one (G.711)."""

    kind: Literal["telephone"]
    law: Literal["a-law", "mu-law", "none"] = "a-law"
    """Companding: A-law in most of the world, mu-law in North America and Japan."""


class Codec(Record):
    """Through a lossy codec and back."""

    kind: Literal["codec"]
    codec: Literal["mp3", "opus"]
    kbps: float = Field(ge=6, le=160)
    """Bit rate: MP3's is held in each frame, to the next that exists at the rate; Opus's is a mean it aims at."""


class Clipping(Record):
    """Recorded too loud: the loudest sample would lie this far beyond full scale, and everything beyond it is cut off."""

    kind: Literal["clipping"]
    over_db: float = Field(gt=0, le=40)


class Speed(Record):
    """Played faster or slower; pitch moves with it."""

    kind: Literal["speed"]
    factor: float = Field(ge=0.5, le=2)
    """1.1 is a tenth faster."""


class Gain(Record):
    """Louder or quieter; what goes beyond full scale is cut off, and counted."""

    kind: Literal["gain"]
    gain_db: float = Field(ge=-60, le=40)


class Padding(Record):
    """Digital silence before and after."""

    kind: Literal["padding"]
    lead_s: float = Field(default=0.0, ge=0, le=60)
    tail_s: float = Field(default=0.0, ge=0, le=60)


Step = Annotated[
    Noise | Room | Telephone | Codec | Clipping | Speed | Gain | Padding,
    Field(discriminator="kind"),
]


class DegradeParams(Record):
    """``degrade:`` in ``params.yaml``."""

    seed: int = 1729
    """With the recording's id it decides which noise, which part of it and which room a recording gets."""
    noise: Path = Path("data/degrade/noise")
    """A folder of noises, or one file; relative to the project."""
    rooms: Path = Path("data/degrade/rooms")
    """A folder of impulse responses, or one file; relative to the project."""
    variants: dict[str, Annotated[tuple[Step, ...], Field(min_length=1)]]
    """Name → what is done, in this order."""

    @field_validator("variants")
    @classmethod
    def _names_are_plain(cls, value: dict[str, tuple[Step, ...]]) -> dict[str, tuple[Step, ...]]:
        for name in value:
            if not NAME.fullmatch(name) or name == ORIGINAL:
                raise ValueError(
                    f"{name!r} cannot name a variant: up to 40 of a-z, 0-9, '.', '_' and '-', and not {ORIGINAL!r}"
                )
        return value

    def find(self, name: str) -> tuple[Step, ...]:
        """The steps of a variant.

        Raises:
            PolicyError: There is none of this name.
        """
        if name not in self.variants:
            raise PolicyError(*unknown_name("variant", name, self.variants))
        return self.variants[name]


ORIGINAL = "original"
"""Value of the tag ``variant`` that recordings have beside their variants."""
VARIANT = "variant"
"""The tag that names a variant."""


def read_degrade(path: Path) -> DegradeParams:
    """Read ``degrade:`` from ``params.yaml``.

    Raises:
        PolicyError: It is missing or wrong; the first fault is named.
    """
    return read_section(path, "degrade", DegradeParams, "docs/corpora.md", holds="names the variants")
