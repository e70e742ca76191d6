"""SpeechT5 on PyTorch, through transformers (https://huggingface.co/docs/transformers/model_doc/speecht5)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.engine import Placement
from models.engines._speech import PIECE_CHARS, check_cpu, check_readable
from models.engines._torch_speech import TorchSpeaker
from models.engines._transformers import PACKAGES, import_libraries, load_model, load_part
from models.errors import EngineError
from models.types import Record

SENTENCEPIECE = "sentencepiece>=0.2,<1"
VOCODER, VOICES = "vocoder", "voices"
"""Folders beside the weights."""


class SpeechT5Decoding(Record):
    """Options of ``SpeechT5ForTextToSpeech.generate_speech``, under the library's names, and a seed."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability of the end at which a sentence ends."""
    minlenratio: float = Field(default=0.0, ge=0)
    """Fewest spectrogram frames per character."""
    maxlenratio: float = Field(default=20.0, gt=0)
    """Most spectrogram frames (16 ms) per character; speech that has not ended by then is cut there."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the dropout that this model was made to speak with (arXiv:1712.05884, section 2.2). It starts anew with each
    sentence."""


class SpeechT5(TorchSpeaker):
    """SpeechT5 weights in transformers' layout, with their vocoder and the voices to speak with. It has one pace.

    A voice is an x-vector of a speaker: a file ``voices/NAME.npy`` of shape (512,), float32. The tokenizer writes characters
    that it does not know as one and the same sign; letters and digits among them are refused by name.
    """

    packages: ClassVar[tuple[str, ...]] = (*PACKAGES, "sentencepiece")
    Decoding: ClassVar[type[Record]] = SpeechT5Decoding

    def __init__(self, weights: Path, placement: Placement, decoding: SpeechT5Decoding, *, language: str = "en") -> None:
        """Load the weights.

        Args:
            weights: Folder with ``config.json``, ``model.safetensors``, ``spm_char.model`` and the tokenizer's settings;
                in it ``vocoder/`` with ``config.json`` and ``model.safetensors``, and ``voices/`` with at least one file.
            placement: ``float32`` on the CPU.
            decoding: How to speak.
            language: ISO 639-1 code of what the checkpoint speaks.

        Raises:
            EngineError: A library is missing, cannot run as placed, the folder is not a whole checkpoint, or a voice is not
                one of this model.
        """
        check_cpu("SpeechT5", placement, "float32")
        torch, library = import_libraries(placement)
        if importlib.util.find_spec("sentencepiece") is None:
            raise EngineError(
                "SpeechT5 needs sentencepiece, which is not installed.", f"Install it with: pip install '{SENTENCEPIECE}'"
            )
        self._tokenizer = load_part(library.SpeechT5Tokenizer, weights)
        self._model: Any = load_model(library.SpeechT5ForTextToSpeech, weights, placement)
        self._vocoder: Any = load_model(library.SpeechT5HifiGan, weights / VOCODER, placement)
        size = self._model.config.speaker_embedding_dim
        vectors = {path.stem: _vector(path, size) for path in sorted((weights / VOICES).glob("*.npy"))}
        if not vectors:
            raise EngineError(f"{weights} has no {VOICES}/NAME.npy.", "Name at least one voice in the card's weights.")
        self._speakers = {name: torch.from_numpy(vector)[None] for name, vector in vectors.items()}
        # The model has so many positions: less the mark before the first word, and the end's.
        self._most_chars = min(PIECE_CHARS, self._model.config.max_text_positions - 2)
        self._threads, self._seed = placement.threads, decoding.seed
        self._options = decoding.model_dump(exclude={"seed"})
        super().__init__(
            voices=tuple(vectors), language=language, speeds=None, sample_rate_hz=self._vocoder.config.sampling_rate
        )

    def _check_text(self, text: str) -> None:
        unknown = self._tokenizer.unk_token_id
        check_readable(text, lambda letter: unknown not in self._tokenizer(letter).input_ids)

    def _say(self, sentence: str, voice: str, speed: float) -> Any:
        tokens = self._tokenizer(sentence, return_tensors="pt").input_ids
        return self._model.generate_speech(
            tokens, speaker_embeddings=self._speakers[voice], vocoder=self._vocoder, **self._options
        )


def _vector(path: Path, size: int) -> NDArray[np.float32]:
    try:
        vector = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EngineError(f"The voice {path} cannot be read: {error}.", "It must be a NumPy file of numbers.") from error
    if vector.shape != (size,) or not np.issubdtype(vector.dtype, np.floating):
        found = f"shape {vector.shape}, {vector.dtype}"
        raise EngineError(f"The voice {path} is not an x-vector of this model: {found}.", f"It must have shape ({size},).")
    as_float: NDArray[np.float32] = vector.astype(np.float32)
    return as_float
