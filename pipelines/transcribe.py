"""From a selection of recordings to predictions: what is missing in the store is planned into shards and inferred."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.audio import file_sha256
from models.card import ModelCard
from models.types import Task
from pipelines.corpus import Corpus
from pipelines.inference import Job, ShardResult
from pipelines.store import PredictionKey, PredictionStore, prediction_key
from pipelines.types import Prediction, Quarantined, Utterance
from pipelines.workers import WorkerPool

SHARD_RECORDINGS = 8
"""Recordings a shard at most: what a killed run loses."""
SHARD_AUDIO_S = 120.0
"""Seconds of audio a shard at most, unless one recording is longer."""


@dataclass(frozen=True)
class Item:
    """One utterance of the selection, with its file found and hashed."""

    corpus: str
    utterance: Utterance
    path: Path
    audio_sha256: str
    normalizer: str


@dataclass(frozen=True)
class Selection:
    """What an evaluation runs over, and what was left out before it began."""

    items: tuple[Item, ...]
    missing: tuple[Quarantined, ...]
    """Recordings whose file cannot be read."""
    unsupported: tuple[Item, ...]
    """Utterances in languages that the card does not claim."""


@dataclass(frozen=True)
class Plan:
    """What is known already and what must be inferred."""

    known: Mapping[PredictionKey, Prediction]
    shards: tuple[tuple[Job, ...], ...]

    @property
    def recordings(self) -> int:
        """Recordings to infer."""
        return sum(len(shard) for shard in self.shards)


def select_items(
    corpora: Iterable[tuple[Corpus, Sequence[Utterance]]], card: ModelCard, normalizer: str | None = None
) -> Selection:
    """Find and hash the files, and part the utterances that the model understands from the rest.

    Args:
        corpora: Each with the utterances chosen from it.
        card: The model.
        normalizer: Preset for all, instead of what each corpus chooses.
    """
    items: list[Item] = []
    missing: list[Quarantined] = []
    for corpus, utterances in corpora:
        for utterance in utterances:
            path = corpus.audio_path(utterance)
            try:
                digest = file_sha256(path)
            except OSError as error:
                reason = f"{path.name} cannot be read ({error.strerror}). Run `dvc pull`, or correct the manifest."
                missing.append(Quarantined(id=utterance.id, audio_filepath=utterance.audio_filepath, reason=reason))
                continue
            preset = normalizer or corpus.config.normalizers.of(utterance)
            items.append(Item(corpus.name, utterance, path, digest, preset))
    return Selection(
        items=tuple(item for item in items if card.understands(item.utterance.language)),
        missing=tuple(missing),
        unsupported=tuple(item for item in items if not card.understands(item.utterance.language)),
    )


def key_of(item: Item, task: Task) -> PredictionKey:
    """Key of an item's prediction."""
    return prediction_key(item.audio_sha256, task, item.utterance.language)


def plan(items: Iterable[Item], task: Task, store: PredictionStore) -> Plan:
    """Split the items into what the store has and shards of what it has not.

    The same recording listed twice is inferred once. Long recordings go first, so that the workers end together.
    """
    by_key = {key_of(item, task): item for item in items}
    known = store.load(by_key)
    todo = sorted((item for key, item in by_key.items() if key not in known), key=lambda i: -i.utterance.duration)
    jobs = [Job(item.audio_sha256, item.path, item.utterance.language, item.utterance.duration) for item in todo]
    return Plan(known, tuple(_shards(jobs)))


def _shards(jobs: Sequence[Job]) -> Iterable[tuple[Job, ...]]:
    start = 0
    while start < len(jobs):
        end, audio_s = start + 1, jobs[start].duration_s
        while end < min(start + SHARD_RECORDINGS, len(jobs)) and audio_s + jobs[end].duration_s <= SHARD_AUDIO_S:
            audio_s += jobs[end].duration_s
            end += 1
        yield tuple(jobs[start:end])
        start = end


def transcribe_shard(store: PredictionStore, pool: WorkerPool, shard: Sequence[Job]) -> ShardResult[Prediction]:
    """Infer one shard and keep it: the step that a flow retries."""
    result = pool.run(shard)
    store.add(result.records)
    return result
