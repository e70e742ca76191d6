"""Earlier evaluations of the same data by other models: what they heard bears witness about references and about spread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from models.card import ConvertSource, ModelCard
from pipelines.align import align
from pipelines.home import Home
from pipelines.scores import UtteranceScore
from pipelines.types import Evaluation, EvaluationFingerprint

NEWEST = 50
"""Evaluations looked at: the newest ones, for a home may hold thousands."""


@dataclass(frozen=True)
class Witness:
    """An earlier evaluation."""

    evaluation: Evaluation
    scores: Sequence[UtteranceScore]


def newest_evaluations(home: Home) -> Iterator[Evaluation]:
    """Give the evaluations kept in a home, newest first."""
    pages = sorted(home.evaluations.glob("*/evaluation.json"), key=lambda path: -path.stat().st_mtime)
    for path in pages[:NEWEST]:
        try:
            yield Evaluation.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            continue  # of another version, or being written


def witnesses(home: Home, fingerprint: EvaluationFingerprint, model: str) -> list[Witness]:
    """Find the newest evaluation of every other model on the same data, scored the same way."""
    found: dict[str, Witness] = {}
    for evaluation in newest_evaluations(home):
        theirs = evaluation.fingerprint
        alike = (theirs.corpora, theirs.normalizers) == (fingerprint.corpora, fingerprint.normalizers)
        known = evaluation.model == model or evaluation.model in found
        if alike and not known and Path(evaluation.predictions).is_file():
            found[evaluation.model] = Witness(evaluation, read_scores(Path(evaluation.predictions)))
    return list(found.values())


def read_scores(path: Path) -> list[UtteranceScore]:
    """Read the scores of an evaluation back from its Parquet file; times are left behind."""
    import pyarrow.parquet as pq

    scores = []
    for row in pq.ParquetFile(path).read().to_pylist():
        words, characters, alignment = align(row["normalized_reference"], row["normalized_hypothesis"])
        scores.append(
            UtteranceScore(
                id=f"{row['corpus']}/{row['id']}",
                speaker=row["speaker"],
                language=row["language"],
                tags=json.loads(row["tags"]),
                audio_s=row["audio_s"],
                normalizer=row["normalizer"],
                reference=row["reference"],
                hypothesis=row["hypothesis"],
                normalized_reference=row["normalized_reference"],
                normalized_hypothesis=row["normalized_hypothesis"],
                words=words,
                characters=characters,
                alignment=alignment,
                confidence=row["confidence"],
                measures=json.loads(row.get("measures") or "{}"),
            )
        )
    return scores


def weights_group(model: str, cards: Mapping[str, ModelCard]) -> str:
    """Name the card that a model's weights come from: models converted from one card share theirs.

    The agreement of two engines on the same weights says nothing about a reference.
    """
    card = cards.get(model)
    seen: set[str] = set()
    while card is not None and card.name not in seen:
        seen.add(card.name)
        origin = next((source.card for source in card.weights.sources if isinstance(source, ConvertSource)), None)
        if origin is None:
            return card.name
        card = cards.get(origin)
    return model
