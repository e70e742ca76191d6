"""Spelling variants that an error rate counts as errors: reported, never silently forgiven.

"fire fox" for "firefox" is one error or two for an aligner and none for a listener; so is "1455" for "fourteen
fifty-five". Both stay errors in the word error rate. `variant_notes` finds them in an utterance's alignment, so that
a reader sees how much of the rate they are (`wer_variants_forgiven` in `pipelines.metrics`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from rapidfuzz.distance import Levenshtein

from pipelines.normalize import whisper_normalizers
from pipelines.scores import AlignmentChunk

MAX_COMPOUND_WORDS = 6
"""Words that one compound may be written as; the longest written in practice, and it keeps the search linear."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Words written differently on both sides that say the same."""

    kind: Literal["compound", "number"]
    """Equal once spaces are removed, or equal once read as a number."""
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class VariantNotes:
    """The variants of one utterance."""

    variants: tuple[Variant, ...] = ()
    forgiven_errors: int = 0
    """Word errors that would vanish if every variant counted as right."""

    def count(self, kind: Literal["compound", "number"]) -> int:
        """Count the variants of one kind."""
        return sum(variant.kind == kind for variant in self.variants)


@dataclass(frozen=True, slots=True)
class _Match:
    """A variant by its words' positions within a run of errors (half-open ranges)."""

    kind: Literal["compound", "number"]
    ref_start: int
    ref_end: int
    hyp_start: int
    hyp_end: int


def variant_notes(
    reference_words: Sequence[str],
    hypothesis_words: Sequence[str],
    alignment: Sequence[AlignmentChunk],
    language: str = "en",
) -> VariantNotes:
    """Find the variants among the errors of an alignment.

    Args:
        reference_words: Words of the normalised reference.
        hypothesis_words: Words of the normalised hypothesis.
        alignment: Of these words, as from `pipelines.align.align`.
        language: Numbers are read in English only (``en``); compounds in any language.
    """
    variants: list[Variant] = []
    forgiven = 0
    for run in _error_runs(alignment):
        reference = reference_words[run[0].ref_start : run[-1].ref_end]
        hypothesis = hypothesis_words[run[0].hyp_start : run[-1].hyp_end]
        matches = _matches(reference, hypothesis, language) if reference and hypothesis else []
        # What is left of the run once the variants count as right: the pieces between them, aligned anew.
        bounds = [_Match("compound", 0, 0, 0, 0), *matches]
        bounds.append(_Match("compound", len(reference), len(reference), len(hypothesis), len(hypothesis)))
        remaining = sum(
            Levenshtein.distance(reference[a.ref_end : b.ref_start], hypothesis[a.hyp_end : b.hyp_start])
            for a, b in itertools.pairwise(bounds)
        )
        gained = Levenshtein.distance(reference, hypothesis) - remaining
        if matches and gained > 0:
            forgiven += gained
            variants += [
                Variant(
                    match.kind,
                    " ".join(reference[match.ref_start : match.ref_end]),
                    " ".join(hypothesis[match.hyp_start : match.hyp_end]),
                )
                for match in matches
            ]
    return VariantNotes(tuple(variants), forgiven)


def read_number(words: Sequence[str]) -> str | None:
    """Read English number words or digits as one string of digits: "fourteen fifty five" gives "1455".

    Returns None when the words are not one number. Spaces between digits are dropped, so "1 455" reads "1455";
    leading zeros stay, for "07" is another string of digits than "7".
    """
    if not words or not all(_is_numeric(word) for word in words):
        return None
    if all(word.isdecimal() for word in words):
        return "".join(words)
    digits = str(_english_numbers()(" ".join(words))).replace(" ", "").replace("one", "1")
    return digits if digits.isdecimal() else None


@cache
def _english_numbers() -> Any:
    return whisper_normalizers().english.EnglishNumberNormalizer()


@cache
def _number_words() -> frozenset[str]:
    numbers = _english_numbers()
    return frozenset({*numbers.zeros, *numbers.ones, *numbers.tens, *numbers.multipliers, "and", "double", "triple"})


def _is_numeric(word: str) -> bool:
    return word.isdecimal() or word in _number_words()


def _error_runs(alignment: Sequence[AlignmentChunk]) -> Iterator[list[AlignmentChunk]]:
    for is_equal, chunks in itertools.groupby(alignment, key=lambda chunk: chunk.operation == "equal"):
        if not is_equal:
            yield list(chunks)


def _matches(reference: Sequence[str], hypothesis: Sequence[str], language: str) -> list[_Match]:
    """Choose variants from left to right, none crossing another; a longer one first where several start."""
    found = _compounds(reference, hypothesis)
    if language == "en":
        found += _numbers(reference, hypothesis)
    chosen: list[_Match] = []
    ref_done = hyp_done = 0
    for match in sorted(found, key=lambda m: (m.ref_start, m.hyp_start, -m.ref_end)):
        if match.ref_start >= ref_done and match.hyp_start >= hyp_done:
            chosen.append(match)
            ref_done, hyp_done = match.ref_end, match.hyp_end
    return chosen


def _compounds(reference: Sequence[str], hypothesis: Sequence[str]) -> list[_Match]:
    """Find pairs of spans that are equal without spaces, one of them a single word.

    Where both sides are several words ("data base s", "database s") the part that differs is the pair.
    """
    singles = {word: position for position, word in reversed(list(enumerate(hypothesis)))}
    matches = [
        _Match("compound", start, end, singles[joined], singles[joined] + 1)
        for start, end, joined in _spans(reference)
        if joined in singles
    ]
    singles = {word: position for position, word in reversed(list(enumerate(reference)))}
    matches += [
        _Match("compound", singles[joined], singles[joined] + 1, start, end)
        for start, end, joined in _spans(hypothesis)
        if joined in singles
    ]
    return matches


def _spans(words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    for start in range(len(words)):
        for end in range(start + 2, min(start + MAX_COMPOUND_WORDS, len(words)) + 1):
            yield start, end, "".join(words[start:end])


def _numbers(reference: Sequence[str], hypothesis: Sequence[str]) -> list[_Match]:
    """Find pairs of whole numbers, one on each side, that read the same and are written differently."""
    spoken = {digits: span for *span, digits in reversed(list(_number_spans(hypothesis)))}
    if not spoken:
        return []
    return [
        _Match("number", start, end, *spoken[digits])
        for start, end, digits in _number_spans(reference)
        if digits in spoken and list(reference[start:end]) != list(hypothesis[slice(*spoken[digits])])
    ]


def _number_spans(words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the longest runs of number words that read as one number; an "and" at their ends belongs to no number."""
    end = 0
    for numeric, group in itertools.groupby(words, key=_is_numeric):
        start, end = end, end + len(list(group))
        if not numeric:
            continue
        first, last = start, end
        while first < last and words[first] == "and":
            first += 1
        while first < last and words[last - 1] == "and":
            last -= 1
        if (digits := read_number(words[first:last])) is not None:
            yield first, last, digits
