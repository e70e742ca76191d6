"""Whisper on Hugging Face transformers (https://huggingface.co/docs/transformers/model_doc/whisper).

Recordings are heard in windows of 30 seconds, each after the last timestamp of the one before: the sequential method of
Radford et al. 2022 (arXiv:2212.04356), section 3.8. The library does the same when it is given a whole recording, but then
holds the features of all of it; here memory depends on the window alone, and several recordings share a call.

Times of words come from two of the library's functions that are not public; the version is bounded, and a test compares
them with what ``generate(return_token_timestamps=True)`` gives.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.audio import SAMPLE_RATE_HZ
from models.capabilities import check_samples
from models.engine import Placement
from models.engines._timestamps import split_at_timestamps
from models.engines._transformers import PACKAGES, import_libraries, load_model, load_part
from models.engines._whisper import check_language, check_translation, pieces_of, transcript_of
from models.errors import EngineError
from models.types import Record, Transcript

MEL_FRAMES_PER_STEP = 2

Samples = NDArray[np.float32]


class TransformersWhisperDecoding(Record):
    """Options of ``generate``, under the names that the other Whisper engines use."""

    beam_size: int = Field(default=1, ge=1)
    """Beams; 1 is greedy."""
    length_penalty: float = 1.0
    """Exponent of the length by which a beam's score is divided."""
    temperature: float = Field(default=0.0, ge=0, le=0)
    """This engine does not sample, so that the same recording always gives the same text."""
    condition_on_previous_text: Literal[False] = False
    """Each window stands alone: windows of several recordings share a call."""
    without_timestamps: bool = False
    """Whether no timestamps are written: segments are then whole windows, cut wherever 30 seconds end."""
    log_prob_threshold: float | None = -1.0
    """See `no_speech_threshold`."""
    no_speech_threshold: float | None = 0.6
    """A window whose no-speech probability is above this, and whose mean log probability is not above
    `log_prob_threshold`, is silence."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of a window; None is as many as the model can hold."""
    word_timestamps: bool = True
    """Whether words get times and probabilities."""


@dataclass(slots=True)
class _Recording:
    samples: Samples
    language: str | None
    at: int = 0
    """Sample that the next window begins with."""
    segments: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Window:
    """What the model wrote about one window."""

    tokens: list[int]
    """Text and timestamps, without prompt and end."""
    log_probs: list[float]
    """Of each token, and of the end after them where the model wrote one."""
    times_s: list[float]
    """When each token ends, from the window's start; empty without word times."""
    no_speech_probability: float


