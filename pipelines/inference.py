"""What a worker process does: it loads one engine, and turns recordings or texts into records.

The parent imports nothing of this but the records; engines live in worker processes only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from models.collector import collector_paused
from models.errors import AudioError, EngineError, UnspeakableError
from models.memory import peak_memory_mib, tidy
from models.types import Record, Task
from pipelines.speech_store import SpeechTiming, Synthesis, keep_audio, text_sha256
from pipelines.types import Prediction, Timing

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from models.capabilities import Synthesizer
    from models.card import ModelCard
    from models.engine import Placement
    from models.types import Speech

WARM_UP_S = 1.0
"""Seconds of faint noise a recogniser hears before anything is timed: first calls compile kernels and allocate."""
WARM_UP_TEXT = "One, two, three."
"""What a voice says before anything is timed."""

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Job:
    """One recording to infer."""

    audio_sha256: str
    path: Path
    language: str | None
    """What the engine is told; None to let it detect."""
    duration_s: float
    """As declared; only for planning."""


@dataclass(frozen=True)
class SpeakJob:
    """One text to synthesise."""

    text: str
    language: str | None
    """What the engine is told; None for the voice's own."""
    folder: Path
    """Where the audio is kept."""


@dataclass(frozen=True)
class EngineSpec:
    """What a worker needs to build its engine."""

    card: ModelCard
    weights: Path
    placement: Placement
    fingerprint: str
    task: Task


@dataclass(frozen=True)
class WorkerReport:
    """What a worker cost so far."""

    pid: int
    load_s: float
    """Importing the library and loading the weights."""
    peak_mib: float
    """High-water mark of the process's resident memory."""


@dataclass(frozen=True)
class ShardResult(Generic[R]):
    """What came of one shard."""

    records: tuple[R, ...]
    failures: tuple[tuple[str, str], ...]
    """(sha256 of the audio or the text, reason) of what cannot be used."""
    workers: tuple[WorkerReport, ...]
    """A report of who did it for each item, in their order."""

    @classmethod
    def joined(cls, parts: Sequence[ShardResult[R]]) -> ShardResult[R]:
        """Put what came of several shards together."""
        return cls(
            records=tuple(record for part in parts for record in part.records),
            failures=tuple(failure for part in parts for failure in part.failures),
            workers=tuple(worker for part in parts for worker in part.workers),
        )


@dataclass
class _Loaded:
    """The engine of this worker process."""

    spec: EngineSpec
    engine: Any
    """A `Transcriber` or a `Synthesizer`, as the spec's task says."""
    load_s: float


_loaded: _Loaded | None = None
_load_error: Exception | None = None


def load(spec: EngineSpec) -> None:
    """Build the engine; an error is kept for the first call, for an initializer's own would only say "broken pool"."""
    global _loaded, _load_error
    assert _loaded is None, "an engine is loaded once a worker"
    # Ctrl-C reaches the whole process group; what becomes of a worker is its parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    try:
        from models.engine import build_engine

        start = time.perf_counter()
        with collector_paused():
            engine = build_engine(spec.card, spec.weights, spec.placement, spec.task)
        load_s = time.perf_counter() - start
        _warm_up(engine, spec)
        _loaded = _Loaded(spec, engine, load_s)
    except Exception as error:
        _load_error = error


def _end_with_parent(parent: BaseProcess) -> None:
    """End this worker when its parent is gone, also if that was before it asked: a killed run leaves no models in memory."""
    parent.join()
    os._exit(1)


def _warm_up(engine: Any, spec: EngineSpec) -> None:
    quicker = getattr(engine, "warm_up", None)
    if quicker is not None:
        quicker()
        return
    language = "en" if spec.card.understands("en") else spec.card.languages[0]
    if spec.task == "tts":
        engine.synthesize(WARM_UP_TEXT, language=language)
        return
    from models.audio import SAMPLE_RATE_HZ

    noise = np.random.default_rng(0).normal(0, 1e-3, int(WARM_UP_S * SAMPLE_RATE_HZ)).astype(np.float32)
    engine.transcribe(noise, language=language)


