"""Piper voices on ONNX Runtime, through piper-tts (https://github.com/OHF-Voice/piper1-gpl; the library is GPL-3.0)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.engine import Placement, missing_library
from models.engines._speech import Speaker, blocks, check_cpu, only_file
from models.errors import EngineError
from models.types import Record

REQUIREMENT = "piper-tts>=1.8,<2"
SPEEDS = (0.25, 4.0)
"""What the OpenAI API allows; the model itself has no bounds."""
PHONEMIZERS = ("espeak", "text")
"""What the library brings along. The others need more packages, and the one for Chinese fetches a model as it speaks."""


class PiperDecoding(Record):
    """Options of ``piper.SynthesisConfig``, under the library's names, and a seed.

    Both noises are 0, which the library's are not: the model draws them from a generator inside its graph, which cannot be
    set back between two calls. Measured with the voice joe on 14 read sentences (42 s), without noise against the voice's
    own 0.667 and 0.8: DNSMOS 3.21 against 3.22, word error rate of Whisper tiny.en 4.9% against 9.1%.
    """

    noise_scale: float | None = Field(default=0.0, ge=0)
    """Noise in the sound (VITS, arXiv:2106.06103, section 2.2); None is the voice's own."""
    noise_w_scale: float | None = Field(default=0.0, ge=0)
    """Noise in how long each phoneme lasts; None is the voice's own."""
    normalize_audio: bool = True
    """Whether each sentence is scaled so that its loudest sample is 1."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """With noise: where the draws of a newly loaded voice begin. Then two loadings say the same in the same order of calls,
    but one loading never says a text twice alike. Without noise it changes nothing."""


class Piper(Speaker):
    """One Piper voice: a VITS graph in ONNX and its configuration.

    Deterministic without noise, also across numbers of threads; see `PiperDecoding`. Text in double square brackets is
    read as phonemes, as the library documents. Calls from several threads run side by side.
    """

    packages: ClassVar[tuple[str, ...]] = ("piper-tts", "onnxruntime")
    Decoding: ClassVar[type[Record]] = PiperDecoding

    @classmethod
    def repeatable(cls, decoding: PiperDecoding) -> bool:
        """With noise, a voice never says a text twice alike; see `PiperDecoding`."""
        return decoding.noise_scale == 0 and decoding.noise_w_scale == 0

    def __init__(self, weights: Path, placement: Placement, decoding: PiperDecoding) -> None:
        """Load the voice.

        Args:
            weights: Folder with one ``NAME.onnx`` and its ``NAME.onnx.json``.
            placement: ``float32`` on the CPU.
            decoding: How to speak.

        Raises:
            EngineError: The library is missing, cannot run as placed, or the voice needs a phonemizer that is not here.
        """
        try:
            import onnxruntime
            from piper import PiperVoice, SynthesisConfig
            from piper.config import PiperConfig
        except ImportError as error:
            raise missing_library(REQUIREMENT, error) from error
        check_cpu("Piper", placement, "float32")
        model = only_file(weights, "*.onnx")
        settings = json.loads(only_file(weights, f"{model.name}.json").read_text(encoding="utf-8"))
        if (phonemizer := settings.get("phoneme_type", "espeak")) not in PHONEMIZERS:
            raise EngineError(
                f"{model.name} needs the phonemizer {phonemizer!r}, which is not here.",
                f"Choose a voice with one of: {', '.join(PHONEMIZERS)}.",
            )
        config = PiperConfig.from_dict(settings)
        # PiperVoice.load takes no session options, and would use all cores.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = placement.threads
        options.inter_op_num_threads = 1
        if decoding.noise_scale != 0 or decoding.noise_w_scale != 0:
            onnxruntime.set_seed(decoding.seed)  # of the process: it holds for graphs that are loaded from now on
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._voice: Any = PiperVoice(session=session, config=config)
        self._make_settings = SynthesisConfig
        self._speaker_ids: dict[str, int] = dict(config.speaker_id_map) if config.num_speakers > 1 else {}
        self._options = decoding.model_dump(exclude={"seed"})
        super().__init__(
            voices=_voices(self._speaker_ids, config.default_speaker_id) or (settings.get("dataset") or model.stem,),
            language=_language(settings, config.espeak_voice),
            speeds=SPEEDS,
            sample_rate_hz=config.sample_rate,
        )

    def _speak(self, text: str, voice: str, speed: float) -> Iterator[NDArray[np.floating]]:
        settings = self._make_settings(
            speaker_id=self._speaker_ids.get(voice), length_scale=self._voice.config.length_scale / speed, **self._options
        )
        for block in blocks(text):
            for sentence in self._voice.synthesize(block, settings):
                yield sentence.audio_float_array


def _voices(speaker_ids: dict[str, int], default: int) -> tuple[str, ...]:
    """Names of the speakers in order of their numbers, the voice's default speaker first."""
    return tuple(sorted(speaker_ids, key=lambda name: (speaker_ids[name] != default, speaker_ids[name])))


def _language(settings: dict[str, Any], espeak_voice: str) -> str:
    # Early voices name no language; eSpeak's names begin with its code ("en-us").
    return str(settings.get("language", {}).get("family") or espeak_voice.partition("-")[0])
