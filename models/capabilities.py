"""What engines can do: one Protocol a capability, and which task needs which.

An engine implements as many as its library gives. What it cannot do it does not have; what it can do in part (a voice, a
speed, a target language) it refuses by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.types import Speech, Task, Transcript


class Transcriber(Protocol):
    """An engine that writes down what was said.

    One instance may be called from several threads; calls may wait for one another.
    """

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        """Transcribe one recording.

        Args:
            samples: Mono audio at 16 kHz, float32 in [-1, 1], shape (n,). No samples give an empty transcript.
            language: ISO 639-1 code of what is spoken; None lets a multilingual model detect it.

        Raises:
            EngineError: The model does not know the language.
        """
        ...


class BatchTranscriber(Transcriber, Protocol):
    """An engine that gains from several recordings at once; the texts are those of `transcribe`."""

    def transcribe_batch(self, recordings: Sequence[NDArray[np.float32]], *, language: str | None) -> list[Transcript]:
        """Transcribe several recordings in one call; see `Transcriber.transcribe`. One transcript each, in their order."""
        ...


class StreamingTranscriber(Transcriber, Protocol):
    """An engine that tells the beginning of a long recording before it has heard the end."""

    def transcribe_stream(self, samples: NDArray[np.float32], *, language: str | None) -> Iterator[Transcript]:
        """Transcribe one recording in pieces, each given when it is ready; see `Transcriber.transcribe`.

        The texts of the pieces, joined with nothing between them, are the text that `transcribe` gives. Arguments are
        checked before the first piece.
        """
        ...


class SteerableTranscriber(Transcriber, Protocol):
    """An engine whose decoding can be changed for one call."""

    def steered(self, *, prompt: str | None = None, temperature: float | None = None) -> SteerableTranscriber:
        """Give an engine on the same loaded weights that decodes otherwise; this one stays as it is.

        Args:
            prompt: Text that the recording is heard as following: names, spelling. None leaves what the card says.
            temperature: 0 takes the likeliest text; above, the engine samples. None leaves what the card says.

        Raises:
            EngineError: The temperature is not within 0 and 1.
        """
        ...


class Translator(Protocol):
    """An engine that writes down in one language what was said in another."""

    def translate(self, samples: NDArray[np.float32], *, language: str | None, target: str) -> Transcript:
        """Translate one recording.

        Args:
            samples: As in `Transcriber.transcribe`.
            language: ISO 639-1 code of what is spoken; None lets the model detect it.
            target: ISO 639-1 code of what is to be written; the transcript's ``language``.

        Raises:
            EngineError: The model does not know a language, or cannot write the target.
        """
        ...


class Synthesizer(Protocol):
    """An engine that speaks.

    One instance may be called from several threads; calls may wait for one another.
    """

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices; the first is the default."""
        ...

    def synthesize(self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0) -> Speech:
        """Speak one text.

        Args:
            text: What to say. White space alone gives speech without samples.
            language: ISO 639-1 code of the text; None is the voice's own.
            voice: One of `voices`; None is the first.
            speed: Times the voice's own pace; above 1 is faster.

        Raises:
            EngineError: The voice or the language is unknown, or the engine cannot change its speed.
        """
        ...


class StreamingSynthesizer(Synthesizer, Protocol):
    """An engine whose first audio is there before the last is computed."""

    def stream(
        self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0
    ) -> Iterator[Speech]:
        """Speak one text in pieces; joined they are what `synthesize` gives. Arguments and errors are the same."""
        ...


class Warmable(Protocol):
    """An engine that knows a cheaper or more thorough way to be ready than to do a whole piece of work."""

    def warm_up(self) -> None:
        """Allocate, and choose or compile kernels, so that the next call takes hardly longer than any later one."""
        ...


METHODS: Mapping[Task, str] = {"asr": "transcribe", "translation": "translate", "tts": "synthesize"}
"""Task → the method that does it."""


def check_samples(samples: NDArray[np.float32]) -> None:
    """Hold callers to the form `Transcriber.transcribe` asks for; a breach is a programming error."""
    assert samples.ndim == 1, f"samples must have shape (n,), not {samples.shape}"
    assert samples.dtype == np.float32, f"samples must be float32, not {samples.dtype}"
