"""Records for tests, made from the few words that a case is about."""

from __future__ import annotations

from collections.abc import Sequence

from models.types import Segment, Transcript, Word
from pipelines.align import score_utterance
from pipelines.scores import ScoreTable, UtteranceScore
from pipelines.types import Prediction, Timing, Utterance


def make_transcript(text: str, probabilities: Sequence[float | None] = ()) -> Transcript:
    """A transcript whose words, where probabilities are given, are those of the text."""
    words = (
        tuple(
            Word(text=word, start_s=float(i), end_s=i + 1.0, probability=probability)
            for i, (word, probability) in enumerate(zip(text.split(), probabilities, strict=True))
            if probabilities
        )
        if probabilities
        else ()
    )
    return Transcript(text=text, segments=(Segment(text=text, start_s=0.0, end_s=1.0, words=words),) if text else ())


def make_score(
    reference: str = "a b c",
    hypothesis: str | None = None,
    *,
    id: str = "u1",
    speaker: str = "unknown",
    language: str = "en",
    tags: dict[str, str] | None = None,
    audio_s: float = 2.0,
    inference_s: float | None = None,
    normalizer: str = "basic",
) -> UtteranceScore:
    """A scored utterance; without a hypothesis it is recognised perfectly, with `inference_s` it is fresh."""
    utterance = Utterance(
        id=id,
        audio_filepath=f"{id}.wav",
        duration=audio_s,
        text=reference,
        speaker=speaker,
        language=language,
        tags=tags or {},
    )
    prediction = Prediction(
        audio_sha256="0" * 64,
        model_fingerprint="m",
        task="asr",
        language=language,
        audio_s=audio_s,
        transcript=make_transcript(reference if hypothesis is None else hypothesis),
        timing=Timing(inference_s=9.0 if inference_s is None else inference_s, decode_s=0.1),
    )
    return score_utterance(utterance, prediction, normalizer, fresh=inference_s is not None)


def make_table(*pairs: tuple[str, str], **options: float | str) -> ScoreTable:
    """A table with one utterance a (reference, hypothesis) pair."""
    return ScoreTable.build(
        [make_score(reference, hypothesis, id=f"u{i}", **options) for i, (reference, hypothesis) in enumerate(pairs)]  # type: ignore[arg-type]
    )