class TransformersWhisper:
    """Whisper weights in the layout of transformers."""

    packages: ClassVar[tuple[str, ...]] = PACKAGES
    Decoding: ClassVar[type[Record]] = TransformersWhisperDecoding

    def __init__(self, weights: Path, placement: Placement, decoding: TransformersWhisperDecoding) -> None:
        """Load the weights.

        Args:
            weights: Folder as in the ``openai/whisper-*`` repositories: ``model.safetensors``, ``tokenizer.json`` and the
                configuration of model, generation, features and tokenizer.
            placement: ``float32`` anywhere, ``float16`` and ``bfloat16`` on a GPU.
            decoding: How to decode.

        Raises:
            EngineError: The library is missing, cannot compute as placed, or the weights are not Whisper's.
        """
        _, library = import_libraries(placement)
        self._model = load_model(library.AutoModelForSpeechSeq2Seq, weights, placement)
        if self._model.config.model_type != "whisper":
            raise EngineError(f"{weights} holds a {self._model.config.model_type} model.", "Choose another engine.")
        self._features = load_part(library.AutoFeatureExtractor, weights)
        self._tokenizer = load_part(library.AutoTokenizer, weights)
        self._generation = generation = self._model.generation_config
        needed = ["no_timestamps_token_id", *(["alignment_heads"] if decoding.word_timestamps else [])]
        if missing := [name for name in needed if getattr(generation, name, None) is None]:
            raise EngineError(
                f"The generation config of {weights} has no {missing[0]}.",
                "Take the one of the original model, or set word_timestamps to false where the alignment heads are unknown.",
            )
        self._multilingual = bool(getattr(generation, "is_multilingual", False))
        ids: Mapping[str, int] = generation.lang_to_id if self._multilingual else {}
        self._language_ids = {token.strip("<|>"): number for token, number in ids.items()}
        self._decoding = decoding
        self._threads = placement.threads
        # One call at a time: alignment changes how attention is computed for the whole model.
        self._lock = threading.Lock()

    def transcribe(self, samples: Samples, *, language: str | None) -> Transcript:
        """Transcribe one recording; see `models.capabilities.Transcriber`. One call at a time, others wait."""
        return self.transcribe_batch([samples], language=language)[0]

    def transcribe_batch(self, recordings: Sequence[Samples], *, language: str | None) -> list[Transcript]:
        """Transcribe several recordings; see `models.capabilities.BatchTranscriber`.

        Memory grows with their number: their windows are encoded and decoded together.
        """
        check_language(language, self._language_ids if self._multilingual else ("en",))
        heard = self._hear(recordings, language, "transcribe")
        return [transcript_of(one.segments, one.language) for one in heard]

    def transcribe_stream(self, samples: Samples, *, language: str | None) -> Iterator[Transcript]:
        """Transcribe one recording window by window; see `models.capabilities.StreamingTranscriber`."""
        check_samples(samples)
        check_language(language, self._language_ids if self._multilingual else ("en",))
        return pieces_of(self._segments_of(_Recording(samples, language if self._multilingual else "en")))

    def _segments_of(self, one: _Recording) -> Iterator[tuple[dict[str, Any], str | None]]:
        while one.at < one.samples.size:
            told = len(one.segments)
            self._hear_windows([one], "transcribe")
            yield from ((segment, one.language) for segment in one.segments[told:])

    def translate(self, samples: Samples, *, language: str | None, target: str) -> Transcript:
        """Translate one recording into English; see `models.capabilities.Translator`.

        Words get no times: the alignment follows what is spoken, which another language's words do not.

        Raises:
            EngineError: Whisper cannot write the target, or the model knows English alone.
        """
        check_translation(target, self._multilingual)
        check_language(language, self._language_ids)
        (heard,) = self._hear([samples], language, "translate")
        return transcript_of(heard.segments, target)

    def _hear(self, recordings: Sequence[Samples], language: str | None, task: str) -> list[_Recording]:
        for samples in recordings:
            check_samples(samples)
        heard = [_Recording(samples, language if self._multilingual else "en") for samples in recordings]
        while pending := [one for one in heard if one.at < one.samples.size]:
            self._hear_windows(pending, task)
        return heard

    def _hear_windows(self, pending: list[_Recording], task: str) -> None:
        """Hear the next window of each recording. Calls take turns window by window."""
        import torch

        with self._lock, torch.inference_mode():
            torch.set_num_threads(self._threads)  # of the process, so another engine may have changed it
            cut = [one.samples[one.at : one.at + self._features.n_samples] for one in pending]
            for one, samples, window in zip(pending, cut, self._write(cut, pending, task), strict=True):
                self._add(window, samples.size / SAMPLE_RATE_HZ, one)

    def _write(self, cut: list[Samples], pending: list[_Recording], task: str) -> list[_Window]:
        """Let the model write about one window of each recording; detect the languages that are not known yet."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        model, generation, decoding = self._model, self._generation, self._decoding
        model.set_attn_implementation("sdpa")
        inputs = self._features(cut, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True)
        encoded = model.get_encoder()(inputs.input_features.to(model.device, model.dtype)).last_hidden_state
        start = torch.full((len(cut), 1), generation.decoder_start_token_id, device=model.device)
        first = model(encoder_outputs=BaseModelOutput(encoded), decoder_input_ids=start).logits[:, -1].float()
        # As the library has it: the token before <|notimestamps|>, which is <|nospeech|> or, before 2023, <|nocaptions|>.
        no_speech = first.softmax(-1)[:, generation.no_timestamps_token_id - 1].tolist()
        prompt: dict[str, Any] = {}
        if self._multilingual:
            self._detect(first, pending)
            prompt = {"language": [one.language for one in pending], "task": task}
        if decoding.max_new_tokens is not None:
            prompt["max_new_tokens"] = decoding.max_new_tokens
        written = model.generate(
            encoder_outputs=BaseModelOutput(encoded),  # a new one, for beam search repeats what it is given in place
            return_timestamps=not decoding.without_timestamps,
            force_unique_generate_call=True,  # the window and no more: `_add` says where the next one begins
            return_dict_in_generate=True,
            output_scores=True,
            do_sample=False,
            num_beams=decoding.beam_size,
            length_penalty=decoding.length_penalty,
            **prompt,
        )
        prompted = 1 + 2 * self._multilingual + decoding.without_timestamps  # start, language and task, no timestamps
        align = decoding.word_timestamps and task == "transcribe"
        frames = inputs.attention_mask.sum(-1).tolist()
        windows = []
        for index, sequence in enumerate(written.sequences):
            tokens = _until(sequence[prompted:].tolist(), generation.eos_token_id)
            scores = torch.stack([step[index] for step in written.scores[: len(tokens) + 1]]).float()
            chosen = sequence[prompted : prompted + len(scores), None].to(scores.device)
            log_probs = scores.log_softmax(-1).gather(-1, chosen)[:, 0].tolist()
            whole = sequence[: prompted + len(tokens)]
            times = self._align(encoded[index : index + 1], whole, prompted, frames[index]) if align else []
            windows.append(_Window(tokens, log_probs, times, no_speech[index]))
        return windows

    def _detect(self, first: Any, pending: list[_Recording]) -> None:
        """Take the likeliest language token after the start, as the library's ``detect_language`` does."""
        codes = list(self._language_ids)
        likeliest = first[:, list(self._language_ids.values())].argmax(-1).tolist()
        for one, index in zip(pending, likeliest, strict=True):
            one.language = one.language or codes[index]

    def _align(self, encoded: Any, sequence: Any, prompted: int, mel_frames: int) -> list[float]:
        """Say when each token ends, by the library's own alignment of cross-attention.

        ``generate(return_token_timestamps=True)`` aligns a whole batch with its padding, so that a recording's times would
        depend on its neighbours. Here each window is aligned alone, on one more pass of the decoder over what it wrote.
        """
        from transformers.generation.utils import GenerateEncoderDecoderOutput
        from transformers.modeling_outputs import BaseModelOutput

        self._model.set_attn_implementation("eager")  # the only one that gives its weights
        passed = self._model(
            encoder_outputs=BaseModelOutput(encoded), decoder_input_ids=sequence[None], output_attentions=True
        )
        written = GenerateEncoderDecoderOutput(sequences=sequence[None], cross_attentions=(passed.cross_attentions,))
        times = self._model._extract_token_timestamps(
            written,
            self._generation.alignment_heads,
            num_frames=[max(mel_frames, MEL_FRAMES_PER_STEP)],
            num_input_ids=prompted,
        )
        return [round(time, 2) for time in times[0, prompted:-1].tolist()]

    def _add(self, window: _Window, duration_s: float, to: _Recording) -> None:
        """Add a window's segments to its recording, and say where the next window begins."""
        average = sum(window.log_probs) / len(window.log_probs)
        limits = self._decoding
        silent = limits.no_speech_threshold is not None and window.no_speech_probability > limits.no_speech_threshold
        if silent and not (limits.log_prob_threshold is not None and average > limits.log_prob_threshold):
            to.at += self._features.n_samples
            return
        begin = self._generation.no_timestamps_token_id + 1
        pieces, heard_s = split_at_timestamps(window.tokens, begin, duration_s)
        offset_s = to.at / SAMPLE_RATE_HZ
        for piece in pieces:
            text = [at for at in range(*piece.tokens) if window.tokens[at] < self._generation.eos_token_id]
            to.segments.append(
                {
                    "text": self._tokenizer.decode([window.tokens[at] for at in text]),
                    "start": offset_s + piece.start_s,
                    "end": offset_s + piece.end_s,
                    "words": self._words(window, text, to.language, offset_s, piece.end_s) if window.times_s else [],
                    "avg_logprob": average,
                    "no_speech_prob": window.no_speech_probability,
                    "compression_ratio": math.nan,  # the library compresses token ids, not text
                }
            )
        to.at += round(heard_s * SAMPLE_RATE_HZ) if heard_s < duration_s else self._features.n_samples

    def _words(
        self, window: _Window, text: list[int], language: str | None, offset_s: float, end_s: float
    ) -> list[dict[str, Any]]:
        """Join tokens to words as the library does; a word's probability is the mean of its tokens', as in other engines."""
        from transformers.models.whisper.tokenization_whisper import LANGUAGES, _combine_tokens_into_words

        tokens = [window.tokens[at] for at in text]
        words, _, groups = _combine_tokens_into_words(self._tokenizer, tokens, LANGUAGES.get(language or "en"))
        ends_s = [min(time, end_s) for time in window.times_s]  # what follows the segment is heard again
        starts_s = [0.0, *ends_s]
        return [
            {
                "word": word,
                "start": offset_s + starts_s[text[group[0]]],
                "end": offset_s + ends_s[text[group[-1]]],
                "probability": sum(math.exp(window.log_probs[text[at]]) for at in group) / len(group),
            }
            for word, group in zip(words, groups, strict=True)
        ]


def _until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
