"""What a page shows of one model: its evaluation with everything that is too large for the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.report.wording import Words, words_of
from pipelines.scores import UtteranceScore
from pipelines.types import Evaluation


@dataclass(frozen=True, slots=True)
class Prompted:
    """What a voice was given, where its score has what should be heard."""

    text: str
    """As written in the manifest."""
    refusal: str | None = None
    """Why the voice refused it; None where it did not."""


@dataclass(frozen=True)
class Side:
    """One model's part in a page."""

    evaluation: Evaluation
    """The record to show."""
    scores: Sequence[UtteranceScore]
    """One an item, in any order."""
    audio: Mapping[str, Path]
    """Item's id → file: what a recogniser heard, or what a voice said. What gave no audio is not there."""
    prompts: Mapping[str, Prompted] = field(default_factory=dict)
    """Item's id → what a voice was given; empty for a recogniser."""

    @property
    def is_voice(self) -> bool:
        """Whether it speaks, rather than listens."""
        return self.evaluation.task == "tts"

    @property
    def words(self) -> Words:
        """What its page calls things."""
        return words_of(self.evaluation.task)

    @property
    def listener(self) -> str:
        """Card of the recogniser that heard a voice; empty on the side of a recogniser."""
        return self.evaluation.fingerprint.recogniser.partition(" ")[0]

    def refusal(self, item: str) -> str | None:
        """Why the voice refused an item; None where it did not."""
        prompt = self.prompts.get(item)
        return prompt.refusal if prompt else None
