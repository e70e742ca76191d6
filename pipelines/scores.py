"""Per-utterance scores and the columns that metrics read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NO_SPEAKER = frozenset({"", "unknown", "none"})
"""Values of `speaker` that name nobody."""

EditOperation = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True, slots=True)
class AlignmentChunk:
    """A run of one edit operation between the words of reference and hypothesis (half-open ranges)."""

    operation: EditOperation
    ref_start: int
    ref_end: int
    hyp_start: int
    hyp_end: int


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Counts of one alignment, of words or of characters."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """Tokens in the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis_length(self) -> int:
        """Tokens in the hypothesis."""
        return self.hits + self.substitutions + self.insertions


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """One utterance, aligned and counted after normalisation."""

    id: str
    speaker: str
    language: str
    tags: Mapping[str, str]
    audio_s: float
    """Length of the recording in seconds."""
    normalizer: str
    """Preset that both texts went through."""
    reference: str
    """Raw reference."""
    hypothesis: str
    """Raw hypothesis."""
    normalized_reference: str
    normalized_hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts
    alignment: tuple[AlignmentChunk, ...]
    """Over the words of the normalised texts."""
    confidence: float | None = None
    """The engine's own confidence, None where it gives none."""
    inference_s: float | None = None
    """Wall time of a fresh inference in seconds; None when the prediction came from the store."""
    first_audio_s: float | None = None
    """Wall time of a fresh synthesis until its first audio in seconds."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Of the audio of a synthesis, by name (`pipelines.speech`)."""
    variant_of: str = ""
    """Id of the recording that this one is a degraded variant of; empty for an original."""

    @property
    def facets(self) -> dict[str, str]:
        """Everything it can be sliced by: its tags, language and speaker."""
        return {**self.tags, "language": self.language, "speaker": self.speaker}

    @property
    def is_speech(self) -> bool:
        """Whether the normalised reference has words; the rest is judged by what was invented on it."""
        return self.words.reference_length > 0


@dataclass(frozen=True)
class ScoreTable:
    """Scores as columns, all of length n, for vectorised metrics and resampling."""

    scores: Sequence[UtteranceScore]
    audio_s: FloatArray
    is_speech: BoolArray
    word_hits: FloatArray
    word_substitutions: FloatArray
    word_deletions: FloatArray
    word_insertions: FloatArray
    char_errors: FloatArray
    char_reference: FloatArray
    inference_s: FloatArray
    """NaN where the prediction came from the store."""
    blocks: NDArray[np.int64]
    """Code of the speaker: what is resampled together."""
    block_names: tuple[str, ...] = field(default=())
    block_word: str = "speaker"
    """What a block is called: ``utterance`` where no speaker is named."""

    def __len__(self) -> int:
        return len(self.scores)

    def measured(self, name: str) -> FloatArray:
        """A measure of the audio, shape (n,); NaN where there is none."""
        return np.array([score.measures.get(name, np.nan) for score in self.scores], dtype=np.float64)

    @property
    def first_audio_s(self) -> FloatArray:
        """Wall time until the first audio of a fresh synthesis, shape (n,); NaN for all else."""
        times = [np.nan if score.first_audio_s is None else score.first_audio_s for score in self.scores]
        return np.array(times, dtype=np.float64)

    @property
    def word_reference(self) -> FloatArray:
        """Words in each reference."""
        return self.word_hits + self.word_substitutions + self.word_deletions

    @property
    def word_errors(self) -> FloatArray:
        """Word errors of each utterance."""
        return self.word_substitutions + self.word_deletions + self.word_insertions

    @property
    def word_hypothesis(self) -> FloatArray:
        """Words in each hypothesis."""
        return self.word_hits + self.word_substitutions + self.word_insertions

    def select(self, mask: BoolArray) -> ScoreTable:
        """Keep the rows where the mask of shape (n,) is true; blocks keep their codes."""
        rows = np.flatnonzero(mask)
        return ScoreTable(
            scores=[self.scores[int(i)] for i in rows],
            audio_s=self.audio_s[rows],
            is_speech=self.is_speech[rows],
            word_hits=self.word_hits[rows],
            word_substitutions=self.word_substitutions[rows],
            word_deletions=self.word_deletions[rows],
            word_insertions=self.word_insertions[rows],
            char_errors=self.char_errors[rows],
            char_reference=self.char_reference[rows],
            inference_s=self.inference_s[rows],
            blocks=self.blocks[rows],
            block_names=self.block_names,
            block_word=self.block_word,
        )

    @classmethod
    def build(cls, scores: Sequence[UtteranceScore]) -> ScoreTable:
        """Lay scores out as columns; a block is a speaker, see `block_codes`."""
        # A variant without a speaker stands or falls with the recording that it was made of.
        codes, names = block_codes([score.variant_of or score.id for score in scores], [score.speaker for score in scores])

        def column(values: list[float]) -> FloatArray:
            return np.asarray(values, dtype=np.float64)

        return cls(
            scores=scores,
            audio_s=column([s.audio_s for s in scores]),
            is_speech=np.asarray([s.is_speech for s in scores], dtype=np.bool_),
            word_hits=column([s.words.hits for s in scores]),
            word_substitutions=column([s.words.substitutions for s in scores]),
            word_deletions=column([s.words.deletions for s in scores]),
            word_insertions=column([s.words.insertions for s in scores]),
            char_errors=column([s.characters.errors for s in scores]),
            char_reference=column([s.characters.reference_length for s in scores]),
            inference_s=column([np.nan if s.inference_s is None else s.inference_s for s in scores]),
            blocks=codes,
            block_names=names,
            block_word="utterance" if all(score.speaker in NO_SPEAKER for score in scores) else "speaker",
        )


def block_codes(ids: Sequence[str], speakers: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number the blocks that are resampled together.

    A block is a speaker. Recordings without one (``unknown``, ``none``) are each their own block, for nothing says that
    they belong together.

    Returns:
        (n,) codes, and the blocks' names in the order of the codes.
    """
    keys = [name if speaker in NO_SPEAKER else speaker for name, speaker in zip(ids, speakers, strict=True)]
    names, codes = np.unique(np.asarray(keys, dtype=np.str_), return_inverse=True)
    return codes.astype(np.int64).reshape(-1), tuple(str(name) for name in names)
