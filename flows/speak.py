"""The evaluation of a voice as a Prefect flow: synthesise, listen, measure, score, record."""

from __future__ import annotations

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.shards import run_shards
from flows.transcribe import infer_missing
from pipelines.audio_measures import measure_missing, speaker_references
from pipelines.evaluate import Evaluated, Gathered
from pipelines.lab import Lab
from pipelines.listen import gather_heard, gather_speech, prepare_listening, score_speech
from pipelines.policy import read_policy
from pipelines.prepare import EvaluationRequest
from pipelines.progress import listener
from pipelines.record_speech import record_speech
from pipelines.scores import UtteranceScore
from pipelines.synthesize import PreparedSpeech, prepare_speech, synthesize_shard
from pipelines.takes import prepare_takes


@task(name="prepare", cache_policy=NO_CACHE, persist_result=False)
def prepare_voice(lab: Lab, request: EvaluationRequest) -> PreparedSpeech:
    """Resolve the request, fetch weights, read prompts, look into the store."""
    return prepare_speech(lab, request, listener.get().say)


@task(name="measure", cache_policy=NO_CACHE, persist_result=False)
def measure(lab: Lab, prepared: PreparedSpeech, gathered: Gathered) -> dict[str, dict[str, float]]:
    """Measure the audio that was not measured before."""
    progress = listener.get()
    try:
        return measure_missing(
            lab,
            gathered,
            lambda total: progress.start("Measuring", total),
            progress.advance,
            speaker_references(prepared),
        )
    finally:
        progress.finish()


def speak_within(lab: Lab, request: EvaluationRequest) -> Evaluated:
    """Evaluate one voice inside whatever flow calls; gives what a comparison goes on with."""
    started = time.perf_counter()
    policy = read_policy(lab.params, "tts")
    prepared = prepare_voice(lab, request)
    results = run_shards(lab, prepared, prepared.shards, lambda pool, shard: synthesize_shard(pool, prepared.store, shard))
    spoken = gather_speech(prepared, results)
    listening = prepare_listening(lab, prepared, spoken, listener.get().say)
    gathered = gather_heard(prepared, spoken, listening, infer_missing(lab, listening))
    measures = measure(lab, prepared, gathered)
    takes = [say_again(lab, again) for again in prepare_takes(lab, prepared)]
    return record_speech(lab, prepared, spoken, listening, gathered, measures, results, policy, started, takes)


def say_again(lab: Lab, prepared: PreparedSpeech) -> list[UtteranceScore]:
    """Let a voice that draws at random say some prompts once more, and score them as the first time."""
    results = run_shards(lab, prepared, prepared.shards, lambda pool, shard: synthesize_shard(pool, prepared.store, shard))
    spoken = gather_speech(prepared, results)
    listening = prepare_listening(lab, prepared, spoken, listener.get().say)
    gathered = gather_heard(prepared, spoken, listening, infer_missing(lab, listening))
    return score_speech(gathered, spoken, measure(lab, prepared, gathered))
