"""An engine without a model, for tests of what lies between an engine's process and ours: texts tell it what to do."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.engine import Placement
from models.errors import AudioError, EngineError
from models.types import Record, Segment, Speech, Transcript, Word

ENGINE = "tests.models.elsewhere_toy:ElsewhereToy"
RATE_HZ = 24_000
MEAL_MIB = 300
LAST_WORDS = "the toy falls over"


class ToyDecoding(Record):
    broken: bool = False


class ElsewhereToy:
    """Counts samples, says how long a text is, and fails as it is told."""

    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    Decoding: ClassVar[type[Record]] = ToyDecoding

    def __init__(self, weights: Path, placement: Placement, decoding: ToyDecoding, *, name: str = "toy") -> None:
        if decoding.broken:
            raise EngineError("The toy is broken.", "Buy another.")
        print("a library that greets on standard output")
        self._name, self._weights, self._placement = name, weights, placement

    @property
    def voices(self) -> tuple[str, ...]:
        return (self._name, "Zoë")

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        print("and chatters")
        total = float(np.abs(samples).sum())
        word = Word(text=f"{total:.6g}", start_s=0.0, end_s=1 / 3, probability=0.1)
        text = f"{len(samples)} {self._weights} {self._placement}"
        return Transcript(text=text, segments=(Segment(text=text, start_s=0, end_s=1, words=(word,)),), language=language)

    def transcribe_batch(self, recordings: list[NDArray[np.float32]], *, language: str | None) -> list[Transcript]:
        return [self.transcribe(samples, language=language) for samples in recordings]

    def whereabouts(self) -> list[str]:
        return [str(os.getpid()), sys.prefix, *sys.path]

    def synthesize(self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0) -> Speech:
        match text:
            case "refuse":
                raise EngineError(f"No voice {voice!r}, “quoted”.", "Choose another.")
            case "choke":
                raise AudioError("The toy chokes.", "Chew it.")
            case "crash":
                raise ZeroDivisionError("a library's own")
            case "exit":
                print(LAST_WORDS, file=sys.stderr)
                os._exit(7)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "eat":
                np.ones(MEAL_MIB << 17).sum()
            case "float64":
                return Speech(np.zeros(3), RATE_HZ)  # type: ignore[arg-type]
        samples = np.linspace(-1, 1, len(text) * 100, dtype=np.float32) / speed
        return Speech(samples, RATE_HZ, (Segment(text=text, start_s=0, end_s=len(samples) / RATE_HZ),), cost=0.01)

    def stream(self, text: str, *, voice: str | None = None) -> Iterator[Speech]:
        if voice == "nobody":
            raise EngineError("No such voice.", "Choose another.")
        return (self.synthesize(word) for word in text.split())
