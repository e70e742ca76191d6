"""Lines of a corpus as validation takes them: read one at a time, and kept also where they are broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.corpus import CorpusConfig, parse_line
from pipelines.manifest import MANIFEST
from pipelines.prompts import Prompt, parse_prompt
from pipelines.types import Utterance

MAX_LINE_CHARACTERS = 1 << 20
"""A line of a manifest beyond this is refused: a megabyte is a day of speech."""


@dataclass(frozen=True)
class Line:
    """One line of a manifest, or of the lists that one is made of."""

    number: int
    """Counted from 1."""
    row: Utterance | Prompt | None
    """What it says; None where it cannot be read."""
    fault: str | None = None
    """Why it cannot be read."""
    audio: Path | None = None
    """Where its recording lies; None for prompts."""

    @property
    def label(self) -> str:
        """How a person finds it."""
        return f"line {self.number}" if self.row is None else self.row.id


Lines = Callable[[], Iterator[Line]]
"""Reads the lines from the start, as often as it is called: they need not be held in memory."""


def is_prompts(config: CorpusConfig) -> bool:
    """Whether a corpus has prompts and no recordings."""
    return config.tasks == ("tts",)


def lines_of(folder: Path, config: CorpusConfig) -> Lines:
    """Read the lines of a corpus's manifest, broken ones too."""

    def read() -> Iterator[Line]:
        with (folder / MANIFEST).open(encoding="utf-8", errors="replace") as file:
            number = 0
            while text := file.readline(MAX_LINE_CHARACTERS + 1):
                number += 1
                if len(text) > MAX_LINE_CHARACTERS:
                    yield Line(number, None, f"more than {MAX_LINE_CHARACTERS} characters in one line")
                    return
                if text.strip():
                    yield line_of(number, text, folder, prompts=is_prompts(config))

    return read


def line_of(number: int, text: str, folder: Path, *, prompts: bool) -> Line:
    """Read one line of a manifest."""
    try:
        if prompts:
            return Line(number, parse_prompt(text))
        utterance = parse_line(text)
    except ValueError as error:
        return Line(number, None, str(error))
    return Line(number, utterance, audio=folder / utterance.audio_filepath)
