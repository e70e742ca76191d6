"""Real speech for the tests of its measures: sentences that two voices of the lab say once a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.card import ModelCard
from models.engine import build_engine, placement_of
from pipelines.speech.signal import FloatSamples
from tests.models.conftest import cards, weights_cache, weights_of

__all__ = ["cards", "weights_cache", "weights_of"]

PROMPTS = (
    ("piper-joe", "She sells fresh fish in the small market square every Saturday morning."),
    ("piper-joe", "Seven ships sailed slowly past the lighthouse."),
    ("hibari", "The quick brown fox jumps over the lazy dog, and then it rests beside the river."),
)
"""Voice and text."""


@dataclass(frozen=True)
class Said:
    """One real synthesis."""

    text: str
    samples: FloatSamples
    rate_hz: int


@pytest.fixture(scope="session")
def said(cards: Mapping[str, ModelCard], weights_of: Callable[[str], Path]) -> list[Said]:
    voices = {
        name: build_engine(cards[name], weights_of(name), placement_of(cards[name], "cpu"), "tts")
        for name in {voice for voice, _ in PROMPTS}
    }
    spoken = [(text, voices[name].synthesize(text)) for name, text in PROMPTS]
    return [Said(text, speech.samples, speech.sample_rate_hz) for text, speech in spoken]
