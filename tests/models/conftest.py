"""What the tests of models share: shipped cards, real weights, real clips, and a card made to order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.audio import decode
from models.capabilities import Transcriber
from models.card import ModelCard, read_cards
from models.engine import build_engine, placement_of
from models.errors import WeightsError
from models.weights import fetch

REPOSITORY = Path(__file__).parents[2]
STARTER = REPOSITORY / "data" / "starter" / "audio"


@pytest.fixture(scope="session")
def cards() -> Mapping[str, ModelCard]:
    return read_cards()


@pytest.fixture(scope="session")
def weights_cache() -> Path:
    return Path(os.environ.get("MODELLAB_HOME", REPOSITORY / ".modellab")) / "weights"


@pytest.fixture(scope="session")
def weights_of(cards: Mapping[str, ModelCard], weights_cache: Path) -> Callable[[str], Path]:
    """Folder of a shipped card's real weights, fetched where they are missing."""

    def get(name: str) -> Path:
        try:
            return fetch(cards[name], cards, weights_cache, lambda line: None).folder
        except WeightsError as error:
            pytest.fail(str(error))

    return get


@pytest.fixture(scope="session")
def engine(cards: Mapping[str, ModelCard], weights_of: Callable[[str], Path]) -> Callable[..., Transcriber]:
    """A real engine on the CPU; one is built per card and decoding settings."""
    built: dict[str, Transcriber] = {}

    def get(name: str, **decoding: Any) -> Transcriber:
        key = f"{name} {sorted(decoding.items())}"
        if key not in built:
            card = cards[name].model_copy(update={"decoding": {**cards[name].decoding, **decoding}})
            built[key] = build_engine(card, weights_of(name), placement_of(card, "cpu"))
        return built[key]

    return get


@pytest.fixture(scope="session")
def clip() -> Callable[[str], NDArray[np.float32]]:
    """Samples of a starter clip, by file name."""

    def get(name: str) -> NDArray[np.float32]:
        if not STARTER.is_dir():
            pytest.fail("the starter corpus is not here: run `dvc pull` (`make test` does)")
        return decode(STARTER / name).samples

    return get


@pytest.fixture
def make_card() -> Callable[..., ModelCard]:
    """A small valid card; keyword arguments replace its fields."""

    def make(**changes: Any) -> ModelCard:
        fields: dict[str, Any] = {
            "name": "toy",
            "summary": "A card for tests",
            "tasks": ["asr"],
            "engine": "models.engines.faster_whisper:FasterWhisper",
            "stage": "experimental",
            "languages": ["en"],
            "licence": "MIT",
            "weights": {"files": {}, "sources": []},
            "devices": {"cpu": {"compute_type": "int8"}, "cuda": {"compute_type": "float16"}},
        }
        return ModelCard.model_validate({**fields, **changes})

    return make
