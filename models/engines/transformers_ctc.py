"""CTC models on Hugging Face transformers: wav2vec 2.0, HuBERT, WavLM, Parakeet-CTC and their kin.

Such a model says for every frame (20 ms in wav2vec 2.0, 80 ms in Parakeet) how likely each token is, or a blank (Graves et
al. 2006). Decoding is greedy: the likeliest of each frame, repeats merged, blanks dropped. Long recordings are heard in
windows that overlap, and of each window the frames in the middle are kept, as the library's own pipeline does
(https://huggingface.co/blog/asr-chunking); the features and the distributions of one window are all that is held.

What probabilities mean here: a token's is the highest softmax probability among the frames it was read from, a word's is the
mean of its tokens'. Times are those of the frames; a token ends with its last frame, so pauses belong to no word.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.audio import SAMPLE_RATE_HZ
from models.capabilities import check_samples
from models.engine import Placement
from models.engines._ctc import Token, Window, collapse, overlapping
from models.engines._transformers import PACKAGES, import_libraries, load_model, load_part
from models.engines._whisper import check_language
from models.errors import EngineError
from models.types import Record, Segment, Transcript, Word

SHORTEST_S = 0.1
"""Recordings below this are filled up with silence: less than a frame cannot be heard."""
PROBES_S = (1, 3)
"""Lengths of the silence by which a model's frames are measured."""
WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
"""Begins the tokens that begin a word, where the vocabulary is SentencePiece's."""

LEAST_WRITTEN_S = 0.5
"""What a window must write at least, for longer recordings to come to an end."""

Samples = NDArray[np.float32]
Frames = tuple[NDArray[np.int64], NDArray[np.float32]]
"""The likeliest token of each frame and its probability, each of shape (n,)."""


class CTCDecoding(Record):
    """Options of greedy CTC decoding."""

    window_s: float = Field(default=30.0, gt=0)
    """Most audio that is heard at once."""
    context_s: float = Field(default=5.0, gt=0)
    """Audio at either end of a window that is heard but left to its neighbour to write."""
    segment_pause_s: float = Field(default=1.0, gt=0)
    """A pause between words above this ends a segment; CTC itself knows none."""

    @model_validator(mode="after")
    def _something_is_left_to_write(self) -> CTCDecoding:
        if self.window_s - 2 * self.context_s < LEAST_WRITTEN_S:
            raise ValueError(f"window_s less twice context_s must leave {LEAST_WRITTEN_S} s")
        return self


