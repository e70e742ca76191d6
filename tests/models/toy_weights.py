"""What the tests of weights share: two small files, a card's sources of them, and fetching in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.card import ModelCard
from models.errors import WeightsError
from models.weights import PARTIAL, fetch

A, B = b"weights" * 1000, b'{"layers": 2}'
FILES = {"model.bin": hashlib.sha256(A).hexdigest(), "sub/config.json": hashlib.sha256(B).hexdigest()}
REVISION = "a" * 40


def quiet(line: str) -> None:
    pass


def folder_source(folder: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "path", "path": str(folder), **more}


def write(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def fails(card: ModelCard, cache: Path, cards: Mapping[str, ModelCard] | None = None) -> str:
    """Fetch in vain: nothing is left behind, and the reasons are returned."""
    with pytest.raises(WeightsError) as caught:
        fetch(card, cards or {}, cache, quiet)
    assert not (cache / card.name).exists()
    assert not (cache / PARTIAL / card.name).exists()
    return caught.value.message


def fetch_elsewhere(cache: Path, *cards: ModelCard, **environment: str) -> subprocess.Popen[str]:
    """Fetch the first card in a process of its own; it prints what it was told, then the error or ``done``."""
    code = """
import sys
from pathlib import Path
from models.card import ModelCard
from models.errors import WeightsError
from models.weights import fetch
cards = [ModelCard.model_validate_json(text) for text in sys.argv[2:]]
try:
    fetch(cards[0], {card.name: card for card in cards}, Path(sys.argv[1]), lambda line: print(line, flush=True))
    print("done")
except WeightsError as error:
    print(error)
"""
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | environment
    command = [sys.executable, "-c", code, str(cache), *(card.model_dump_json() for card in cards)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
