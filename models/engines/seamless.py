"""SeamlessM4T v2 on PyTorch, through transformers (https://huggingface.co/docs/transformers/model_doc/seamless_m4t_v2)."""

from __future__ import annotations

import importlib
import importlib.util
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.audio import SAMPLE_RATE_HZ
from models.capabilities import check_samples
from models.engine import Placement
from models.engines._seamless import (
    HEARD_ONLY,
    SPEAKS,
    SPELLING,
    UNSPACED,
    WRITES,
    Table,
    check_generation,
    known_languages,
    words_of,
)
from models.engines._speech import check_readable, sentences
from models.engines._transformers import PACKAGES, import_libraries, load_model, load_part
from models.engines._windows import windows
from models.errors import EngineError, unknown_name
from models.types import Record, Segment, Speech, Transcript

SENTENCEPIECE = "sentencepiece>=0.2,<1"
PROMPT_TOKENS = 2
"""Tokens before the text: the end token, with which this model begins, and the language."""
SHORTEST = 400 + 160
"""Samples of two feature frames (25 ms every 10 ms); of fewer the features cannot be normalised."""


class SeamlessDecoding(Record):
    """Options of ``SeamlessM4Tv2Model.generate``, under the library's names, and of the windows. It never samples."""

    num_beams: int = Field(default=1, ge=1)
    """Beams when writing; 1 is greedy."""
    length_penalty: float = 1.0
    """With beams, the exponent of the length by which a beam's score is divided."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens that were written before become less likely."""
    no_repeat_ngram_size: int = Field(default=0, ge=0)
    """No run of this many tokens is written twice in a window; 0 allows it."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Most tokens that are written of a window, which then ends there; 256 is the model's own limit."""
    window_s: float = Field(default=15.0, ge=5, le=60)
    """Longest stretch (s) heard at once; a longer recording is cut (`models.engines._windows`). The authors advise
    15 s: beyond, the model leaves text out (github.com/facebookresearch/seamless_communication/issues/82)."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What the model wrote of one window."""

    text: str
    avg_logprob: float
    words: list[float] | None
    """Probability of each word; None where the tokens do not make up the words of the text."""


