"""From prompts to speech: what is missing in the store is planned into shards and synthesised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import AudioError, CorpusError
from models.speaker_encoder import fetch_speaker_encoder
from pipelines.inference import ShardResult, SpeakJob
from pipelines.lab import Lab
from pipelines.prepare import EvaluationRequest, Resolved, Say, choose_prompts, resolve
from pipelines.prompts import Prompt, PromptCorpus
from pipelines.speech_store import SpeechStore, Synthesis, text_sha256
from pipelines.workers import WorkerPool

SHARD_PROMPTS = 4
"""Prompts a shard at most: what a killed run loses."""


@dataclass(frozen=True)
class SpeakerRecording:
    """A recording of the speaker that a voice should sound like."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class PromptItem:
    """One prompt of the selection."""

    corpus: str
    prompt: Prompt
    normalizer: str
    reference: SpeakerRecording | None = None

    @property
    def id(self) -> str:
        """Unique id in an evaluation of several corpora."""
        return f"{self.corpus}/{self.prompt.id}"

    @property
    def key(self) -> tuple[str, str]:
        """Key of its synthesis within one model."""
        return text_sha256(self.prompt.text), self.prompt.language


@dataclass(frozen=True)
class PreparedSpeech(Resolved):
    """Everything an evaluation of a voice needs before the first synthesis."""

    corpora: tuple[str, ...]
    items: tuple[PromptItem, ...]
    unsupported: tuple[PromptItem, ...]
    """Prompts in languages that the card does not claim."""
    store: SpeechStore
    known: Mapping[tuple[str, ...], Synthesis]
    shards: tuple[tuple[SpeakJob, ...], ...]
    speaker_encoder: Path | None = None
    """Weights of the encoder that compares speakers; None where no prompt has a reference."""


def prepare_speech(lab: Lab, request: EvaluationRequest, say: Say) -> PreparedSpeech:
    """Resolve a request to speak; fetches the weights if they are not there.

    Raises:
        CardError: The model is unknown or does not speak.
        CorpusError: A corpus is unknown, broken or holds no prompts, the slice is empty, or a reference cannot be used.
        WeightsError: No source has the weights.
    """
    chosen = choose_prompts(lab, request)
    references = {corpus.name: _references(corpus, prompts) for corpus, prompts in chosen}
    items = [
        PromptItem(
            corpus.name,
            prompt,
            request.normalizer or corpus.config.normalizers.of(prompt),
            references[corpus.name].get(prompt.reference_audio_filepath),
        )
        for corpus, prompts in chosen
        for prompt in prompts
    ]
    resolved = resolve(lab, request, "tts", say)
    card = resolved.card
    claimed = tuple(item for item in items if card.understands(item.prompt.language))
    store = SpeechStore(lab.home.speech, resolved.fingerprint.digest)
    known = store.load(item.key for item in claimed)
    return PreparedSpeech(
        **vars(resolved),
        corpora=tuple(corpus.name for corpus, _ in chosen),
        items=claimed,
        unsupported=tuple(item for item in items if not card.understands(item.prompt.language)),
        store=store,
        known=known,
        shards=_shards(claimed, known, store),
        speaker_encoder=fetch_speaker_encoder(lab.home.weights, say) if any(item.reference for item in claimed) else None,
    )


def _references(corpus: PromptCorpus, prompts: Sequence[Prompt]) -> Mapping[str | None, SpeakerRecording]:
    """Read each reference once, so that a bad one is told before anything is said.

    Raises:
        CorpusError: One is missing, cannot be read, is too long, or holds no speech.
    """
    from models.audio import file_sha256
    from pipelines.speech.speaker import reference_samples

    found: dict[str | None, SpeakerRecording] = {}
    for prompt in prompts:
        name = prompt.reference_audio_filepath
        if name is None or name in found:
            continue
        path = corpus.folder / name
        try:
            reference_samples(path)
        except AudioError as error:
            raise CorpusError(
                f"The reference_audio_filepath of {corpus.name}/{prompt.id} cannot be used: {error.message}",
                error.remedy,
            ) from error
        found[name] = SpeakerRecording(path, file_sha256(path))
    return found


def _shards(
    items: Sequence[PromptItem], known: Mapping[tuple[str, ...], Synthesis], store: SpeechStore
) -> tuple[tuple[SpeakJob, ...], ...]:
    """The same text listed twice is spoken once; long texts go first, so that the workers end together."""
    missing = {item.key: item.prompt for item in items if item.key not in known}
    ordered = sorted(missing.values(), key=lambda prompt: -len(prompt.text))
    jobs = [SpeakJob(prompt.text, prompt.language, store.audio) for prompt in ordered]
    return tuple(tuple(jobs[start : start + SHARD_PROMPTS]) for start in range(0, len(jobs), SHARD_PROMPTS))


def synthesize_shard(pool: WorkerPool, store: SpeechStore, shard: Sequence[SpeakJob]) -> ShardResult[Synthesis]:
    """Synthesise one shard and keep it: the step that a flow retries."""
    result = pool.speak(shard)
    store.add(result.records)
    return result
