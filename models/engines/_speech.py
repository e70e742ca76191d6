"""What the engines that speak share: what may be asked of a voice, long texts in pieces, samples in the agreed form."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.engine import Placement
from models.errors import EngineError, UnspeakableError, unknown_name
from models.types import Speech

FloatSamples = NDArray[np.float32]

PIECE_CHARS = 300
"""Most characters that are spoken at once, about 20 s of speech. The models' memory grows with the piece: for 2,600
characters without a full stop Piper took 4.4 GB, for 6,500 hibari took 3.3 GB."""

_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？]+[」』”’]*|\n+")  # noqa: RUF001 - the signs are meant
_CLAUSE = re.compile(r"[,;:–—]\s+|[，、；：]")  # noqa: RUF001
_SPACE = re.compile(r"\s+")


class Speaker(ABC):
    """A `models.capabilities.StreamingSynthesizer` whose subclass speaks one text that it has been found able to speak."""

    def __init__(
        self, *, voices: tuple[str, ...], language: str, speeds: tuple[float, float] | None, sample_rate_hz: int
    ) -> None:
        """Take what the model can do.

        Args:
            voices: Their names; the first is the default.
            language: ISO 639-1 code of what it speaks.
            speeds: Slowest and fastest; None where the model has one pace.
            sample_rate_hz: Rate of what it says.
        """
        self._voices = voices
        self._language = language
        self._speeds = speeds
        self.sample_rate_hz = sample_rate_hz

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices; the first is the default."""
        return self._voices

    def synthesize(self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0) -> Speech:
        """Speak one text; see `models.capabilities.Synthesizer`."""
        pieces = [piece.samples for piece in self.stream(text, language=language, voice=voice, speed=speed)]
        return Speech(np.concatenate(pieces) if pieces else np.zeros(0, np.float32), self.sample_rate_hz)

    def stream(
        self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0
    ) -> Iterator[Speech]:
        """Speak one text in pieces, each computed when it is asked for.

        Same as `synthesize`; what cannot be spoken is refused at once, not at the first piece.
        """
        if language not in (None, self._language):
            raise EngineError(f"This model does not speak the language {language!r}.", f"It speaks: {self._language}.")
        if voice is not None and voice not in self._voices:
            raise EngineError(*unknown_name("voice", voice, self._voices))
        self._check_speed(speed)
        self._check_text(text)
        return self._pieces(text, voice or self._voices[0], speed)

    @abstractmethod
    def _speak(self, text: str, voice: str, speed: float) -> Iterator[NDArray[np.floating]]:
        """Say a text in pieces of shape (n,). It may be white space alone."""

    def _check_text(self, text: str) -> None:  # noqa: B027 - some models read everything
        """Refuse a text with something in it that the model would leave out."""

    def _check_speed(self, speed: float) -> None:
        if self._speeds is None:
            if speed != 1:
                raise EngineError(f"This model cannot change its speed; {speed:g} was asked for.", "Leave it at 1.")
        elif not self._speeds[0] <= speed <= self._speeds[1]:  # NaN is refused too
            lowest, highest = self._speeds
            raise EngineError(f"This model cannot speak at a speed of {speed:g}.", f"Choose {lowest:g} to {highest:g}.")

    def _pieces(self, text: str, voice: str, speed: float) -> Iterator[Speech]:
        for samples in self._speak(text, voice, speed):
            if samples.size:
                yield Speech(_agreed(samples), self.sample_rate_hz)


def _agreed(samples: NDArray[np.floating]) -> FloatSamples:
    if not np.isfinite(samples).all():
        raise EngineError("The model gave samples that are not numbers.", "Its weights are broken; fetch them again.")
    agreed: FloatSamples = np.clip(samples, -1, 1).astype(np.float32)
    return agreed


def check_cpu(library: str, placement: Placement, compute_type: str) -> None:
    """Refuse a device or a number format that the library would quietly replace.

    Raises:
        EngineError: It is not the CPU, or not the format that the voices have.
    """
    if placement.device != "cpu":
        raise EngineError(f"{library} does not run on {placement.device} here.", "Choose cpu.")
    if placement.compute_type != compute_type:
        raise EngineError(f"{library} has no compute type {placement.compute_type!r}.", f"Choose {compute_type}.")


def only_file(folder: Path, pattern: str) -> Path:
    """Find the one file that a voice is.

    Raises:
        EngineError: There is none, or more than one.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise EngineError(f"{folder} must have one file {pattern}, found: {names}.", "Name one in the card's weights.")
    return found[0]


def check_readable(text: str, reads: Callable[[str], bool]) -> None:
    """Refuse letters and digits that the model would leave out; marks and symbols are not spoken by every model.

    Args:
        text: What is to be said.
        reads: Whether the model reads a character.

    Raises:
        UnspeakableError: Names the characters.
    """
    spoken = dict.fromkeys(letter for letter in text if unicodedata.category(letter)[0] in "LN")
    if missing := [letter for letter in spoken if not reads(letter)]:
        listing = " ".join(missing[:10])
        raise UnspeakableError(f"This voice cannot read: {listing}.", "Spell it out in its language's letters.")


def blocks(text: str, most_chars: int = PIECE_CHARS) -> Iterator[str]:
    """Cut a text into parts that can be spoken one by one; a short text is one part, white space none.

    A part ends with the last sentence that fits, else with a clause, else with a word.

    Args:
        text: Any text.
        most_chars: Length of the longest part.
    """
    start, end = 0, len(text.rstrip())
    while start < end:
        stop = min(start + most_chars, end)
        if stop < end:
            cuts = (pattern.finditer(text, start, stop) for pattern in (_SENTENCE, _CLAUSE, _SPACE))
            stop = next((last for found in cuts if (last := max((m.end() for m in found), default=0))), stop)
        if part := text[start:stop].strip():
            yield part
        start = stop


def sentences(text: str, most_chars: int = PIECE_CHARS) -> Iterator[str]:
    """Cut a text at each sentence's end, for models that do not do so themselves; long sentences as `blocks` does.

    The sign is a full stop and white space, so an abbreviation ends a sentence too, which costs a short pause.
    """
    start = 0
    for match in _SENTENCE.finditer(text):
        yield from blocks(text[start : match.end()], most_chars)
        start = match.end()
    yield from blocks(text[start:], most_chars)
