"""Real models, loaded once; a service on them; and its log."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from service import HEARER, SPEAKER, Running, serving

from models.calibration_map import CalibrationMap
from models.card import read_cards
from models.weights import fetch
from serving import logs
from serving.served import ServedModel, load

CALIBRATION = CalibrationMap(x=(0.0, 0.5, 1.0), y=(0.0, 0.3, 0.9), n=100, fitted_on="made up for the tests")


@pytest.fixture(scope="session")
def held(shared_weights: Path) -> Mapping[str, ServedModel]:
    cards = read_cards()
    models = {
        name: load(
            cards[name],
            fetch(cards[name], cards, shared_weights, lambda line: None),
            calibration=CALIBRATION if name == HEARER else None,
            created=1_700_000_000,
        )
        for name in (HEARER, SPEAKER)
    }
    for model in models.values():
        model.warm_up()
    return models


@pytest.fixture(scope="session")
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(stream)
    return stream


@pytest.fixture(scope="session")
def service(held: Mapping[str, ServedModel], log: io.StringIO) -> Iterator[Running]:
    with serving(held) as running:
        yield running


@pytest.fixture(scope="session")
def audio() -> Path:
    return Path(__file__).parents[2] / "data" / "starter" / "audio"
