"""Every word that a model wrote, with its probability and whether it was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.types import Transcript
from pipelines.normalize import Normalizer, find_normalizer
from pipelines.scores import BoolArray, FloatArray, UtteranceScore


@dataclass(frozen=True)
class WordOutcomes:
    """Words that a model wrote, with its probability of each and whether it was right."""

    probability: FloatArray
    """(m,) the engine's own, in [0, 1]."""
    correct: BoolArray
    """(m,) whether the alignment found it in the reference; on non-speech no word is correct."""
    block: NDArray[np.int64]
    """(m,) code of the speaker."""
    utterances: int
    """Utterances that the words come from."""
    skipped: int
    """Utterances left out: no probabilities, or their words could not be matched to the normalised text."""

    def __len__(self) -> int:
        return len(self.probability)


def word_outcomes(
    scores: Sequence[UtteranceScore], transcripts: Sequence[Transcript], blocks: NDArray[np.int64]
) -> WordOutcomes:
    """Pair every word's probability with whether it is right.

    Probabilities belong to raw words, the alignment to normalised ones. Each raw word is normalised by itself and
    its probability given to all words it becomes ("don't" → "do not"), or to none ("um"). Where the words so found
    are not those of the normalised text (a rule looked at several words: "fourteen fifty" → "1450"), or a word has no
    probability, the utterance is skipped and counted.

    Args:
        scores: Of n utterances.
        transcripts: What the model said in each of them, (n).
        blocks: (n,) code of each utterance's speaker, as in `ScoreTable.blocks`.
    """
    probability: list[float] = []
    correct: list[bool] = []
    block: list[int] = []
    utterances = skipped = 0
    normal_forms: dict[tuple[str, str], tuple[str, ...]] = {}
    for score, transcript, code in zip(scores, transcripts, blocks.tolist(), strict=True):
        if not score.normalized_hypothesis and not transcript.words:
            continue  # nothing was written: nothing to be confident of, and nothing to skip
        found = _word_probabilities(score, transcript, find_normalizer(score.normalizer), normal_forms)
        if found is None:
            skipped += 1
            continue
        utterances += 1
        hits = np.zeros(len(found), dtype=np.bool_)
        for chunk in score.alignment:
            if chunk.operation == "equal":
                hits[chunk.hyp_start : chunk.hyp_end] = True
        probability += found
        correct += hits.tolist()
        block += [code] * len(found)
    return WordOutcomes(
        np.array(probability, dtype=np.float64),
        np.array(correct, dtype=np.bool_),
        np.array(block, dtype=np.int64),
        utterances,
        skipped,
    )


def _word_probabilities(
    score: UtteranceScore, transcript: Transcript, preset: Normalizer, known: dict[tuple[str, str], tuple[str, ...]]
) -> list[float] | None:
    words: list[str] = []
    probabilities: list[float] = []
    for word in transcript.words:
        key = (preset.name, word.text)
        if key not in known:
            known[key] = tuple(preset(word.text).split())
        if word.probability is None:
            return None
        words += known[key]
        probabilities += [min(max(word.probability, 0.0), 1.0)] * len(known[key])
    return probabilities if words == score.normalized_hypothesis.split() else None
