"""A synthesis becomes a recording with a reference: a fixed recogniser hears it, and what it heard is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.errors import CorpusError, PolicyError
from models.types import Record, Transcript
from pipelines.evaluate import Gathered, gather, item_id, score
from pipelines.inference import ShardResult
from pipelines.lab import Lab
from pipelines.prepare import EvaluationRequest, Prepared, Say, resolve, with_plan
from pipelines.scores import UtteranceScore
from pipelines.speech_store import Synthesis, audio_path
from pipelines.synthesize import PreparedSpeech, PromptItem
from pipelines.transcribe import Item, Selection
from pipelines.types import Prediction, Quarantined, Timing, Utterance

NO_AUDIO = ""
"""In place of a digest, where the voice gave no audio."""


class ListeningParams(Record):
    """``tts:`` in ``params.yaml``."""

    recogniser: str
    """Card of the recogniser that listens to every voice."""


def read_listening(path: Path) -> ListeningParams:
    """Read who listens.

    Raises:
        PolicyError: ``tts.recogniser`` is missing or wrong.
    """
    import yaml
    from pydantic import ValidationError

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return ListeningParams.model_validate(data.get("tts"))
    except (OSError, yaml.YAMLError, AttributeError, ValidationError) as error:
        raise PolicyError(f"{path} does not name the recogniser that listens ({error}).", "Set tts.recogniser.") from error


@dataclass(frozen=True)
class Spoken:
    """The prompts of a selection with their syntheses."""

    syntheses: Mapping[str, Synthesis]
    """Item's id → its synthesis."""
    items: tuple[PromptItem, ...]
    """Those with one."""
    quarantined: tuple[Quarantined, ...]
    """The rest, each with its reason."""
    fresh: frozenset[str]
    """Ids whose synthesis was computed in this run; of prompts with one text, the first."""


def gather_speech(prepared: PreparedSpeech, results: Sequence[ShardResult[Synthesis]]) -> Spoken:
    """Join stored and fresh syntheses."""
    fresh: dict[tuple[str, ...], Synthesis] = {
        (s.text_sha256, s.language or ""): s for result in results for s in result.records
    }
    failures = {sha: reason for result in results for sha, reason in result.failures}
    known: Mapping[tuple[str, ...], Synthesis] = {**prepared.known, **fresh}
    spoken = tuple(item for item in prepared.items if item.key in known)
    first = {item.key: item.id for item in reversed(spoken)}
    return Spoken(
        syntheses={item.id: known[item.key] for item in spoken},
        items=spoken,
        quarantined=tuple(
            Quarantined(id=item.prompt.id, audio_filepath=NO_AUDIO, reason=failures[item.key[0]])
            for item in prepared.items
            if item.key not in known
        ),
        fresh=frozenset(name for key, name in first.items() if key in fresh),
    )


def prepare_listening(lab: Lab, prepared: PreparedSpeech, spoken: Spoken, say: Say) -> Prepared:
    """Plan what the reference recogniser must still hear.

    Raises:
        CardError: The recogniser is unknown or does not transcribe.
        PolicyError: ``params.yaml`` does not name one.
    """
    recogniser = read_listening(lab.params).recogniser
    resolved = resolve(lab, EvaluationRequest(model=recogniser), "asr", say)
    items = [_as_recording(item, spoken.syntheses[item.id], prepared) for item in spoken.items]
    heard = [item for item in items if item.audio_sha256 != NO_AUDIO]
    selection = Selection(
        items=tuple(item for item in heard if resolved.card.understands(item.utterance.language)),
        missing=(),
        unsupported=tuple(item for item in heard if not resolved.card.understands(item.utterance.language)),
    )
    return with_plan(lab, resolved, prepared.corpora, selection)


def _as_recording(item: PromptItem, synthesis: Synthesis, prepared: PreparedSpeech) -> Item:
    digest = synthesis.audio_sha256 or NO_AUDIO
    path = audio_path(prepared.store.audio, digest) if digest else Path()
    utterance = Utterance(
        id=item.prompt.id,
        audio_filepath=path.name or "(no audio)",
        duration=synthesis.audio_s,
        text=item.prompt.reference,
        language=item.prompt.language,
        speaker=item.prompt.speaker,
        tags=item.prompt.tags,
    )
    return Item(item.corpus, utterance, path, digest, item.normalizer)


def gather_heard(
    prepared: PreparedSpeech, spoken: Spoken, listening: Prepared, results: Sequence[ShardResult[Prediction]]
) -> Gathered:
    """Join what the recogniser heard with the syntheses that gave it nothing to hear, in the prompts' order.

    A synthesis without audio has no words. One that the recogniser could not hear is quarantined.
    """
    heard = gather(listening, results)
    predictions = dict(heard.predictions)
    known = {item_id(item): item for item in heard.items}
    for prompt in spoken.items:
        synthesis = spoken.syntheses[prompt.id]
        if synthesis.audio_sha256 is None:
            known[prompt.id] = _as_recording(prompt, synthesis, prepared)
            predictions[prompt.id] = _nothing_heard(prompt, listening)
    unheard = tuple(
        Quarantined(
            id=item.utterance.id,
            audio_filepath=item.utterance.audio_filepath,
            reason=f"{listening.card.name}, which listens, does not know {item.utterance.language}. "
            "Set tts.recogniser in params.yaml to one that does.",
        )
        for item in listening.selection.unsupported
    )
    items = tuple(known[prompt.id] for prompt in spoken.items if prompt.id in known)
    if not items:
        raise CorpusError("Nothing that was synthesised can be scored.", "See the reasons above.")
    return Gathered(
        predictions=predictions,
        items=items,
        quarantined=(*spoken.quarantined, *heard.quarantined, *unheard),
        fresh=frozenset(name for name in spoken.fresh if name in known),
        refusals={name: s.refusal for name, s in spoken.syntheses.items() if s.refusal is not None},
    )


def _nothing_heard(prompt: PromptItem, listening: Prepared) -> Prediction:
    return Prediction(
        audio_sha256=NO_AUDIO,
        model_fingerprint=listening.fingerprint.digest,
        task="asr",
        language=prompt.prompt.language,
        audio_s=0.0,
        transcript=Transcript(text="", language=prompt.prompt.language),
        timing=Timing(inference_s=0.0, decode_s=0.0),
    )


def score_speech(gathered: Gathered, spoken: Spoken, measures: Mapping[str, Mapping[str, float]]) -> list[UtteranceScore]:
    """Score what was heard, with the synthesis's own times and measures in the place of the recogniser's."""
    out = []
    for heard in score(gathered):
        timing = spoken.syntheses[heard.id].timing
        mine: dict[str, Any] = {"inference_s": None, "first_audio_s": None, "confidence": None}
        if heard.id in gathered.fresh and spoken.syntheses[heard.id].audio_sha256 is not None:
            mine |= {"inference_s": timing.inference_s, "first_audio_s": timing.first_audio_s}
        out.append(replace(heard, **mine, audio_s=spoken.syntheses[heard.id].audio_s, measures=measures.get(heard.id, {})))
    return out
