"""Whisper on CTranslate2, through faster-whisper (https://github.com/SYSTRAN/faster-whisper)."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.audio import SAMPLE_RATE_HZ
from models.capabilities import check_samples
from models.engine import Placement, missing_library
from models.engines._mel_blocks import BLOCK_SAMPLES, log_mel
from models.engines._whisper import (
    WhisperDecoding,
    check_language,
    check_translation,
    pieces_of,
    steering,
    transcript_of,
)
from models.errors import EngineError
from models.types import Record, Transcript
from models.variables import unless_set, variables

REQUIREMENT = "faster-whisper>=1.2.1,<2"
TOKENIZER = "tokenizer.json"
MOST_CALLS = 4
"""Calls side by side at most; each keeps buffers of about 30 MiB."""
WARM_UP_FRAMES = 100
"""One second of features."""
WARM_UP_TOKENS = 8
"""Tokens at most, with the prompt."""


class FasterWhisperDecoding(WhisperDecoding):
    """Options of ``WhisperModel.transcribe``, under the library's names."""

    length_penalty: float = 1.0
    """Exponent of the length by which a beam's score is divided."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens that were written before become less likely."""
    no_repeat_ngram_size: int = Field(default=0, ge=0)
    """No run of this many tokens is written twice; 0 allows it."""
    hotwords: str | None = None
    """Words to expect, given to every window."""
    vad_filter: bool = False
    """Whether Silero's voice activity detector first cuts out what is not speech."""


class FasterWhisper:
    """Whisper weights in CTranslate2's format."""

    packages: ClassVar[tuple[str, ...]] = ("faster-whisper", "ctranslate2")
    Decoding: ClassVar[type[Record]] = FasterWhisperDecoding

    @classmethod
    def calls_at_once(cls, placement: Placement) -> int:
        """As many as there are threads, though each uses them all: parts of a call know only one; see `MOST_CALLS`.

        On two cores two calls at once got a fifth to a quarter more done (`benchmarks/service_speed.py`); GPUs were not
        measured.
        """
        return min(placement.threads, MOST_CALLS) if placement.device == "cpu" else 1

    def __init__(self, weights: Path, placement: Placement, decoding: FasterWhisperDecoding) -> None:
        """Load the weights.

        Args:
            weights: Folder with ``model.bin``, ``config.json``, ``tokenizer.json`` and the vocabulary.
            placement: Any compute type of CTranslate2 that the device has.
            decoding: How to decode.

        Raises:
            EngineError: The library is missing, or cannot compute as placed.
        """
        # Threads of calls side by side outnumber the cores, and one that waits for its like must not keep others from work.
        # OpenMP reads this when it is loaded.
        waiting = unless_set({"OMP_WAIT_POLICY": "passive"}) if placement.calls > 1 else {}
        try:
            with variables(waiting):
                from faster_whisper import WhisperModel
        except ImportError as error:
            raise missing_library(REQUIREMENT, error) from error
        if not (weights / TOKENIZER).is_file():  # the library would fetch one from the hub, unverified
            raise EngineError(f"{weights} has no {TOKENIZER}.", "Name it in the card's weights.")
        try:
            self._model: Any = WhisperModel(
                str(weights),
                device=placement.device,
                compute_type=placement.compute_type,
                cpu_threads=placement.threads,
                num_workers=placement.calls,
                local_files_only=True,
            )
            if placement.device != "cpu":
                self._encode_silence()  # loads a GPU's libraries, or a missing one would show at the first recording
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                f"faster-whisper cannot load {weights} on {placement.device} with {placement.compute_type}: {error}.",
                "Choose another device or compute type. What a GPU needs: https://github.com/SYSTRAN/faster-whisper#gpu",
            ) from error
        self._model.feature_extractor = _in_blocks(self._model.feature_extractor)
        self._languages: tuple[str, ...] = tuple(self._model.supported_languages)
        self._options = decoding.model_dump()

    def warm_up(self) -> None:
        """Encode a second of silence as it is and decode a few tokens; see `models.capabilities.Warmable`.

        `transcribe` would pad it to the 30 s of Whisper's window, which costs as much as a recording.
        """
        encoded = self._encode_silence()
        start = self._model.hf_tokenizer.token_to_id("<|startoftranscript|>")
        self._model.model.generate(
            encoded, [[start]], beam_size=self._options["beam_size"], max_length=WARM_UP_TOKENS, suppress_blank=False
        )

    def _encode_silence(self) -> Any:
        features = self._model.feature_extractor(np.zeros(SAMPLE_RATE_HZ, np.float32))
        return self._model.encode(features[:, :WARM_UP_FRAMES])

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        """Transcribe one recording; see `models.capabilities.Transcriber`."""
        check_samples(samples)
        check_language(language, self._languages)
        if samples.size == 0:
            return Transcript(text="", language=language)
        segments, info = self._model.transcribe(samples, language=language, **self._options)
        return transcript_of([asdict(segment) for segment in segments], info.language)

    def transcribe_stream(self, samples: NDArray[np.float32], *, language: str | None) -> Iterator[Transcript]:
        """Transcribe one recording segment by segment; see `models.capabilities.StreamingTranscriber`."""
        check_samples(samples)
        check_language(language, self._languages)
        if samples.size == 0:
            return iter(())
        segments, info = self._model.transcribe(samples, language=language, **self._options)
        return pieces_of((asdict(segment), info.language) for segment in segments)

    def steered(self, *, prompt: str | None = None, temperature: float | None = None) -> FasterWhisper:
        """Decode otherwise on the same weights; see `models.capabilities.SteerableTranscriber`."""
        other = copy(self)
        other._options = {**self._options, **steering(prompt, temperature)}
        return other

    def translate(self, samples: NDArray[np.float32], *, language: str | None, target: str) -> Transcript:
        """Translate one recording into English; see `models.capabilities.Translator`.

        Words get no times: the alignment follows what is spoken, which the words written are not.
        """
        check_samples(samples)
        check_translation(target, self._model.model.is_multilingual)
        check_language(language, self._languages)
        if samples.size == 0:
            return Transcript(text="", language=target)
        untimed = {"word_timestamps": False, "hallucination_silence_threshold": None}
        options = {**self._options, "task": "translate", **untimed}
        segments, _ = self._model.transcribe(samples, language=language, **options)
        return transcript_of([asdict(segment) for segment in segments], target)


def _in_blocks(extractor: Any) -> Any:
    """Make a feature extractor that needs little more memory for an hour than for two minutes; see `_mel_blocks`."""

    class InBlocks(type(extractor)):  # type: ignore[misc]
        def __init__(self) -> None:
            self.__dict__.update(extractor.__dict__)

        def __call__(self, waveform: Any, padding: int = 160, chunk_length: int | None = None) -> Any:
            if len(waveform) <= BLOCK_SAMPLES:
                return super().__call__(waveform, padding, chunk_length)
            if chunk_length is not None:  # what the library's own does first
                self.n_samples = chunk_length * self.sampling_rate
                self.nb_max_frames = self.n_samples // self.hop_length
            window = np.hanning(self.n_fft + 1)[:-1].astype(np.float32)

            def mel_of(piece: NDArray[np.float32]) -> Any:
                spectrum = self.stft(
                    piece, self.n_fft, self.hop_length, window=window, center=False, return_complex=True
                ).astype(np.complex64)
                return self.mel_filters @ (np.abs(spectrum) ** 2)

            return log_mel(waveform.astype(np.float32, copy=False), padding, len(self.mel_filters), mel_of)

    return InBlocks()
