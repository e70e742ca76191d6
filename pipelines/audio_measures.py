"""Measures of synthesised audio, computed once a file and version of the measures, in processes of their own.

The quality model takes seconds to load and compile: it does so once a process, and no measure is timed.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from models.types import Record
from pipelines.evaluate import Gathered, item_id
from pipelines.inference import THREAD_VARIABLES
from pipelines.lab import Lab
from pipelines.shards import ShardStore
from pipelines.speech_store import text_sha256
from pipelines.transcribe import Item

SHARD_FILES = 8
"""Files a shard at most: what a killed run loses."""


class MeasuredAudio(Record):
    """The measures of one file, as speech of one text."""

    audio_sha256: str
    """Digest of the file."""
    text_sha256: str
    """Digest of what should be said: rates are about it."""
    measures: dict[str, float]
    """By name; what cannot be measured is not there."""


Task = tuple[str, str, str, str, str]
"""Audio sha256, path, text sha256, text, language: what goes to a process."""


def measure_missing(
    lab: Lab, gathered: Gathered, say_total: Callable[[int], None], advance: Callable[[int], None]
) -> dict[str, dict[str, float]]:
    """Measure every synthesis that has audio; those measured before come from the store.

    Args:
        lab: Whose store and cores to use.
        gathered: The syntheses; their texts are what should be said.
        say_total: Told how many must be measured, if any.
        advance: Told how many more are.

    Returns:
        Item's id → measures by name.

    Raises:
        AudioError: A kept file cannot be read.
        StateError: The store cannot be read or written.
    """
    from pipelines.speech.measures import MEASURES_VERSION

    folder = lab.home.measures / hashlib.sha256(MEASURES_VERSION.encode()).hexdigest()[:16]
    names = ("audio_sha256", "text_sha256")
    store = ShardStore(folder, MeasuredAudio, "measured", names, lambda m: (m.audio_sha256, m.text_sha256))
    items = {item_id(item): item for item in gathered.items if item.audio_sha256}
    known: Mapping[tuple[str, ...], MeasuredAudio] = store.load(_key(item) for item in items.values())
    missing = {_key(item): item for item in items.values() if _key(item) not in known}
    found = {**known}
    if missing:
        say_total(len(missing))
        for measured in _in_processes(lab, list(missing.values())):
            store.add(measured)
            found |= {(m.audio_sha256, m.text_sha256): m for m in measured}
            advance(len(measured))
    return {name: found[_key(item)].measures for name, item in items.items()}


def _key(item: Item) -> tuple[str, str]:
    return item.audio_sha256, text_sha256(item.utterance.text)


def _in_processes(lab: Lab, items: list[Item]) -> Iterator[list[MeasuredAudio]]:
    tasks: list[Task] = [
        (item.audio_sha256, str(item.path), _key(item)[1], item.utterance.text, item.utterance.language) for item in items
    ]
    shards = [tasks[start : start + SHARD_FILES] for start in range(0, len(tasks), SHARD_FILES)]
    workers = min(lab.layout.workers, len(shards))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(lab.layout.threads,)) as pool:
        for future in as_completed([pool.submit(_measure, shard) for shard in shards]):
            yield future.result()


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


def _measure(tasks: list[Task]) -> list[MeasuredAudio]:
    from models.audio import decode
    from pipelines.speech.measures import measure_speech

    out = []
    for audio, path, text_digest, text, language in tasks:
        native = _native_rate_hz(Path(path))
        samples = decode(Path(path), sample_rate_hz=native).samples
        measures = measure_speech(samples, native, text, language)
        out.append(MeasuredAudio(audio_sha256=audio, text_sha256=text_digest, measures=measures))
    return out


def _native_rate_hz(path: Path) -> int:
    import soundfile

    return int(soundfile.info(path).samplerate)