class Seamless:
    """SeamlessM4T v2 weights in transformers' layout: writes, translates and speaks.

    What there is to know about its answers:

    - The model cannot detect a language, and is told only the one to write. So recognition needs a language, while
      translation uses the spoken one for nothing but to refuse what the model was not trained to hear.
    - A segment is a window of the recording. There are no times of words, so there are no words; `Transcript.confidence` is
      the mean of the words' probabilities (`models.engines._seamless.words_of`) all the same. `Segment.avg_logprob` counts
      the end token, as Whisper's does.
    - Speaking is translating into the same language and speaking the result. That may change words, so the written result is
      held to the tokens of the text: what is spoken is what was given, sentence by sentence. It has one pace.
    """

    packages: ClassVar[tuple[str, ...]] = PACKAGES
    Decoding: ClassVar[type[Record]] = SeamlessDecoding

    def __init__(
        self, weights: Path, placement: Placement, decoding: SeamlessDecoding, *, voices: Sequence[int] = ()
    ) -> None:
        """Load the weights.

        Args:
            weights: Folder with ``config.json``, ``generation_config.json``, safetensors, ``preprocessor_config.json`` and
                the tokenizer's files.
            placement: ``float32`` anywhere, ``float16`` and ``bfloat16`` on a GPU.
            decoding: How to decode.
            voices: Speaker ids of the vocoder to offer, the default first; empty offers all.

        Raises:
            EngineError: The library is missing, cannot compute as placed, or the folder is not a whole checkpoint.
        """
        _, library = import_libraries(placement)
        if not (weights / "tokenizer.json").is_file() and importlib.util.find_spec("sentencepiece") is None:
            # The library would go on with another reader and fail with that one's error.
            raise EngineError(
                f"{weights} has no tokenizer.json, and sentencepiece, which reads the other form, is not installed.",
                f"Install it with: pip install '{SENTENCEPIECE}'",
            )
        self._features = load_part(library.SeamlessM4TFeatureExtractor, weights)
        self._tokenizer = load_part(library.SeamlessM4TTokenizer, weights)
        # One part tells the library to overlook missing tensors of all the others, which it would then make up.
        parts = importlib.import_module(library.SeamlessM4Tv2Model.__module__)
        parts.SeamlessM4Tv2TextToUnitForConditionalGeneration._keys_to_ignore_on_load_missing = None
        self._model = model = load_model(library.SeamlessM4Tv2Model, weights, placement)
        check_generation(weights, model.generation_config, self._tokenizer)
        generation = model.generation_config
        for name in SPELLING:
            setattr(generation, name, Table(getattr(generation, name)))
        self._writes = known_languages(getattr(generation, WRITES))
        spoken = set.intersection(*(set(getattr(generation, name)) for name in SPEAKS))
        self._speaks = {language: code for language, code in self._writes.items() if code in spoken}
        self._hears = {language: language for language in (*self._writes, *HEARD_ONLY)}
        speakers = range(model.config.vocoder_num_spkrs)
        if wrong := [voice for voice in voices if voice not in speakers]:
            raise EngineError(f"The vocoder has no speaker {wrong[0]}.", f"Available: 0 to {speakers[-1]}.")
        self._voices = tuple(str(voice) for voice in voices or speakers)
        self._threads = placement.threads
        options = decoding.model_dump()
        self._window_s: float = options.pop("window_s")
        self._options = {f"text_{name}": value for name, value in options.items()}
        # The model keeps what it heard last, sound or text, and the tokenizer its language: two calls would mix theirs.
        self._lock = threading.Lock()

    @property
    def voices(self) -> tuple[str, ...]:
        """Speaker ids of the vocoder; the first is the default. Each can speak every language."""
        return self._voices

    def transcribe(self, samples: NDArray[np.float32], *, language: str | None) -> Transcript:
        """Transcribe one recording; see `models.capabilities.Transcriber`. One call at a time, others wait.

        Raises:
            EngineError: No language is given, or the model cannot write it.
        """
        if language is None:
            raise EngineError("SeamlessM4T cannot detect the language.", "Say which language is spoken.")
        return self._write(samples, language)

    def transcribe_stream(self, samples: NDArray[np.float32], *, language: str | None) -> Iterator[Transcript]:
        """Transcribe one recording window by window; see `models.capabilities.StreamingTranscriber` and `transcribe`."""
        if language is None:
            raise EngineError("SeamlessM4T cannot detect the language.", "Say which language is spoken.")
        check_samples(samples)
        code = _code(language, self._writes, "write")
        pieces = (self._joined([window], language, code) for window in self._windows(samples, code))
        between = "" if code in UNSPACED else " "
        return (
            piece.model_copy(update={"text": f"{between if number else ''}{piece.text}"})
            for number, piece in enumerate(pieces)
        )

    def translate(self, samples: NDArray[np.float32], *, language: str | None, target: str) -> Transcript:
        """Translate one recording; see `models.capabilities.Translator`. One call at a time, others wait."""
        if language is not None:
            _code(language, self._hears, "understand")
        return self._write(samples, target)

    def synthesize(self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0) -> Speech:
        """Speak one text at 16 kHz; see `models.capabilities.Synthesizer` and `stream`."""
        pieces = [piece.samples for piece in self.stream(text, language=language, voice=voice, speed=speed)]
        return Speech(np.concatenate(pieces) if pieces else np.zeros(0, np.float32), self._model.config.sampling_rate)

    def stream(
        self, text: str, *, language: str | None = None, voice: str | None = None, speed: float = 1.0
    ) -> Iterator[Speech]:
        """Speak one text sentence by sentence; see `models.capabilities.StreamingSynthesizer`. One sentence at a time.

        Raises:
            EngineError: No language is given, the model cannot speak it, the voice is unknown, the speed is not 1, or the
                vocabulary lacks a letter. With a piece: the model gave no numbers.
        """
        if language is None:
            raise EngineError("The voices of SeamlessM4T have no language of their own.", "Say the language of the text.")
        code = _code(language, self._speaks, "speak")
        if voice is not None and voice not in self._voices:
            raise EngineError(*unknown_name("voice", voice, self._voices))
        if speed != 1:
            raise EngineError(f"This model cannot change its speed; {speed:g} was asked for.", "Leave it at 1.")
        with self._lock:
            check_readable(text, self._reads)
        spoken = (self._speak(sentence, code, int(voice or self._voices[0])) for sentence in sentences(text))
        return (Speech(samples, self._model.config.sampling_rate) for samples in spoken if samples.size)

    def _reads(self, letter: str) -> bool:
        return self._tokenizer.unk_token_id not in self._tokenizer(letter, add_special_tokens=False)["input_ids"]

    def _speak(self, text: str, code: str, speaker: int) -> NDArray[np.float32]:
        import torch

        with self._lock, torch.inference_mode():
            torch.set_num_threads(self._threads)
            inputs = self._tokenizer(text, src_lang=code, return_tensors="pt").to(self._model.device)
            wanted = inputs["input_ids"][0, 1:].tolist()  # without the language
            if len(wanted) == 1:  # the end token alone
                return np.zeros(0, np.float32)
            spoken = self._model.generate(
                **inputs,
                tgt_lang=code,
                speaker_id=speaker,
                return_intermediate_token_ids=True,
                text_num_beams=1,
                text_do_sample=False,
                text_repetition_penalty=1.0,
                text_no_repeat_ngram_size=0,
                text_max_new_tokens=len(wanted),
                text_prefix_allowed_tokens_fn=lambda _, so_far: [wanted[len(so_far) - PROMPT_TOKENS]],
            )
            assert spoken.sequences[0, PROMPT_TOKENS:].tolist() == wanted, "the text was not held to"
            samples: NDArray[np.float32] = spoken.waveform[0, : int(spoken.waveform_lengths)].float().cpu().numpy()
        if not np.isfinite(samples).all():
            raise EngineError("The model gave samples that are not numbers.", "Compute in float32.")
        return samples

    def _write(self, samples: NDArray[np.float32], language: str) -> Transcript:
        check_samples(samples)
        code = _code(language, self._writes, "write")
        return self._joined(list(self._windows(samples, code)), language, code)

    def _windows(self, samples: NDArray[np.float32], code: str) -> Iterator[tuple[int, int, _Written]]:
        """Write window after window: start and end in samples, and what was written, where it was anything."""
        import torch

        for start, end in windows(samples, self._window_s, SAMPLE_RATE_HZ):
            if end - start < SHORTEST:
                continue
            with self._lock, torch.inference_mode():
                torch.set_num_threads(self._threads)  # of the process, so another engine may have changed it
                one = self._write_window(samples[start:end], code)
            if one.text:
                yield start, end, one

    @staticmethod
    def _joined(written: Sequence[tuple[int, int, _Written]], language: str, code: str) -> Transcript:
        words = [word for _, _, one in written if one.words is not None for word in one.words]
        exact = all(one.words is not None for _, _, one in written)
        return Transcript(
            text=("" if code in UNSPACED else " ").join(one.text for _, _, one in written),
            segments=tuple(
                Segment(
                    text=one.text,
                    start_s=start / SAMPLE_RATE_HZ,
                    end_s=end / SAMPLE_RATE_HZ,
                    avg_logprob=one.avg_logprob,
                    compression_ratio=_compression_ratio(one.text),
                )
                for start, end, one in written
            ),
            language=language,
            confidence=sum(words) / len(words) if words and exact else None,
        )

    def _write_window(self, samples: NDArray[np.float32], code: str) -> _Written:
        inputs = self._features(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").to(self._model.device)
        inputs["input_features"] = inputs["input_features"].to(self._model.dtype)
        output = self._model.generate(**inputs, tgt_lang=code, generate_speech=False, text_do_sample=False, **self._options)
        beams = getattr(output, "beam_indices", None)
        scores = self._model.compute_transition_scores(output.sequences, output.scores, beams, normalize_logits=True)
        tokens, logprobs = output.sequences[0, PROMPT_TOKENS:].tolist(), scores[0].tolist()
        text = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        special = set(self._tokenizer.all_special_ids)
        kept = [(token, logprob) for token, logprob in zip(tokens, logprobs, strict=True) if token not in special]
        pieces = self._tokenizer.convert_ids_to_tokens([token for token, _ in kept])
        words = words_of(pieces, np.exp([logprob for _, logprob in kept]).tolist())
        exact = " ".join(word for word, _ in words) == text
        return _Written(text, float(np.mean(logprobs)), [probability for _, probability in words] if exact else None)


def _code(language: str, known: Mapping[str, str], verb: str) -> str:
    if language not in known:
        listing = ", ".join(sorted(known))
        raise EngineError(f"This model cannot {verb} the language {language!r}.", f"It can {verb}: {listing}.")
    return known[language]


def _compression_ratio(text: str) -> float:
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded))
