"""The prediction store: what a model said about a recording is computed once, ever.

Key = audio's sha256, the model's fingerprint, and what was asked (task and language); see `pipelines.shards`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from models.types import Task
from pipelines.shards import ShardStore
from pipelines.types import Prediction

PredictionKey: TypeAlias = tuple[str, ...]
"""Audio sha256, task, language told ("" where the engine had to detect it)."""


def prediction_key(audio_sha256: str, task: Task, language: str | None) -> PredictionKey:
    """Key of a prediction within one model."""
    return audio_sha256, task, language or ""


class PredictionStore(ShardStore[Prediction]):
    """Predictions of one model, by `PredictionKey`."""

    def __init__(self, folder: Path, model_fingerprint: str) -> None:
        """Open the store under ``folder`` for the model with this fingerprint; nothing is read yet."""
        self._fingerprint = model_fingerprint
        super().__init__(
            folder / model_fingerprint,
            Prediction,
            "prediction",
            ("audio_sha256", "task", "language"),
            lambda prediction: prediction_key(prediction.audio_sha256, prediction.task, prediction.language),
        )

    def add(self, records: Sequence[Prediction]) -> None:
        """Write one shard of this model; see `ShardStore.add`."""
        assert all(record.model_fingerprint == self._fingerprint for record in records)
        super().add(records)
