"""hibari's small voices, distilled from Kokoro-82M, on ONNX Runtime (https://github.com/MMWilliams/hibari)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.engine import Placement, missing_library
from models.engines._speech import Speaker, blocks, check_cpu, check_readable, only_file
from models.errors import EngineError, unknown_name
from models.types import Record

REQUIREMENT = "hibari-tts==0.2.1"
SPEEDS = (0.5, 2.0)
"""What the library documents."""
THREADS = 1
"""Whatever the placement says. With two, samples differ by up to 0.011, and threads may change speed only; the library
holds one to be enough, and on two cores one was the faster."""


class HibariDecoding(Record):
    """Options of ``hibari.Hibari.stream``."""

    seed: int = Field(default=0, ge=0)
    """Seed of the noise that consonants and breath are shaped from. It starts anew with each part of a long text."""


class Hibari(Speaker):
    """One hibari voice.

    The voice comes from the card's weights. What turns English into phonemes (lexicon, tagger, a net for unknown words) lies
    in the library's own package, which does not let it be replaced: its version is part of the fingerprint.
    """

    packages: ClassVar[tuple[str, ...]] = ("hibari-tts", "onnxruntime", "numpy", "scipy")
    Decoding: ClassVar[type[Record]] = HibariDecoding

    @classmethod
    def calls_at_once(cls, placement: Placement) -> int:
        """As many as there are threads, for a call uses one; see `THREADS`."""
        return placement.threads

    def __init__(self, weights: Path, placement: Placement, decoding: HibariDecoding, *, voice: str = "heart") -> None:
        """Load the voice.

        Args:
            weights: Folder with one ``.onnx`` file.
            placement: ``int8`` on the CPU, the format of the published files; see `THREADS`.
            decoding: How to speak.
            voice: Whose file it is, by the library's name; says whether British or American English is read.

        Raises:
            EngineError: The library is missing or cannot run as placed, or it has no such voice.
        """
        try:
            from hibari import Hibari as Library
            from hibari.voices import VOICES
        except ImportError as error:
            raise missing_library(REQUIREMENT, error) from error
        check_cpu("hibari", placement, "int8")
        if voice not in VOICES:
            raise EngineError(*unknown_name("voice of hibari", voice, VOICES))
        # A path: the library would fetch a voice that it does not bring along, and use its own copy of the one that it does.
        self._library: Any = Library(voice=voice, model=str(only_file(weights, "*.onnx")), threads=THREADS)
        self._reads_words = self._library.g2p
        self._library.g2p.oov("load")  # else loaded by the first unknown word, and by two threads at once
        self._seed = decoding.seed
        super().__init__(voices=(voice,), language="en", speeds=SPEEDS, sample_rate_hz=self._library.sample_rate)

    def _check_text(self, text: str) -> None:
        check_readable(text, lambda letter: letter.isascii() or bool(self._reads_words(letter)))

    def _speak(self, text: str, voice: str, speed: float) -> Iterator[NDArray[np.floating]]:
        for block in blocks(text):
            yield from self._library.stream(block, speed=speed, seed=self._seed)
