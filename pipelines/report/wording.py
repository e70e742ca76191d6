"""What a page calls things: a recogniser hears recordings, a voice says prompts."""

from __future__ import annotations

from dataclasses import dataclass

from models.types import Task


@dataclass(frozen=True, slots=True)
class Words:
    """The nouns of one task's pages."""

    item: str
    """What is evaluated one by one."""
    items: str
    without_words: str
    """What an item is called whose reference is empty."""
    by: str
    """What the intervals are resampled by."""
    blocks: str
    """Heading of the count of what was resampled."""
    work: str
    """What the model does with an item."""
    works: str
    results: str
    """What it leaves in the store."""
    answers: str
    """What two models may differ in, as a heading."""
    sound: str
    """What is listened to, and timed against."""


RECORDINGS = Words(
    item="recording",
    items="recordings",
    without_words="non-speech",
    by="speaker",
    blocks="Speakers",
    work="inference",
    works="inferences",
    results="predictions",
    answers="Answers",
    sound="recording",
)
PROMPTS = Words(
    item="prompt",
    items="prompts",
    without_words="without words",
    by="prompt, those of one dialogue together",
    blocks="Groups",
    work="synthesis",
    works="syntheses",
    results="syntheses",
    answers="Prompts",
    sound="synthesis",
)


def words_of(task: Task) -> Words:
    """The nouns of a task's pages."""
    return PROMPTS if task == "tts" else RECORDINGS
