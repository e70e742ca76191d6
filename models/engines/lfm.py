"""LFM2.5-Audio, which hears and speaks, through Liquid AI's own code (https://github.com/Liquid4All/liquid-audio).

The library asks for Python 3.12 or newer. Prompts, token numbers and frame rates are those of its README and source.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.audio import SAMPLE_RATE_HZ
from models.capabilities import check_samples
from models.engine import Placement, missing_library
from models.engines._speech import Speaker, blocks
from models.engines._windows import windows
from models.errors import EngineError, UnspeakableError
from models.types import Record, Segment, Transcript

REQUIREMENT = "liquid-audio>=1.3,<2"
COMPUTE_TYPES = ("bfloat16", "float32")
LANGUAGE = "en"

HEAR = "Perform ASR."
SPEAK = "Perform TTS. Use the {} voice."
VOICES: Mapping[str, str] = MappingProxyType(
    {"us-male": "US male", "us-female": "US female", "uk-male": "UK male", "uk-female": "UK female"}
)

SPEECH_RATE_HZ = 24_000
FRAMES_PER_S = 12.5
FRAME_SAMPLES = 1920  # 24,000 / 12.5
CODES = 2048
"""Codes of one codebook; the number itself, first in a frame, ends the speech."""
STEPS_PER_FRAME = 6
"""Spectra that the detokenizer makes of a frame, 320 samples apart and 1280 wide."""
OVERLAPPING_STEPS = 3  # 1280 / 320 - 1
EDGE_SAMPLES = 480  # (1280 - 320) / 2: what the next frame will still change
PIECE_FRAMES = 12
"""Frames of a streamed piece: a second."""
SHORTEST_SAMPLES = 1600
"""The audio encoder wants at least nine spectra, 10 ms apart; silence is added to what is shorter."""


class LfmDecoding(Record):
    """Options of ``LFM2AudioModel.generate_sequential``, under the library's names where it has one.

    Text is greedy. Speech is sampled as the library's README does, from a seed: greedy speech tends to get stuck.
    """

    max_new_tokens: int = Field(default=512, ge=1)
    """Most text tokens of one window; what is longer is cut there."""
    text_temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    text_top_k: int | None = Field(default=None, ge=1, le=65536)
    """Only so many of the likeliest tokens are sampled from; None is all."""
    audio_temperature: float = Field(default=0.8, ge=0)
    """0 is greedy."""
    audio_top_k: int | None = Field(default=64, ge=1, le=CODES)
    """Only so many of the likeliest codes are sampled from; None is all."""
    max_speech_s: float = Field(default=60.0, gt=0)
    """Longest speech (s) of one block of text, which has at most 300 characters; what is longer is cut there."""
    seed: int = Field(default=0, ge=0)
    """Where sampling starts, anew for each answer: the same question always gets the same answer."""
    window_s: float = Field(default=30.0, ge=1, le=120)
    """Longer recordings are heard in windows of at most this length (s), cut where they are quietest."""


class LfmAudio(Speaker):
    """LFM2.5-Audio in the layout of its official repository.

    Texts above 300 characters are spoken block by block (`models.engines._speech.blocks`). Segments of a transcript are the
    windows that were heard; the library gives no scores of its tokens, so there is no confidence.
    """

    packages: ClassVar[tuple[str, ...]] = ("liquid-audio", "torch", "transformers")
    Decoding: ClassVar[type[Record]] = LfmDecoding

    def __init__(self, weights: Path, placement: Placement, decoding: LfmDecoding) -> None:
        """Load the weights.

        Args:
            weights: Folder with ``config.json``, ``model.safetensors``, the tokenizer and ``audio_detokenizer/``.
            placement: ``bfloat16`` or ``float32``.
            decoding: How to decode.

        Raises:
            EngineError: The library is missing, cannot compute as placed, or cannot read the weights.
        """
        if placement.compute_type not in COMPUTE_TYPES:
            raise EngineError(
                f"LFM2.5-Audio has no compute type {placement.compute_type!r}.", f"Available: {', '.join(COMPUTE_TYPES)}."
            )
        try:
            import torch
            from liquid_audio import ChatState, LFM2AudioDetokenizer, LFM2AudioModel, LFM2AudioProcessor
        except ImportError as error:
            raise missing_library(REQUIREMENT, error) from error
        except OSError as error:
            raise EngineError(
                f"liquid-audio cannot be loaded: {error}.", "torch and torchaudio must be builds for the same device."
            ) from error
        if placement.device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineError("PyTorch finds no CUDA device here.", "Choose cpu, or install a CUDA build of torch.")

        self._dtype = getattr(torch, placement.compute_type)
        self._device = torch.device(placement.device)
        try:  # a Path, for a string would be taken for the name of a repository
            self._model: Any = LFM2AudioModel.from_pretrained(weights, dtype=self._dtype, device=self._device).eval()
            self._processor: Any = LFM2AudioProcessor.from_pretrained(weights, device=self._device).eval()
            self._context_frames = _context_frames(_detokenizer(self._processor, LFM2AudioDetokenizer, self._device))
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise EngineError(
                f"liquid-audio cannot load {weights} on {placement.device}: {type(error).__name__}: {error}.",
                "Check the card's weights.",
            ) from error
        # The library takes flash-attn wherever it is installed, which would change answers without changing the card.
        self._model.lfm.set_attn_implementation("sdpa")
        self._chat_state: Any = ChatState
        self._threads = placement.threads
        self._decoding = decoding
        # Sampling draws from torch's global generator, which belongs to one answer at a time.
        self._lock = threading.Lock()
        super().__init__(voices=tuple(VOICES), language=LANGUAGE, speeds=None, sample_rate_hz=SPEECH_RATE_HZ)

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        """Transcribe one recording; see `models.capabilities.Transcriber`. One call at a time, others wait."""
        segments = tuple(piece.segments[0] for piece in self.transcribe_stream(samples, language=language))
        return Transcript(text=" ".join(segment.text for segment in segments), segments=segments, language=LANGUAGE)

    def transcribe_stream(self, samples: NDArray[np.float32], *, language: str | None) -> Iterator[Transcript]:
        """Transcribe one recording window by window; see `models.capabilities.StreamingTranscriber`."""
        check_samples(samples)
        if language not in (None, LANGUAGE):
            raise EngineError(f"LFM2.5-Audio does not know the language {language!r}.", f"It knows: {LANGUAGE}.")
        return self._windows(samples)

    def _windows(self, samples: NDArray[np.float32]) -> Iterator[Transcript]:
        said = False
        for start, end in windows(samples, self._decoding.window_s, SAMPLE_RATE_HZ):
            with self._lock:
                text = self._hear(samples[start:end])
            if text:
                segment = Segment(text=text, start_s=start / SAMPLE_RATE_HZ, end_s=end / SAMPLE_RATE_HZ)
                yield Transcript(text=f"{' ' if said else ''}{text}", segments=(segment,), language=LANGUAGE)
                said = True

    def _hear(self, window: NDArray[np.float32]) -> str:
        import torch

        padded = np.pad(window, (0, max(0, SHORTEST_SAMPLES - len(window))))
        chat = self._asked(HEAR, audio=torch.from_numpy(padded)[None])
        with self._computing(_Dice(self._decoding.seed, self._device)):
            tokens = [token for token in self._answer(chat, self._decoding.max_new_tokens) if token.numel() == 1]
        text: str = self._processor.text.decode(torch.cat(tokens), skip_special_tokens=True)
        return text.strip()

    def _check_text(self, text: str) -> None:
        for token in self._processor.text.added_tokens_decoder.values():
            if token.special and token.content in text:
                raise UnspeakableError(f"The text holds {token.content!r}, which steers the model.", "Leave it out.")

    def _speak(self, text: str, voice: str, speed: float) -> Iterator[NDArray[np.float32]]:
        for block in blocks(text):
            with self._lock:
                yield from self._speak_block(block, VOICES[voice])

    def _speak_block(self, text: str, voice: str) -> Iterator[NDArray[np.float32]]:
        decoding = self._decoding
        # One token more announces the speech.
        most = 1 + math.ceil(decoding.max_speech_s * FRAMES_PER_S)
        frames = self._frames(self._asked(SPEAK.format(voice), text=text), most)
        dice = _Dice(decoding.seed, self._device)
        heard: list[Any] = []
        sent, ended = 0, False
        while not ended:
            with self._computing(dice):
                new = list(islice(frames, PIECE_FRAMES))
                heard += new
                ended = len(new) < PIECE_FRAMES
                stop = len(heard) * FRAME_SAMPLES - (0 if ended else EDGE_SAMPLES)
                samples = self._decoded(heard, sent, stop)
            yield samples
            sent = stop

    def _asked(self, system: str, *, text: str = "", audio: Any = None) -> Any:
        chat = self._chat_state(self._processor, dtype=self._dtype)
        chat.new_turn("system")
        chat.add_text(system)
        chat.end_turn()
        chat.new_turn("user")
        if audio is None:
            chat.add_text(text)
        else:
            chat.add_audio(audio, SAMPLE_RATE_HZ)
        chat.end_turn()
        chat.new_turn("assistant")
        return chat

    def _answer(self, chat: Any, max_new_tokens: int) -> Iterator[Any]:
        """Give the answer's tokens: tensors of one number for text, of eight for a frame of speech."""
        decoding = self._decoding
        tokens: Iterator[Any] = self._model.generate_sequential(
            **chat,
            max_new_tokens=max_new_tokens,
            text_temperature=decoding.text_temperature,
            text_top_k=decoding.text_top_k,
            audio_temperature=decoding.audio_temperature,
            audio_top_k=decoding.audio_top_k,
        )
        return tokens

    def _frames(self, chat: Any, max_new_tokens: int) -> Iterator[Any]:
        for token in self._answer(chat, max_new_tokens):
            if token.numel() == 1:
                continue
            if token[0] == CODES:
                return
            if (token < CODES).all():  # else a frame without a sound, which the library's own demo skips too
                yield token

    def _decoded(self, frames: list[Any], start: int, stop: int) -> NDArray[np.float32]:
        """Turn frames into the samples from `start` to `stop`, counted from the first frame's beginning.

        Only as many frames before them are decoded as the detokenizer looks back, which makes a long speech no dearer than
        its length.
        """
        import torch

        if start >= stop:
            return np.empty(0, np.float32)
        first = max(0, start // FRAME_SAMPLES - self._context_frames)
        wave = self._processor.decode(torch.stack(frames[first:], 1)[None])[0]
        offset = first * FRAME_SAMPLES
        samples: NDArray[np.float32] = wave[start - offset : stop - offset].float().cpu().numpy()
        return samples

    @contextmanager
    def _computing(self, dice: _Dice) -> Iterator[None]:
        """What must hold while the model runs, and must not while a caller handles a piece."""
        import torch

        torch.set_num_threads(self._threads)  # of the process, so another engine may have changed it
        with torch.inference_mode(), dice.thrown():
            yield


class _Dice:
    """torch's global random state, kept for one answer: other users of it neither see nor disturb it."""

    def __init__(self, seed: int, device: Any) -> None:
        self._seed: int | None = seed
        self._cuda = [device] if device.type == "cuda" else []
        self._states: list[Any] = []

    @contextmanager
    def thrown(self) -> Iterator[None]:
        import torch

        with torch.random.fork_rng(devices=self._cuda):
            if self._seed is not None:
                torch.manual_seed(self._seed)
                self._seed = None
            else:
                torch.set_rng_state(self._states[0])
                for device, state in zip(self._cuda, self._states[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            yield
            self._states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._cuda)]


def _detokenizer(processor: Any, kind: Any, device: Any) -> Any:
    """Build the detokenizer on the device.

    The library calls ``.cuda()`` on it, whatever the device. What that means is changed for this class alone, and only here.
    """
    kind.cuda = lambda module: module.to(device)
    try:
        return processor.audio_detokenizer
    finally:
        del kind.cuda


def _context_frames(detokenizer: Any) -> int:
    """Count the frames before a sample that the detokenizer looks at: its layers are causal and see so far each."""
    config = detokenizer.lfm.config
    attention, convolution = detokenizer.sliding_window_size - 1, config.conv_L_cache - 1
    steps: int = sum(convolution if kind == "conv" else attention for kind in config.layer_types)
    return math.ceil((steps + OVERLAPPING_STEPS) / STEPS_PER_FRAME)
