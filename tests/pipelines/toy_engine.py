"""A recogniser without a model, for tests of everything around one: what it says and does is told by the samples.

A recording's loudest sample is its signal (`SIGNALS`): speak, die once, die always, take memory, raise. What the toy does it
writes into ``notes`` in the card's ``scratch`` folder, so that a test can count loads and calls across processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.card import ModelCard
from models.engine import Placement
from models.errors import AudioError, EngineError, UnspeakableError
from models.types import Record, Speech, Transcript

ENGINE = "tests.pipelines.toy_engine:ToyEngine"
RATE_HZ = 16_000
SIGNALS = {"speech": 0.25, "die once": 0.4, "die": 0.5, "eat memory": 0.6, "refuse": 0.7, "choke": 0.8}
"""What a recording makes the engine do → its loudest sample."""
MEAL_MIB = 200
WEIGHTS = "toy.bin"


class ToyDecoding(Record):
    """How long the engine pretends to think."""

    pause_s: float = 0.0
    """Seconds a call, at least."""
    pauses_s: dict[str, float] = {}
    """Seconds a call by the recording's length in hundredths of a second, instead."""


class ToyEngine:
    """Says how long the recording is, unless the recording tells it to fail."""

    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    Decoding: ClassVar[type[Record]] = ToyDecoding

    def __init__(
        self,
        weights: Path,
        placement: Placement,
        decoding: ToyDecoding,
        *,
        scratch: str,
        name: str = "toy",
        broken: bool = False,
    ) -> None:
        self._scratch, self._name = Path(scratch), name
        self._decoding = decoding
        self._note("load", threads=placement.threads, weights=(weights / WEIGHTS).is_file())
        if broken:
            raise EngineError("The toy is broken.", "Buy another.")

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        loudest = float(np.abs(samples).max())
        signal = min(SIGNALS, key=lambda name: abs(SIGNALS[name] - loudest))
        length = str(round(100 * len(samples) / RATE_HZ))
        warm_up = loudest < 0.1
        self._note("warm up" if warm_up else "call", length=length, signal=signal, language=language)
        if signal == "die once" and not (self._scratch / "died").exists():
            (self._scratch / "died").touch()
            os._exit(17)
        if signal == "die":
            os._exit(18)
        if signal == "refuse":
            raise EngineError("The toy does not play this.", "Play another.")
        if signal == "choke":
            raise AudioError("The toy chokes on this.", "Chew it.")
        if signal == "eat memory":
            np.ones(MEAL_MIB << 17).sum()
        if not warm_up:
            time.sleep(self._decoding.pauses_s.get(length, self._decoding.pause_s))
        return Transcript(text=f"length {length}", language=language)

    def _note(self, what: str, **details: Any) -> None:
        line = json.dumps({"what": what, "name": self._name, "pid": os.getpid(), **details}) + "\n"
        with (self._scratch / "notes").open("a") as file:
            file.write(line)


class ToyVoice:
    """Speaks a tenth of a second a character, as a signal that the toy recogniser knows; refuses digits.

    "..." is said as nothing at all. It streams word by word, and counts what was asked of it.
    """

    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    Decoding: ClassVar[type[Record]] = ToyDecoding
    voices = ("toy",)

    def __init__(self, weights: Path, placement: Placement, decoding: ToyDecoding, *, scratch: str) -> None:
        self._scratch = Path(scratch)

    def synthesize(self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0) -> Speech:
        pieces = [piece.samples for piece in self.stream(text, language=language)]
        return Speech(np.concatenate([np.zeros(0, np.float32), *pieces]), RATE_HZ)

    def stream(
        self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0
    ) -> Iterator[Speech]:
        with (self._scratch / "notes").open("a") as file:
            file.write(json.dumps({"what": "spoken", "text": text, "language": language, "pid": os.getpid()}) + "\n")
        if any(letter.isdigit() for letter in text):
            raise UnspeakableError("This voice cannot read digits.", "Spell them out.")
        for word in text.replace("...", "").split():
            samples = np.full(len(word) * RATE_HZ // 10, 0.01, np.float32)
            samples[len(samples) // 2] = SIGNALS["speech"]
            yield Speech(samples, RATE_HZ)


def toy_voice_card(scratch: Path, **changes: Any) -> ModelCard:
    """A card of the toy voice."""
    voice = {"tasks": ["tts"], "engine": "tests.pipelines.toy_engine:ToyVoice", "summary": "Hums words"}
    return toy_card(scratch, **{**voice, **changes})


def toy_card(scratch: Path, **changes: Any) -> ModelCard:
    """A card of the toy that keeps its notes in ``scratch``; its weights lie there too."""
    scratch.mkdir(parents=True, exist_ok=True)
    content = b"a toy's weights"
    (scratch / WEIGHTS).write_bytes(content)
    weights = {"files": {WEIGHTS: hashlib.sha256(content).hexdigest()}, "sources": [{"kind": "path", "path": str(scratch)}]}
    fields: dict[str, Any] = {
        "name": "toy",
        "summary": "Says how long a recording is",
        "tasks": ["asr"],
        "engine": ENGINE,
        "stage": "experimental",
        "languages": ["en"],
        "licence": "MIT",
        "weights": weights,
        "args": {"scratch": str(scratch)},
        "devices": {"cpu": {"compute_type": "none"}},
    }
    return ModelCard.model_validate({**fields, **changes})


def notes(scratch: Path, what: str) -> list[dict[str, Any]]:
    """What toys with this scratch folder wrote down, in order."""
    path = scratch / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [note for note in map(json.loads, lines) if note["what"] == what]


def write_signal(path: Path, signal: str = "speech", seconds: float = 0.1, *, seed: int | None = None) -> Path:
    """Write a recording that makes the toy do something; a seed gives the same signal other bytes."""
    rng = np.random.default_rng(round(1000 * seconds) if seed is None else seed)
    samples = rng.uniform(-0.05, 0.05, round(seconds * RATE_HZ))
    samples[len(samples) // 2] = SIGNALS[signal]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE_HZ)
    return path


def write_corpus(folder: Path, rows: Sequence[Mapping[str, Any]], config: str | None = None) -> Path:
    """Write a corpus; a row's ``signal`` and ``seconds`` make its recording, ``signal: None`` leaves it out."""
    lines = []
    for number, given in enumerate(rows):
        row = dict(given)
        signal, seconds, seed = row.pop("signal", "speech"), row.pop("seconds", 0.5), row.pop("seed", number)
        row = {"id": f"u{number}", "duration": seconds, "text": f"length {round(100 * seconds)}", **row}
        row.setdefault("audio_filepath", f"{row['id']}.wav")
        lines.append(json.dumps(row) + "\n")
        if signal is not None:
            write_signal(folder / row["audio_filepath"], signal, seconds, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.jsonl").write_text("".join(lines))
    if config is not None:
        (folder / "corpus.yaml").write_text(config)
    return folder
