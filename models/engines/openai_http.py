"""Any server with the OpenAI audio API: a vendor's, a colleague's, or the one that this lab deployed.

Recognition, translation into English and speech (https://platform.openai.com/docs/api-reference/audio). The network is part
of what is measured, and what runs behind the address is known only as far as the server tells.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from models.audio import SAMPLE_RATE_HZ
from models.backoff import SYSTEM_CLOCK, Clock
from models.capabilities import check_samples
from models.engine import Placement
from models.engines._openai_answers import AnsweredTranscript, AnsweredVoices, transcript_of
from models.engines._openai_audio import open_wav, packed, samples_of
from models.engines._openai_connection import Connection
from models.engines._openai_service import MAX_SPEECH_BYTES, Refused, Service
from models.errors import EngineError, unknown_name
from models.types import Record, Speech, Transcript

REMOTE = "remote"
REPORTED = ("id", "root", "parent", "owned_by", "revision", "version", "digest", "fingerprint")
"""What a server says of a model that goes into the fingerprint. Not ``created``: vLLM gives the time of the question."""
IDENTITY_ATTEMPTS = 3
"""Tries to learn what a server runs: the user waits for it."""
SLOWEST, FASTEST = 0.25, 4.0
"""Speeds that the API allows."""
WORDS = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
SEGMENTS = {"response_format": "verbose_json"}
TEXT = {"response_format": "json"}
NOT_THIS_FORMAT = {400, 415, 422}
"""Answers of servers that do not know a format."""

_TRANSCRIPT = TypeAdapter(AnsweredTranscript)
_VOICES = TypeAdapter(AnsweredVoices)


class OpenAIDecoding(Record):
    """What the API lets a client choose."""

    temperature: float = Field(default=0.0, ge=0, le=1)
    """0 asks for the likeliest words; whether the server then always answers alike is up to it."""
    prompt: str | None = None
    """Text that comes before the recording: names, spelling."""
    word_timestamps: bool = True
    """Whether words get times, where the server can."""
    audio_format: Literal["wav", "pcm"] = "wav"
    """What speech comes as; both are 16-bit samples without loss, and both can be heard while they come."""
    pcm_rate_hz: int = Field(default=24_000, ge=8_000, le=192_000)
    """Sample rate of ``pcm``, which does not say it itself."""
    instructions: str | None = None
    """How to speak, for servers that take it."""


class OpenAICompatible:
    """A model behind an address."""

    packages: ClassVar[tuple[str, ...]] = ()  # what computes is on the server; see `identity`
    Decoding: ClassVar[type[Record]] = OpenAIDecoding
    operational: ClassVar[tuple[str, ...]] = (
        "api_key_env", "concurrency", "timeout_s", "allow_http", "price_per_minute", "price_per_1k_characters",
    )  # fmt: skip
    clock: ClassVar[Clock] = SYSTEM_CLOCK

    @classmethod
    def repeatable(cls, decoding: OpenAIDecoding) -> bool:
        """What a server does is up to it, and its API for speech takes no seed."""
        return False

    def __init__(
        self,
        weights: Path,
        placement: Placement,
        decoding: OpenAIDecoding,
        *,
        base_url: str,
        model: str,
        api_key_env: str | None = None,
        concurrency: int = 4,
        timeout_s: float = 120.0,
        allow_http: bool = False,
        upload: Literal["flac", "wav"] = "flac",
        voices: Sequence[str] = (),
        price_per_minute: float | None = None,
        price_per_1k_characters: float | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            weights: Not used: the server has them.
            placement: ``remote``.
            decoding: What to ask for.
            base_url: See `models.engines._openai_connection.Connection`, as for the next five.
            model: The server's name of the model.
            api_key_env: Environment variable that holds the key.
            concurrency: Calls under way at once.
            timeout_s: Longest wait for an answer.
            allow_http: Whether a server beyond this machine may be used unencrypted.
            upload: How recordings are sent: 16-bit samples at 16 kHz, packed without loss or not at all.
            voices: Names of the voices, the first is the default; the server is asked where there are none.
            price_per_minute: Of audio that is heard, in any currency.
            price_per_1k_characters: Of text that is spoken.

        Raises:
            EngineError: An argument is wrong, or a variable that it names is not set.
        """
        if placement.device != REMOTE:
            raise EngineError(f"{base_url} does not run on {placement.device}.", f"Choose {REMOTE}.")
        if upload not in ("flac", "wav"):
            raise EngineError(f"Recordings cannot be sent as {upload!r}.", "Available: flac, wav.")
        connection = {
            "base_url": base_url,
            "model": model,
            "api_key_env": api_key_env,
            "concurrency": concurrency,
            "timeout_s": timeout_s,
            "allow_http": allow_http,
        }
        self._service = Service(Connection.of(connection), self.clock)
        self._model = self._service.connection.model
        self._decoding = decoding
        self._upload = upload
        self._voices = tuple(voices)
        self._price_per_minute, self._price_per_1k_characters = price_per_minute, price_per_1k_characters
        self._formats: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._lock = threading.Lock()

    @classmethod
    def identity(cls, args: Mapping[str, Any]) -> dict[str, str]:
        """Ask the server what it runs, for the fingerprint.

        Raises:
            EngineError: It cannot be asked, or has no such model.
        """
        with closing(Service(Connection.of(args), cls.clock, IDENTITY_ATTEMPTS)) as service:
            described = service.describe_model()
        told = {name: described[name] for name in REPORTED if described.get(name) is not None}
        text = {name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in told.items()}
        return {"base_url": service.connection.base_url, "model": service.connection.model, **text}

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        """Transcribe one recording; see `models.capabilities.Transcriber`. The server judges the language."""
        check_samples(samples)
        fields = {"language": language} if language else {}
        return self._hear("audio/transcriptions", samples, fields, language)

    def translate(self, samples: NDArray[np.float32], *, language: str | None, target: str) -> Transcript:
        """Translate one recording into English; see `models.capabilities.Translator`.

        The API has no field for the language that is spoken: the server detects it.
        """
        check_samples(samples)
        if target != "en":
            raise EngineError(f"The OpenAI API does not translate into {target!r}.", "It translates into: en.")
        return self._hear("audio/translations", samples, {}, target)

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices: the card's, or else those that the server lists.

        Raises:
            EngineError: Neither names any.
        """
        with self._lock:
            if not self._voices:
                try:
                    self._voices = tuple(self._service.ask("GET", "audio/voices", _VOICES).names)
                except Refused as error:
                    raise EngineError(f"{self._model} names no voices: {error.message}", _NAME_VOICES) from error
            if not self._voices:
                raise EngineError(f"{self._model} has no voices.", _NAME_VOICES)
            return self._voices

    def synthesize(self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0) -> Speech:
        """Speak one text; see `models.capabilities.Synthesizer`. The API has no field for the language."""
        request = self._request(text, voice, speed)
        if not text.strip():
            return Speech(np.zeros(0, np.float32), self._decoding.pcm_rate_hz)
        body = self._service.ask_bytes("POST", "audio/speech", MAX_SPEECH_BYTES, json=request)
        pieces = list(self._speech(iter([body])))
        if not pieces:
            raise EngineError(f"{self._service.url('audio/speech')} said nothing.", "Check the voice and the server.")
        return Speech(pieces[0].samples, pieces[0].sample_rate_hz, cost=self._cost_of_text(text))

    def stream(
        self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0
    ) -> Iterator[Speech]:
        """Speak one text, given on as it comes; see `models.capabilities.StreamingSynthesizer`.

        One call is under way until the last piece is taken or the iterator is closed.
        """
        request = self._request(text, voice, speed)
        return self._streamed(request) if text.strip() else iter(())

    def _streamed(self, request: Mapping[str, Any]) -> Iterator[Speech]:
        blocks = self._service.stream("POST", "audio/speech", MAX_SPEECH_BYTES, json=request)
        with closing(blocks):
            cost = self._cost_of_text(request["input"])
            for piece in self._speech(blocks):
                yield replace(piece, cost=cost)
                cost = None  # told once

    def _speech(self, blocks: Iterator[bytes]) -> Iterator[Speech]:
        rate = self._decoding.pcm_rate_hz
        if self._decoding.audio_format == "wav":
            rate, blocks = open_wav(blocks)
        for samples in samples_of(blocks):
            yield Speech(samples, rate)

    def _request(self, text: str, voice: str | None, speed: float) -> dict[str, Any]:
        if not SLOWEST <= speed <= FASTEST:
            raise EngineError(f"The OpenAI API has no speed {speed:g}.", f"Choose one from {SLOWEST:g} to {FASTEST:g}.")
        if voice is not None and voice not in self.voices:
            raise EngineError(*unknown_name("voice", voice, self.voices))
        instructions = {"instructions": self._decoding.instructions} if self._decoding.instructions else {}
        return {
            "model": self._model,
            "input": text,
            "voice": voice or self.voices[0],
            "response_format": self._decoding.audio_format,
            "speed": speed,
            **instructions,
        }

    def _hear(self, path: str, samples: NDArray[np.float32], fields: dict[str, Any], language: str | None) -> Transcript:
        if samples.size == 0:
            return Transcript(text="", language=language)
        fields = {"model": self._model, "temperature": self._decoding.temperature, **fields}
        if self._decoding.prompt is not None:
            fields["prompt"] = self._decoding.prompt
        file = (f"recording.{self._upload}", packed(samples, self._upload), f"audio/{self._upload}")
        first = 0 if self._decoding.word_timestamps else 1
        formats = self._formats.get(path) or (WORDS, SEGMENTS, TEXT)[first:]
        for number, wanted in enumerate(formats, 1):
            try:
                answer = self._service.ask("POST", path, _TRANSCRIPT, data={**fields, **wanted}, files={"file": file})
            except Refused as error:
                if error.status not in NOT_THIS_FORMAT or number == len(formats):
                    raise
            else:
                self._formats[path] = (wanted,)  # settled by the first recording
                break
        price = self._price_per_minute
        cost = None if price is None else price * len(samples) / SAMPLE_RATE_HZ / 60
        return transcript_of(answer, language, cost)

    def _cost_of_text(self, text: str) -> float | None:
        price = self._price_per_1k_characters
        return None if price is None else price * len(text) / 1000


_NAME_VOICES = "Name them in the card's argument `voices`."
