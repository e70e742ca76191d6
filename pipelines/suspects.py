"""References that engines agree against: for people to look at, never used in a metric.

Two recognisers that were trained apart rarely invent the same words. Where they write the same text and the manifest
says another, the manifest is the first suspect (Northcutt, Athalye & Mueller 2021 count label errors in ten common
test sets). The list ranks recordings to listen to. It corrects nothing: a test set that is edited towards what
engines say stops being a test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rapidfuzz.distance import Levenshtein

from pipelines.scores import UtteranceScore
from pipelines.types import Suspect

MIN_SCORE = 0.5
"""Score from which a reference is listed: at least as much agreement times disagreement as 0.7 of each."""

AGREEING = 0.8
"""Similarity from which a model counts among those that agree."""

MIN_WORDS_ON_NONSPEECH = 3
"""Words that engines must agree on where the reference says nothing: on noise, many write the same "you"."""


def suspect_references(
    scores: Mapping[str, Sequence[UtteranceScore]], groups: Mapping[str, str], *, min_score: float = MIN_SCORE
) -> list[Suspect]:
    """List the recordings of one corpus whose reference engines agree against, most suspect first.

    The score is agreement times disagreement, both from the similarity of characters without spaces (1 less the
    edit distance over the longer length), so that "fire fox" for "firefox" accuses nobody. Agreement is the mean
    similarity of the likely text to what the other groups of models wrote, so one that hears the reference lowers
    it; disagreement is how far the likely text is from the reference. The likely text is the one that scores most.

    Args:
        scores: Model → its scores, all with the same normalizer.
        groups: Model → what it shares with others: the digest of its weights. The agreement of two engines that run
            the same weights means nothing, so each group has one voice, that of its first model by name. Models
            of one family (Whisper tiny and base) count as two voices although their training data made them alike.
        min_score: In [0, 1], the score from which a reference is listed.

    Returns:
        Suspects by falling score; none with fewer than two groups, whatever they say.
    """
    assert scores.keys() <= groups.keys(), f"models without a group: {sorted(scores.keys() - groups.keys())}"
    voices = {groups[model]: model for model in sorted(scores, reverse=True)}  # the first by name is set last
    if len(voices) < 2:
        return []
    heard: dict[str, dict[str, UtteranceScore]] = defaultdict(dict)
    for model in sorted(voices.values()):
        for score in scores[model]:
            heard[score.id][model] = score
    suspects = [suspect for answers in heard.values() if (suspect := _suspect(answers)) and suspect.score >= min_score]
    return sorted(suspects, key=lambda suspect: (-suspect.score, suspect.id))


def _suspect(answers: Mapping[str, UtteranceScore]) -> Suspect | None:
    """Judge one recording by what each voice (model → score) wrote; None where they do not agree on anything."""
    if len(answers) < 2 or not any(answer.words.errors for answer in answers.values()):
        return None
    some = next(iter(answers.values()))
    reference = _squeeze(some.normalized_reference)
    texts = {model: _squeeze(answer.normalized_hypothesis) for model, answer in answers.items()}
    best: Suspect | None = None
    for model, answer in answers.items():
        if not some.is_speech and len(answer.normalized_hypothesis.split()) < MIN_WORDS_ON_NONSPEECH:
            continue
        similar = {other: _similarity(texts[model], text) for other, text in texts.items() if other != model}
        agreeing = [other for other, similarity in similar.items() if similarity >= AGREEING]
        score = sum(similar.values()) / len(similar) * (1.0 - _similarity(texts[model], reference))
        if agreeing and (best is None or score > best.score):
            best = Suspect(
                id=some.id,
                reference=some.reference,
                likely=answer.hypothesis.strip(),
                score=score,
                models=tuple(sorted([model, *agreeing])),
            )
    return best


def _squeeze(text: str) -> str:
    return text.replace(" ", "")


def _similarity(first: str, second: str) -> float:
    return float(Levenshtein.normalized_similarity(first, second))
