"""A lab with one small corpus that is as it should be, and the validation of corpora in this process."""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from pipelines.lab import Lab, Layout
from pipelines.validate.check import validate_corpus
from pipelines.validate.result import Validation

RATE_HZ = 16_000
TEXTS = ("please open the second door", "it was raining the whole day", "she sells shells by the shore", "")
Row = dict[str, Any]


def speechlike(seconds: float, seed: int, peak: float = 0.3) -> np.ndarray:
    """Noise in bursts: loud enough to hold speech, with pauses."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE_HZ)
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * np.arange(count) / RATE_HZ)
    return (peak * envelope * rng.uniform(-1, 1, count)).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """One corpus on disk, to be broken."""

    bench: Bench
    folder: Path
    rows: list[Row]
    config: dict[str, Any]
    broken: list[str] = field(default_factory=list)
    """Lines that no row makes."""

    def audio(self, number: int) -> Path:
        return self.folder / self.rows[number]["audio_filepath"]

    def sound(self, number: int, samples: np.ndarray, rate_hz: int = RATE_HZ, **how: Any) -> None:
        soundfile.write(self.audio(number), samples, rate_hz, **how)

    def save(self) -> None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        lines += "".join(f"{line}\n" for line in self.broken)
        (self.folder / "manifest.jsonl").write_text(lines, encoding="utf-8", errors="surrogatepass")
        (self.folder / "corpus.yaml").write_text(yaml.safe_dump(self.config))


@dataclass(frozen=True)
class Bench:
    """A lab whose corpora are validated here: Great Expectations is imported once for all tests."""

    lab: Lab

    def case(self, name: str = "calls") -> Case:
        folder = self.lab.data / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "audio").mkdir(parents=True)
        rows = [
            {
                "id": f"u{number}",
                "audio_filepath": f"audio/u{number}.wav",
                "duration": 2.0,
                "text": text,
                "language": "en",
                "speaker": f"s{number}" if text else "none",
                "tags": {"domain": "read" if text else "nonspeech"},
            }
            for number, text in enumerate(TEXTS)
        ]
        case = Case(self, folder, rows, {"name": name, "licence": "internal"})
        for number in range(len(rows)):
            case.sound(number, speechlike(2.0, zlib.crc32(name.encode()) + number))
        case.save()
        return case

    def validate(self, name: str = "calls") -> Validation:
        return validate_corpus(self.lab, name)


@pytest.fixture
def bench(tmp_path: Path, repository: Path) -> Bench:
    shutil.copyfile(repository / "params.yaml", tmp_path / "params.yaml")
    return Bench(Lab(project=tmp_path, home_folder=tmp_path / "home", layout=Layout(workers=2, threads=1)))
