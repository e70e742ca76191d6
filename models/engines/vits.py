"""VITS on PyTorch, through transformers (https://huggingface.co/docs/transformers/model_doc/vits)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from models.engine import Placement
from models.engines._speech import check_cpu, check_readable
from models.engines._torch_speech import TorchSpeaker
from models.engines._transformers import PACKAGES, import_libraries, load_model, load_part
from models.errors import EngineError
from models.types import Record

SPEEDS = (0.25, 4.0)
"""What the OpenAI API allows; the model itself has no bounds."""


class VitsDecoding(Record):
    """Settings of ``VitsModel``, under the library's names, and a seed."""

    noise_scale: float | None = Field(default=None, ge=0)
    """Noise in the sound (arXiv:2106.06103, section 2.2); None is the checkpoint's own."""
    noise_scale_duration: float | None = Field(default=None, ge=0)
    """Noise in how long each character lasts; None is the checkpoint's own."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the noise; it starts anew with each sentence."""


class Vits(TorchSpeaker):
    """VITS and MMS-TTS weights in transformers' layout. The voices are the numbers of the model's speakers.

    The tokenizers of MMS-TTS leave out what is not in their vocabulary. That is meant for punctuation; letters and digits
    are refused by name.
    """

    packages: ClassVar[tuple[str, ...]] = PACKAGES
    Decoding: ClassVar[type[Record]] = VitsDecoding

    def __init__(self, weights: Path, placement: Placement, decoding: VitsDecoding, *, language: str) -> None:
        """Load the weights.

        Args:
            weights: Folder with ``config.json``, ``model.safetensors``, ``vocab.json`` and ``tokenizer_config.json``.
            placement: ``float32`` on the CPU.
            decoding: How to speak.
            language: ISO 639-1 code of what the checkpoint speaks, which the files do not say in that form.

        Raises:
            EngineError: A library is missing, cannot run as placed, or the folder is not a whole checkpoint.
        """
        check_cpu("VITS", placement, "float32")
        _, library = import_libraries(placement)
        self._tokenizer = tokenizer = load_part(library.VitsTokenizer, weights)
        # Without these the library would fail at the first text, or read another script as if it were Roman.
        for needed, name in ((tokenizer.phonemize, "phonemizer"), (tokenizer.is_uroman, "uroman")):
            if needed and importlib.util.find_spec(name) is None:
                raise EngineError(
                    f"The tokenizer in {weights} needs {name}, which is not installed.",
                    f"Install it with: pip install {name}",
                )
        self._model: Any = load_model(library.VitsModel, weights, placement)
        for name, value in decoding.model_dump(exclude={"seed"}, exclude_none=True).items():
            setattr(self._model, name, value)
        self._threads, self._seed = placement.threads, decoding.seed
        self._vocabulary = frozenset(tokenizer.get_vocab())
        super().__init__(
            voices=tuple(str(number) for number in range(self._model.config.num_speakers)),
            language=language,
            speeds=SPEEDS,
            sample_rate_hz=self._model.config.sampling_rate,
        )

    def _check_text(self, text: str) -> None:
        def reads(letter: str) -> bool:
            prepared, _ = self._tokenizer.prepare_for_tokenization(letter)
            return bool(prepared) and self._vocabulary.issuperset(prepared)

        check_readable(text, reads)

    def _say(self, sentence: str, voice: str, speed: float) -> Any:
        tokens = self._tokenizer(sentence, return_tensors="pt")
        pace = self._model.speaking_rate * speed
        return self._model(**tokens, speaker_id=int(voice), speaking_rate=pace).waveform[0]