def infer(job: Job) -> ShardResult[Prediction]:
    """Transcribe a recording; one that cannot be used is set aside."""
    return _done(_predict, job, job.audio_sha256)


def speak(job: SpeakJob) -> ShardResult[Synthesis]:
    """Synthesise a text and keep its audio."""
    return _done(_synthesize, job, text_sha256(job.text))


J = TypeVar("J", Job, SpeakJob)


def _done(do: Callable[[_Loaded, J], R], job: J, name: str) -> ShardResult[R]:
    if _loaded is None:
        raise _load_error or EngineError("The worker has no engine.", "This is a fault in modellab; please report it.")
    records: tuple[R, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()
    try:
        records = (do(_loaded, job),)
    except AudioError as error:
        failures = ((name, str(error)),)
    tidy()
    # An engine in an environment of its own has a process there, which costs as much as if it were here.
    peak_mib = peak_memory_mib() + getattr(_loaded.engine, "peak_memory_mib", 0.0)
    return ShardResult(records, failures, (WorkerReport(os.getpid(), _loaded.load_s, peak_mib),))


def _predict(loaded: _Loaded, job: Job) -> Prediction:
    from models.audio import decode

    start = time.perf_counter()
    audio = decode(job.path)
    decoded = time.perf_counter()
    transcript = loaded.engine.transcribe(audio.samples, language=job.language)
    done = time.perf_counter()
    return Prediction(
        audio_sha256=job.audio_sha256,
        model_fingerprint=loaded.spec.fingerprint,
        task=loaded.spec.task,
        language=job.language,
        audio_s=audio.duration_s,
        transcript=transcript,
        timing=Timing(inference_s=done - decoded, decode_s=decoded - start),
    )


def _synthesize(loaded: _Loaded, job: SpeakJob) -> Synthesis:
    def said(speech: Speech | None, timing: SpeechTiming, refusal: str | None = None) -> Synthesis:
        return Synthesis(
            text_sha256=text_sha256(job.text),
            model_fingerprint=loaded.spec.fingerprint,
            language=job.language,
            audio_s=speech.duration_s if speech else 0.0,
            sample_rate_hz=speech.sample_rate_hz if speech else None,
            audio_sha256=keep_audio(speech, job.folder) if speech else None,
            refusal=refusal,
            cost=speech.cost if speech else None,
            timing=timing,
        )

    try:
        return said(*timed_speech(loaded.engine, job.text, job.language))
    except UnspeakableError as error:
        return said(None, SpeechTiming(inference_s=0.0, first_audio_s=0.0), str(error))


def timed_speech(engine: Synthesizer, text: str, language: str | None) -> tuple[Speech | None, SpeechTiming]:
    """Synthesise one text; where the engine streams, the time of its first piece is that of the first audio.

    None where it gave no piece at all.
    """
    from models.types import Speech

    start = time.perf_counter()
    stream = getattr(engine, "stream", None)
    if stream is None:
        speech = engine.synthesize(text, language=language)
        done = time.perf_counter()
        return speech, SpeechTiming(inference_s=done - start, first_audio_s=done - start)
    pieces: list[Speech] = []
    first: float | None = None
    for piece in stream(text, language=language):
        if first is None and len(piece.samples):
            first = time.perf_counter()
        pieces.append(piece)
    done = time.perf_counter()
    timing = SpeechTiming(inference_s=done - start, first_audio_s=(first or done) - start)
    if not pieces:
        return None, timing
    costs = [piece.cost for piece in pieces if piece.cost is not None]
    samples = np.concatenate([piece.samples for piece in pieces])
    return Speech(samples, pieces[0].sample_rate_hz, cost=sum(costs) if costs else None), timing
