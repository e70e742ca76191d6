"""What tests of the pipelines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.audio import file_sha256
from pipelines.inference import Job
from tests.pipelines.toy_engine import write_signal
from tests.pipelines.toy_workers import Write


@pytest.fixture
def job(tmp_path: Path) -> Write:
    """Write a recording and make its job."""
    made = 0

    def make(signal: str = "speech", seconds: float = 0.1, language: str | None = "en") -> Job:
        nonlocal made
        made += 1
        path = write_signal(tmp_path / "audio" / f"{made}.wav", signal, seconds, seed=made)
        return Job(file_sha256(path), path, language, seconds)

    return make
