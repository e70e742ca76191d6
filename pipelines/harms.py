"""Harms that an error rate hides: invented words, repetition loops and early stops (groups served worse: `pipelines.gaps`).

A recogniser can improve its word error rate and still begin to write sentences into silence, to repeat one phrase
for half a minute or to stop in the middle of a long recording (Koenecke et al. 2024, "Careless Whisper"; Radford et
al. 2022, section 4.5). Each of these is a share of utterances or a rate, with an interval and a rule like any metric.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.measure import Draft, metric, nonspeech, ratio
from pipelines.scores import AlignmentChunk, BoolArray, ScoreTable, UtteranceScore

MAX_LOOP_WORDS = 6
"""Longest phrase that is looked for as a loop."""
MIN_LOOP_REPEATS = 4
"""Times in a row from which a phrase may be a loop."""
MIN_LOOP_EXCESS = 3
"""Times more than the reference has it in a row: who says "no" four times is not looping when written so."""

MIN_LENGTH_WORDS = 5
"""Reference words below which a ratio of lengths says nothing."""
MAX_LENGTH_RATIO = 2.0
MIN_LENGTH_RATIO = 0.5

MIN_EARLY_STOP_WORDS = 5
"""Words lost at the end from which an utterance may have been cut off."""
MIN_EARLY_STOP_SHARE = 0.3
"""Share of the reference lost at the end from which it was."""


@metric(unit="1/min", higher_is_better=False, rows=nonspeech, failure=None)
def invented_words_per_minute(table: ScoreTable) -> Draft:
    """Words written on recordings without speech, per minute of them; the right answer is none."""
    return ratio(words=table.word_insertions, minutes=table.audio_s / 60.0)


@metric(unit="ratio", higher_is_better=False, rows=nonspeech, limits=(0.0, 1.0))
def invention_share(table: ScoreTable) -> Draft:
    """Share of recordings without speech on which any word was written."""
    return ratio(files_with_words=table.word_insertions > 0, files=np.ones(len(table)))


@metric(unit="ratio", higher_is_better=False, limits=(0.0, 1.0))
def repetition_share(table: ScoreTable) -> Draft:
    """Share of speech utterances with a repetition loop.

    A loop is a phrase of 1 to 6 words, 4 or more times in a row, and 3 or more times more than the reference has it
    in a row (`has_repetition_loop`).
    """
    looping = [
        has_repetition_loop(score.normalized_reference.split(), score.normalized_hypothesis.split())
        for score in table.scores
    ]
    return ratio(looping=np.array(looping, dtype=np.float64), utterances=np.ones(len(table)))


def _long_enough(table: ScoreTable) -> BoolArray:
    return table.word_reference >= MIN_LENGTH_WORDS


@metric(unit="ratio", higher_is_better=False, rows=_long_enough, limits=(0.0, 1.0))
def length_ratio_outliers(table: ScoreTable) -> Draft:
    """Share of utterances of 5 words or more answered with more than twice or less than half as many words."""
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = table.word_hypothesis / table.word_reference
    too_long, too_short = lengths > MAX_LENGTH_RATIO, lengths < MIN_LENGTH_RATIO
    return ratio(outliers=too_long | too_short, utterances=np.ones(len(table)), too_long=too_long, too_short=too_short)


@metric(unit="ratio", higher_is_better=False, rows=_long_enough, limits=(0.0, 1.0))
def early_stop_share(table: ScoreTable) -> Draft:
    """Share of utterances of 5 words or more that were cut off: 30% and 5 words or more are missing at the end."""
    stopped = [stopped_early(score) for score in table.scores]
    return ratio(stopped=np.array(stopped, dtype=np.float64), utterances=np.ones(len(table)))


def longest_runs(words: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Find phrases of up to 6 words that are repeated at once, with the most times in a row: {("no",): 4}.

    "no no no no" is "no" four times; it is also "no no" twice, and both are listed.
    """
    runs: dict[tuple[str, ...], int] = {}
    for size in range(1, MAX_LOOP_WORDS + 1):
        matching = 0  # words in a row that equal the word one phrase before
        for end in range(size, len(words)):
            matching = matching + 1 if words[end] == words[end - size] else 0
            if matching >= size:
                phrase = tuple(words[end - size + 1 : end + 1])
                runs[phrase] = max(runs.get(phrase, 0), matching // size + 1)
    return runs


def has_repetition_loop(reference: Sequence[str], hypothesis: Sequence[str]) -> bool:
    """Whether the hypothesis repeats a phrase in a row far more often than the reference does."""
    if len(hypothesis) - len(set(hypothesis)) < MIN_LOOP_REPEATS - 1:
        return False  # too few words come twice for any loop; true of most utterances
    loops = {p: n for p, n in longest_runs(hypothesis).items() if n >= MIN_LOOP_REPEATS}
    if not loops:
        return False
    spoken = longest_runs(reference)
    # A phrase that the reference has once, or not at all, is taken as spoken once.
    return any(repeats - spoken.get(phrase, 1) >= MIN_LOOP_EXCESS for phrase, repeats in loops.items())


def stopped_early(score: UtteranceScore) -> bool:
    """Whether the end of the reference is missing from the hypothesis.

    Judged on the alignment: the longest stretch at the end of the reference of which all words but one in ten (one
    in any case) are deleted. The tolerance is for a lone word that an aligner pairs by chance with one far from it.
    An empty hypothesis stopped before the first word.
    """
    length = score.words.reference_length
    return lost_at_end(score.alignment, length) >= max(MIN_EARLY_STOP_WORDS, MIN_EARLY_STOP_SHARE * length)


def lost_at_end(alignment: Sequence[AlignmentChunk], reference_length: int) -> int:
    """Count the deleted words in the longest almost wholly deleted stretch at the end of a reference."""
    deleted = kept = lost = 0
    for chunk in reversed(alignment):
        size = chunk.ref_end - chunk.ref_start
        if chunk.operation == "delete":
            deleted += size
            if kept <= max(1, (deleted + kept) // 10):
                lost = deleted
        else:
            kept += size
            if kept > max(1, reference_length // 10):
                break
    return lost
