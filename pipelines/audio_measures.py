"""Measures of synthesised audio, computed once a file and version of the measures, in processes of their own.

The quality model takes seconds to load and compile: it does so once a process, and no measure is timed.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

from models.types import Record
from pipelines.evaluate import Gathered, item_id
from pipelines.lab import Lab
from pipelines.processes import spawn_pool
from pipelines.shards import ShardStore
from pipelines.speech.speaker import SpeakerReference
from pipelines.speech_store import text_sha256
from pipelines.synthesize import PreparedSpeech
from pipelines.transcribe import Item

SHARD_FILES = 8
"""Files a shard at most: what a killed run loses."""


class MeasuredAudio(Record):
    """The measures of one file, as speech of one text."""

    audio_sha256: str
    """Digest of the file."""
    text_sha256: str
    """Digest of what should be said: rates are about it."""
    reference_sha256: str = ""
    """Digest of the recording of the speaker that it should sound like; empty for none."""
    measures: dict[str, float]
    """By name; what cannot be measured is not there."""


@dataclass(frozen=True)
class Reference:
    """Whom one synthesis should sound like."""

    sha256: str
    """Of the recording."""
    speaker: SpeakerReference


@dataclass(frozen=True)
class MeasureTask:
    """What goes to a process."""

    item: Item
    reference: Reference | None

    @property
    def key(self) -> tuple[str, str, str]:
        """Of what is measured: audio, text, reference."""
        digest = self.reference.sha256 if self.reference is not None else ""
        return self.item.audio_sha256, text_sha256(self.item.utterance.text), digest


def speaker_references(prepared: PreparedSpeech) -> dict[str, Reference]:
    """Item's id → whom its synthesis should sound like, of the prompts that say it."""
    encoder = prepared.speaker_encoder
    if encoder is None:
        return {}
    return {
        item.id: Reference(item.reference.sha256, SpeakerReference(recording=item.reference.path, encoder=encoder))
        for item in prepared.items
        if item.reference is not None
    }


def measure_missing(
    lab: Lab,
    gathered: Gathered,
    say_total: Callable[[int], None],
    advance: Callable[[int], None],
    references: Mapping[str, Reference] = {},
) -> dict[str, dict[str, float]]:
    """Measure every synthesis that has audio; those measured before come from the store.

    Args:
        lab: Whose store and cores to use.
        gathered: The syntheses; their texts are what should be said.
        say_total: Told how many must be measured, if any.
        advance: Told how many more are.
        references: Item's id → whom its synthesis should sound like.

    Returns:
        Item's id → measures by name.

    Raises:
        AudioError: A kept file cannot be read.
        StateError: The store cannot be read or written.
    """
    from pipelines.speech.measures import MEASURES_VERSION

    folder = lab.home.measures / hashlib.sha256(MEASURES_VERSION.encode()).hexdigest()[:16]
    names = ("audio_sha256", "text_sha256", "reference_sha256")
    store = ShardStore(folder, MeasuredAudio, "measured", names, _key)
    tasks = {item_id(item): MeasureTask(item, references.get(item_id(item))) for item in gathered.items if item.audio_sha256}
    known: Mapping[tuple[str, ...], MeasuredAudio] = store.load(task.key for task in tasks.values())
    missing = {task.key: task for task in tasks.values() if task.key not in known}
    found = {**known}
    if missing:
        say_total(len(missing))
        for measured in _in_processes(lab, list(missing.values())):
            store.add(measured)
            found |= {_key(m): m for m in measured}
            advance(len(measured))
    return {name: found[task.key].measures for name, task in tasks.items()}


def _key(measured: MeasuredAudio) -> tuple[str, str, str]:
    return measured.audio_sha256, measured.text_sha256, measured.reference_sha256


def _in_processes(lab: Lab, tasks: list[MeasureTask]) -> Iterator[list[MeasuredAudio]]:
    shards = [tasks[start : start + SHARD_FILES] for start in range(0, len(tasks), SHARD_FILES)]
    workers = min(lab.layout.workers, len(shards))
    with spawn_pool(workers, lab.layout.threads, _begin) as pool:
        for future in as_completed([pool.submit(_measure, shard) for shard in shards]):
            yield future.result()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _measure(tasks: list[MeasureTask]) -> list[MeasuredAudio]:
    from models.audio import decode
    from pipelines.speech.measures import measure_speech

    out = []
    for task in tasks:
        native = _native_rate_hz(task.item.path)
        samples = decode(task.item.path, sample_rate_hz=native).samples
        speaker = task.reference.speaker if task.reference is not None else None
        utterance = task.item.utterance
        measures = measure_speech(samples, native, utterance.text, utterance.language, speaker=speaker)
        audio, text, reference = task.key
        out.append(MeasuredAudio(audio_sha256=audio, text_sha256=text, reference_sha256=reference, measures=measures))
    return out


def _native_rate_hz(path: Path) -> int:
    import soundfile

    return int(soundfile.info(path).samplerate)
