"""One alignment per utterance, from which every error rate follows.

Words and characters are aligned by Levenshtein distance with unit costs, as jiwer does: the same library
underneath (rapidfuzz), called directly because jiwer's transforms and records cost ten times the alignment itself.
The counts are jiwer's on every utterance; a test holds that. NIST's sclite weighs a substitution 4 against 3 for an
insertion or a deletion, so it may count one error more and another kind of it: compare totals with that in mind.

Empty texts have rules of their own. Both empty: no errors. Empty hypothesis: every reference word is deleted.
Empty reference: every hypothesis word is inserted, and the utterance enters no error rate (there is nothing to
divide by) but the metrics of invented words; see `pipelines.harms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from functools import cache
from importlib import metadata
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from pipelines.normalize import find_normalizer
from pipelines.scores import AlignmentChunk, EditOperation, ErrorCounts, UtteranceScore
from pipelines.types import Prediction, Utterance

_OPERATIONS: dict[str, EditOperation] = {
    "equal": "equal",
    "replace": "substitute",
    "delete": "delete",
    "insert": "insert",
}

_REVISION = "1"


@cache
def scorer_version() -> str:
    """Version of the scorer for the evaluation's fingerprint: ours, and that of the library that aligns."""
    return f"{_REVISION}+rapidfuzz-{metadata.version('rapidfuzz')}"


class Aligned(NamedTuple):
    """What `align` found between two normalised texts."""

    words: ErrorCounts
    """Counts over words."""
    characters: ErrorCounts
    """Counts over characters; the single space between words is one, as in jiwer."""
    alignment: tuple[AlignmentChunk, ...]
    """Runs of one operation over the words, in order, covering both texts."""


def align(reference: str, hypothesis: str) -> Aligned:
    """Align two texts that a normalizer went through.

    Args:
        reference: What was said; words are separated by white space.
        hypothesis: What the model wrote.
    """
    reference_words, hypothesis_words = reference.split(), hypothesis.split()
    alignment = align_words(reference_words, hypothesis_words)
    return Aligned(
        words=count(alignment),
        characters=_count_characters(" ".join(reference_words), " ".join(hypothesis_words)),
        alignment=alignment,
    )


def align_words(reference: list[str], hypothesis: list[str]) -> tuple[AlignmentChunk, ...]:
    """Align two lists of words; the chunks cover both, in order."""
    codes: dict[str, int] = {}  # rapidfuzz compares hashes: small integers cannot collide, strings could
    coded_reference = [codes.setdefault(word, len(codes)) for word in reference]
    coded_hypothesis = [codes.setdefault(word, len(codes)) for word in hypothesis]
    return tuple(
        AlignmentChunk(_OPERATIONS[run.tag], run.src_start, run.src_end, run.dest_start, run.dest_end)
        for run in Levenshtein.opcodes(coded_reference, coded_hypothesis)
    )


def count(alignment: Iterable[AlignmentChunk]) -> ErrorCounts:
    """Count the operations of an alignment."""
    hits = substitutions = deletions = insertions = 0
    for chunk in alignment:
        match chunk.operation:
            case "equal":
                hits += chunk.ref_end - chunk.ref_start
            case "substitute":
                substitutions += chunk.ref_end - chunk.ref_start
            case "delete":
                deletions += chunk.ref_end - chunk.ref_start
            case "insert":
                insertions += chunk.hyp_end - chunk.hyp_start
    return ErrorCounts(hits, substitutions, deletions, insertions)


def _count_characters(reference: str, hypothesis: str) -> ErrorCounts:
    if reference == hypothesis:
        return ErrorCounts(len(reference), 0, 0, 0)
    substitutions = deletions = insertions = 0
    for edit in Levenshtein.editops(reference, hypothesis):
        if edit.tag == "replace":
            substitutions += 1
        elif edit.tag == "delete":
            deletions += 1
        else:
            insertions += 1
    return ErrorCounts(len(reference) - substitutions - deletions, substitutions, deletions, insertions)


def score_utterance(utterance: Utterance, prediction: Prediction, normalizer: str, *, fresh: bool = False) -> UtteranceScore:
    """Normalise, align and count one utterance.

    Args:
        utterance: The manifest's line; its `text` is the reference.
        prediction: What the model said, raw.
        normalizer: Preset that both texts go through.
        fresh: Whether the prediction was computed in this run. Only then is its time a measurement of this run;
            that of a stored one is dropped.

    Raises:
        CorpusError: When there is no such normalizer.
    """
    return score_all([(utterance, prediction)], normalizer, fresh={utterance.id} if fresh else frozenset())[0]


def score_all(
    pairs: Iterable[tuple[Utterance, Prediction]], normalizer: str, *, fresh: Set[str] = frozenset()
) -> list[UtteranceScore]:
    """Normalise, align and count many utterances, in their order.

    Each distinct text is normalised once: normalising takes longer than aligning.

    Args:
        pairs: Utterances of corpora that share the normalizer, with their predictions.
        normalizer: Preset that both texts go through.
        fresh: Ids of the utterances whose prediction was computed in this run; see `score_utterance`.

    Raises:
        CorpusError: When there is no such normalizer.
    """
    preset = find_normalizer(normalizer)
    normalised: dict[str, str] = {}

    def normal_form(text: str) -> str:
        known = normalised.get(text)
        if known is None:
            known = normalised[text] = " ".join(preset(text).split())
        return known

    scores = []
    for utterance, prediction in pairs:
        reference, hypothesis = normal_form(utterance.text), normal_form(prediction.transcript.text)
        words, characters, alignment = align(reference, hypothesis)
        scores.append(
            UtteranceScore(
                id=utterance.id,
                speaker=utterance.speaker,
                language=utterance.language,
                tags=utterance.tags,
                audio_s=prediction.audio_s,
                normalizer=normalizer,
                reference=utterance.text,
                hypothesis=prediction.transcript.text,
                normalized_reference=reference,
                normalized_hypothesis=hypothesis,
                words=words,
                characters=characters,
                alignment=alignment,
                confidence=prediction.transcript.confidence,
                inference_s=prediction.timing.inference_s if utterance.id in fresh else None,
                variant_of=utterance.variant_of,
            )
        )
    return scores
