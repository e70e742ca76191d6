"""The evaluation of a voice as a Prefect flow: synthesise, listen, measure, score, record."""

from __future__ import annotations

import time
from functools import partial

from flows.shards import run_shards, workers
from flows.steps import step
from flows.transcribe import infer_missing
from pipelines.audio_measures import measure_missing, speaker_references
from pipelines.evaluate import Evaluated, Gathered
from pipelines.inference import ShardResult
from pipelines.lab import Lab
from pipelines.listen import gather_heard, gather_speech, prepare_listening, score_speech
from pipelines.policy import read_policy
from pipelines.prepare import EvaluationRequest, Prepared
from pipelines.progress import listener
from pipelines.record import preload_with_drawing
from pipelines.record_speech import record_speech
from pipelines.scores import UtteranceScore
from pipelines.synthesize import PreparedSpeech, prepare_speech, synthesize_shard
from pipelines.takes import prepare_takes, say_takes
from pipelines.types import Prediction


@step("prepare")
def prepare_voice(lab: Lab, request: EvaluationRequest) -> PreparedSpeech:
    """Resolve the request, fetch weights, read prompts, look into the store."""
    return prepare_speech(lab, request, listener.get().say)


@step("measure")
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
    gathered = gather_heard(prepared, spoken, listening, hear(lab, listening))
    measures = measure(lab, prepared, gathered)
    takes = say_again(lab, prepared)
    return record_speech(lab, prepared, spoken, listening, gathered, measures, results, policy, started, takes)


def hear(lab: Lab, listening: Prepared) -> list[ShardResult[Prediction]]:
    """Let the recogniser transcribe what was said and not heard before."""
    with workers(lab, listening, listening.plan.shards) as pool:
        return infer_missing(listening, pool, partial(preload_with_drawing, lab))


def say_again(lab: Lab, prepared: PreparedSpeech) -> list[list[UtteranceScore]]:
    """Let a voice that draws at random say some prompts several times; the scores of each take, none of other voices."""
    takes = prepare_takes(lab, prepared)
    if takes is None:
        return []
    run_shards(lab, prepared, takes.shards, lambda pool, shard: say_takes(pool, takes.stores, shard))
    scores = []
    for said in takes.said():
        spoken = gather_speech(said, [])
        listening = prepare_listening(lab, said, spoken, listener.get().say)
        gathered = gather_heard(said, spoken, listening, hear(lab, listening))
        scores.append(score_speech(gathered, spoken, measure(lab, said, gathered)))
    return scores
