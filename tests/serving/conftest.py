"""Real models, loaded once; a service on them; and its log."""

from __future__ import annotations

import io
import json
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
from tests.serving.evaluated_lab import Shipped, ship_recogniser

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
def ids(starter: Path) -> tuple[str, ...]:
    """Three short recordings in which somebody speaks."""
    rows = [json.loads(line) for line in (starter / "manifest.jsonl").read_text().splitlines()]
    short = sorted((row for row in rows if row["text"]), key=lambda row: row["duration"])
    return tuple(row["id"] for row in short[5:8])


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory, starter: Path, shared_weights: Path, ids: tuple[str, ...]) -> Shipped:
    # Below a folder with a dot, as the default home is: BentoML refuses to read its build options there.
    return ship_recogniser(tmp_path_factory.mktemp("lab") / ".hidden", shared_weights, starter, ids)


@pytest.fixture(scope="session")
def audio() -> Path:
    return Path(__file__).parents[2] / "data" / "starter" / "audio"