class TransformersCTC:
    """A CTC model in the layout of transformers."""

    packages: ClassVar[tuple[str, ...]] = PACKAGES
    Decoding: ClassVar[type[Record]] = CTCDecoding

    def __init__(self, weights: Path, placement: Placement, decoding: CTCDecoding, *, languages: Sequence[str] = ()) -> None:
        """Load the weights.

        Args:
            weights: Folder with ``model.safetensors`` and the configuration of model, features and tokenizer.
            placement: ``float32`` anywhere, ``float16`` and ``bfloat16`` on a GPU.
            decoding: How to decode.
            languages: ISO 639-1 codes of what the model was trained to write.

        Raises:
            EngineError: The library is missing, cannot compute as placed, the weights are not a CTC model for 16 kHz, or no
                language is named.
        """
        if not languages:
            raise EngineError("A CTC model does not say what it writes.", "Name it in the card: `args: {languages: [en]}`.")
        _, library = import_libraries(placement)
        self._model = load_model(library.AutoModelForCTC, weights, placement)
        self._extractor = load_part(library.AutoFeatureExtractor, weights)
        self._tokenizer = load_part(library.AutoTokenizer, weights)
        if self._extractor.sampling_rate != SAMPLE_RATE_HZ:
            raise EngineError(
                f"{weights} takes audio at {self._extractor.sampling_rate} Hz.", f"Choose one for {SAMPLE_RATE_HZ} Hz."
            )
        # Names of what the library uses in training; there is no public one. Without it a batch is not padded.
        names = ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")
        self._output_lengths = next((getattr(self._model, name) for name in names if hasattr(self._model, name)), None)
        self._delimiter = getattr(self._tokenizer, "word_delimiter_token_id", None)
        self._languages = tuple(languages)
        self._decoding = decoding
        self._threads = placement.threads
        self._lock = threading.Lock()  # two calls at once would take twice the threads
        self._samples_per_frame = self._measure_frames()

    def transcribe(self, samples: Samples, *, language: str | None) -> Transcript:
        """Transcribe one recording; see `models.capabilities.Transcriber`. One call at a time, others wait."""
        return self.transcribe_batch([samples], language=language)[0]

    def transcribe_batch(self, recordings: Sequence[Samples], *, language: str | None) -> list[Transcript]:
        """Transcribe several recordings; see `models.capabilities.BatchTranscriber`.

        Memory grows with their number. Windows of one length share a call; those of several do where the model was trained
        to ignore padding, for the others would hear it.
        """
        check_language(language, self._languages)
        language = language or (self._languages[0] if len(self._languages) == 1 else None)
        for samples in recordings:
            check_samples(samples)
        plans = [list(self._windows(samples.size)) for samples in recordings]
        parts: list[list[Frames]] = [[] for _ in recordings]
        for turn in range(max(map(len, plans), default=0)):
            due = [at for at, plan in enumerate(plans) if len(plan) > turn]
            heard = self._hear([recordings[at][plans[at][turn].samples] for at in due])
            for at, (ids, probabilities) in zip(due, heard, strict=True):
                kept = plans[at][turn].frames
                parts[at].append((ids[kept], probabilities[kept]))
        return [self._written(part, samples, language) for part, samples in zip(parts, recordings, strict=True)]

    def transcribe_stream(self, samples: Samples, *, language: str | None) -> Iterator[Transcript]:
        """Transcribe one recording window by window; see `models.capabilities.StreamingTranscriber`.

        The last word of a window waits for the next one, which may go on with it.
        """
        check_samples(samples)
        check_language(language, self._languages)
        return self._pieces(samples, language or (self._languages[0] if len(self._languages) == 1 else None))

    def _pieces(self, samples: Samples, language: str | None) -> Iterator[Transcript]:
        parts: list[Frames] = []
        told, plan = 0, list(self._windows(samples.size))
        for at, window in enumerate(plan, 1):
            ((ids, probabilities),) = self._hear([samples[window.samples]])
            parts.append((ids[window.frames], probabilities[window.frames]))
            said = self._said(parts, samples.size)
            new = said[told : len(said) if at == len(plan) else -1]
            if new:
                text = (" " if told else "") + " ".join(word.text for word, _ in new)
                told += len(new)
                yield Transcript(text=text, segments=(self._segment(new),), language=language)

    def _said(self, parts: Sequence[Frames], size: int) -> list[tuple[Word, list[Token]]]:
        """Read the words of frames that follow one another; those without text are left out."""
        ids, probabilities = (np.concatenate(some) for some in zip(*parts, strict=True))
        tokens = collapse(ids, probabilities, self._tokenizer.pad_token_id)
        words = ((self._word(group, size), group) for group in self._groups(tokens))
        return [(word, group) for word, group in words if word.text]

    def _windows(self, size: int) -> Iterator[Window]:
        step, decoding = self._samples_per_frame, self._decoding
        length, context = (round(s * SAMPLE_RATE_HZ / step) for s in (decoding.window_s, decoding.context_s))
        return overlapping(size, step, length, max(context, 1))  # a window may lack its last frame

    def _hear(self, cuts: Sequence[Samples]) -> list[Frames]:
        """Hear each cut; those that may share a call do."""
        shortest = round(SHORTEST_S * SAMPLE_RATE_HZ)
        filled = [np.pad(cut, (0, max(0, shortest - cut.size))) for cut in cuts]
        if self._output_lengths is not None and self._extractor.return_attention_mask:
            return self._run(filled)
        by_size = {size: [at for at, cut in enumerate(filled) if cut.size == size] for size in {cut.size for cut in filled}}
        heard = {
            at: one
            for places in by_size.values()
            for at, one in zip(places, self._run([filled[at] for at in places]), strict=True)
        }
        return [heard[at] for at in range(len(filled))]

    def _run(self, cuts: Sequence[Samples]) -> list[Frames]:
        import torch

        with self._lock, torch.inference_mode():
            torch.set_num_threads(self._threads)  # of the process, so another engine may have changed it
            inputs = self._extractor(list(cuts), sampling_rate=SAMPLE_RATE_HZ, padding=True, return_tensors="pt")
            logits = self._model(**inputs.to(self._model.device, self._model.dtype)).logits
            probabilities, ids = logits.float().softmax(-1).max(-1)
            lengths = [ids.shape[1]] * len(cuts)
            if "attention_mask" in inputs and self._output_lengths is not None:
                lengths = self._output_lengths(inputs["attention_mask"].sum(-1)).tolist()
        return [
            (one[:length].cpu().numpy(), chance[:length].cpu().numpy())
            for one, chance, length in zip(ids, probabilities, lengths, strict=True)
        ]

    def _measure_frames(self) -> int:
        """Count the samples of a frame: configurations say it under many names and in two units, if they say it."""
        short_s, long_s = PROBES_S
        short, long = (self._run([np.zeros(seconds * SAMPLE_RATE_HZ, np.float32)])[0][0].size for seconds in PROBES_S)
        samples, odd = divmod((long_s - short_s) * SAMPLE_RATE_HZ, long - short) if long > short else (0, 1)
        if odd:
            raise EngineError(f"The model gives {short} frames for {short_s} s and {long} for {long_s} s.", "It is not CTC.")
        return samples

    def _written(self, parts: Sequence[Frames], samples: Samples, language: str | None) -> Transcript:
        if not parts:
            return Transcript(text="", language=language)
        said = self._said(parts, samples.size)
        pauses = [at for at, (one, other) in enumerate(pairwise(said), 1) if self._pause(one[0], other[0])]
        segments = [self._segment(said[start:end]) for start, end in pairwise([0, *pauses, len(said)]) if start < end]
        chances = [word.probability for word, _ in said if word.probability is not None]
        return Transcript(
            text=" ".join(word.text for word, _ in said),
            segments=tuple(segments),
            language=language,
            confidence=sum(chances) / len(chances) if chances else None,
        )

    def _groups(self, tokens: Sequence[Token]) -> list[list[Token]]:
        """Split tokens into words, at delimiters or before the tokens that begin one."""
        groups: list[list[Token]] = [[]]
        for token in tokens:
            if token.id == self._delimiter:
                groups.append([])
                continue
            if self._tokenizer.convert_ids_to_tokens(token.id).startswith(WORD_START):
                groups.append([])
            groups[-1].append(token)
        return [group for group in groups if group]

    def _word(self, group: Sequence[Token], size: int) -> Word:
        step_s, end_s = self._samples_per_frame / SAMPLE_RATE_HZ, size / SAMPLE_RATE_HZ
        text = self._tokenizer.decode([token.id for token in group], group_tokens=False, skip_special_tokens=True)
        return Word(
            text=text.strip(),
            start_s=round(min(group[0].start * step_s, end_s), 3),
            end_s=round(min(group[-1].end * step_s, end_s), 3),
            probability=sum(token.probability for token in group) / len(group),
        )

    def _pause(self, one: Word, other: Word) -> bool:
        return other.start_s - one.end_s > self._decoding.segment_pause_s

    @staticmethod
    def _segment(said: Sequence[tuple[Word, Sequence[Token]]]) -> Segment:
        words = tuple(word for word, _ in said)
        logs = [math.log(token.probability) for _, group in said for token in group]
        return Segment(
            text=" ".join(word.text for word in words),
            start_s=words[0].start_s,
            end_s=words[-1].end_s,
            words=words,
            avg_logprob=sum(logs) / len(logs),
        )
