"""Whisper on PyTorch, through OpenAI's own code (https://github.com/openai/whisper)."""

from __future__ import annotations

import json
import sys
import threading
from copy import copy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.capabilities import check_samples
from models.engine import Placement, missing_library
from models.engines._mel_blocks import BLOCK_SAMPLES, FFT_SAMPLES, HOP_SAMPLES, log_mel
from models.engines._whisper import WhisperDecoding, check_language, check_translation, steering, transcript_of
from models.errors import EngineError
from models.types import Record, Transcript

REQUIREMENT = "openai-whisper>=20250625"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
WARM_UP_TEXT = " One, two, three."
WARM_UP_TOKENS = 4
"""Tokens at most."""


class OpenAIWhisperDecoding(WhisperDecoding):
    """Options of ``whisper.transcribe`` and ``whisper.DecodingOptions``, under faster-whisper's names."""

    length_penalty: float | None = None
    """The alpha of Wu et al. 2016 (arXiv:1609.08144) by which a beam's score is divided; None divides by the length."""


class OpenAIWhisper:
    """Whisper weights in OpenAI's layout, as `models.convert` writes them."""

    packages: ClassVar[tuple[str, ...]] = ("openai-whisper", "torch")
    Decoding: ClassVar[type[Record]] = OpenAIWhisperDecoding

    def __init__(self, weights: Path, placement: Placement, decoding: OpenAIWhisperDecoding) -> None:
        """Load the weights.

        Args:
            weights: Folder with ``config.json`` and ``model.safetensors``.
            placement: ``float32`` anywhere, ``float16`` on a GPU.
            decoding: How to decode.

        Raises:
            EngineError: The library is missing, or cannot compute as placed.
        """
        if placement.compute_type not in {"float32", "float16"}:
            raise EngineError(
                f"openai-whisper has no compute type {placement.compute_type!r}.", "Available: float16 (cuda), float32."
            )
        if placement.device == "cpu" and placement.compute_type == "float16":  # the library would quietly use float32
            raise EngineError("openai-whisper has no float16 on cpu.", "Choose float32.")
        try:
            import torch
            from safetensors.torch import load_file
            from whisper.model import ModelDimensions, Whisper
            from whisper.tokenizer import LANGUAGES
        except ImportError as error:
            raise missing_library(REQUIREMENT, error) from error
        if placement.device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineError("PyTorch finds no CUDA device here.", "Choose cpu, or install a CUDA build of torch.")

        _transform_in_blocks()
        config = json.loads((weights / CONFIG).read_text(encoding="utf-8"))
        # As whisper.load_model does: float32 parameters that take the stored float16 values exactly. On a GPU the library
        # computes in float16 by casting them as it goes, which keeps layer norms in float32.
        model: Any = Whisper(ModelDimensions(**config["dims"]))
        model.load_state_dict(load_file(weights / WEIGHTS))
        heads = torch.zeros(model.dims.n_text_layer, model.dims.n_text_head, dtype=torch.bool)
        heads[tuple(zip(*config["alignment_heads"], strict=True))] = True
        model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
        self._encoder = model.encoder = _remember_last_window(model.encoder)
        self._model = model.eval().to(placement.device)
        self._languages: tuple[str, ...] = tuple(LANGUAGES) if model.is_multilingual else ("en",)
        self._threads = placement.threads
        self._options = _library_options(decoding, fp16=placement.compute_type == "float16")
        # The library keeps keys and values in hooks on the model's modules: two decodings at once would mix theirs.
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Decode a few tokens of nothing and align a word; see `models.capabilities.Warmable`.

        Hearing noise would encode a window of 30 s and yet not warm the aligner, which numba compiles at its first word.
        """
        import torch
        from whisper.audio import N_FRAMES
        from whisper.decoding import DecodingOptions, decode
        from whisper.timing import find_alignment
        from whisper.tokenizer import get_tokenizer

        dims, fp16 = self._model.dims, self._options["fp16"]
        tokenizer = get_tokenizer(self._model.is_multilingual, language="en")
        dtype = torch.float16 if fp16 else torch.float32
        features = torch.zeros((1, dims.n_audio_ctx, dims.n_audio_state), device=self._model.device, dtype=dtype)
        window = torch.zeros((dims.n_mels, N_FRAMES), device=self._model.device, dtype=dtype)
        with self._lock, torch.inference_mode():
            torch.set_num_threads(self._threads)
            decode(self._model, features[0], DecodingOptions(language="en", fp16=fp16, sample_len=WARM_UP_TOKENS))
            self._encoder.remember(window.unsqueeze(0), features)
            find_alignment(self._model, tokenizer, tokenizer.encode(WARM_UP_TEXT), window, N_FRAMES)
            self._encoder.forget()

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        """Transcribe one recording; see `models.capabilities.Transcriber`. One call at a time, others wait."""
        check_samples(samples)
        check_language(language, self._languages)
        if samples.size == 0:
            return Transcript(text="", language=language)
        result = self._hear(samples, language=language)
        return transcript_of(result["segments"], result["language"])

    def steered(self, *, prompt: str | None = None, temperature: float | None = None) -> OpenAIWhisper:
        """Decode otherwise on the same weights; see `models.capabilities.SteerableTranscriber`."""
        other = copy(self)
        other._options = {**self._options, **steering(prompt, temperature)}
        return other

    def translate(self, samples: NDArray[np.float32], *, language: str | None, target: str) -> Transcript:
        """Translate one recording into English; see `models.capabilities.Translator`. One call at a time, others wait.

        Words get no times: the library itself calls them unreliable, for the words written are not those spoken.
        """
        check_samples(samples)
        check_translation(target, self._model.is_multilingual)
        check_language(language, self._languages)
        if samples.size == 0:
            return Transcript(text="", language=target)
        untimed = {"word_timestamps": False, "hallucination_silence_threshold": None}
        return transcript_of(self._hear(samples, language=language, task="translate", **untimed)["segments"], target)

    def _hear(self, samples: NDArray[np.float32], **changes: Any) -> dict[str, Any]:
        import torch

        with self._lock, torch.inference_mode():
            torch.set_num_threads(self._threads)  # of the process, so another engine may have changed it
            result: dict[str, Any] = self._model.transcribe(samples, verbose=None, **{**self._options, **changes})
            self._encoder.forget()  # or hearing one recording twice would look faster than it is
        return result


def _remember_last_window(encoder: Any) -> Any:
    """Wrap an audio encoder so that the same window is encoded once.

    The library encodes a window to decode it and again to align its words, and on short recordings the encoder is half of
    all work.
    """
    import torch

    class LastWindow(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.forget()

        def forget(self) -> None:
            self.window: Any = None
            self.features: Any = None

        def remember(self, window: Any, features: Any) -> None:
            self.window, self.features = window, features

        def forward(self, window: Any) -> Any:
            if self.window is None or self.window.shape != window.shape or not torch.equal(self.window, window):
                self.remember(window, self.encoder(window))
            return self.features

    return LastWindow()


def _transform_in_blocks() -> None:
    """Let the library's ``transcribe`` need little more memory for an hour than for two minutes; see `_mel_blocks`.

    It takes no features, and names the function that makes them in its own module; that name is given another function, once
    a process, which hands shorter recordings on to the library's.
    """
    import torch
    import whisper.transcribe  # its module; the package has a function of that name

    module: Any = sys.modules["whisper.transcribe"]
    whole = module.log_mel_spectrogram
    if hasattr(whole, "in_blocks"):
        return

    def in_blocks(audio: Any, n_mels: int = 80, padding: int = 0, device: Any = None) -> Any:
        if not isinstance(audio, np.ndarray) or len(audio) <= BLOCK_SAMPLES:
            return whole(audio, n_mels, padding, device)
        window = torch.hann_window(FFT_SAMPLES)
        filters = whisper.audio.mel_filters(torch.device("cpu"), n_mels)

        def mel_of(piece: NDArray[np.float32]) -> Any:
            spectrum = torch.stft(
                torch.from_numpy(piece), FFT_SAMPLES, HOP_SAMPLES, window=window, center=False, return_complex=True
            )
            return (filters @ (spectrum.abs() ** 2)).numpy()

        made = torch.from_numpy(log_mel(audio, padding, n_mels, mel_of))
        return made if device is None else made.to(device)

    in_blocks.in_blocks = True  # type: ignore[attr-defined]
    module.log_mel_spectrogram = in_blocks


def _library_options(decoding: OpenAIWhisperDecoding, *, fp16: bool) -> dict[str, Any]:
    options = decoding.model_dump()
    options["logprob_threshold"] = options.pop("log_prob_threshold")
    options["sample_len"] = options.pop("max_new_tokens")
    if options["beam_size"] == 1:  # a beam search with one beam is greedy, only slower; the library wants None for that
        options["beam_size"] = options["patience"] = None
    return {**options, "fp16": fp16}
