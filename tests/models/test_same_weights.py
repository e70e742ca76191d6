"""One set of weights in three libraries: what they hear, over the starter corpus.

openai-whisper and faster-whisper are compared as they are used. transformers is compared with openai-whisper's decoder
(``whisper.decode``) rather than with its ``transcribe``, which fills a short recording up with other numbers than those of
silence: the features and the prompt are then the same, and what differs is the arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.audio import decode
from models.capabilities import BatchTranscriber, Transcriber
from models.engines.openai_whisper import OpenAIWhisper

WINDOW = 30 * 16_000
BATCH = 8
TOKENS = 64
"""Most that is compared of a recording: in noise, Whisper repeats itself for ever."""
LEAST_SHARE = 0.9
LEAST_SHARE_OF_DECODER = 0.95


@pytest.fixture(scope="module")
def recordings(starter: Path) -> Mapping[str, NDArray[np.float32]]:
    rows = map(json.loads, (starter / "manifest.jsonl").read_text().splitlines())
    return {row["id"]: decode(starter / row["audio_filepath"]).samples for row in rows}


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    return [name for name in ours if ours[name] != theirs[name]]


@pytest.mark.real
def test_openai_and_faster_whisper_hear_the_same(
    recordings: Mapping[str, NDArray[np.float32]], engine: Callable[..., Transcriber]
) -> None:
    # Words are aligned after the text is written: without them it is the same text, sooner.
    openai, faster = (
        {name: one.transcribe(samples, language="en").text for name, samples in recordings.items()}
        for one in (
            engine("whisper-tiny.en", word_timestamps=False),
            engine("faster-whisper-tiny.en-float32", word_timestamps=False),
        )
    )
    wrong = differing(openai, faster)
    print(f"the same transcript on {len(recordings) - len(wrong)} of {len(recordings)}; not on {', '.join(wrong) or 'none'}")
    assert len(recordings) == 59
    assert sum(map(bool, openai.values())) > 50
    assert 1 - len(wrong) / len(recordings) >= LEAST_SHARE


@pytest.mark.real
@pytest.mark.parametrize(("without_timestamps", "every"), [(True, 3), (False, 6)])
def test_transformers_hears_what_openais_decoder_hears(
    without_timestamps: bool, every: int, recordings: Mapping[str, NDArray[np.float32]], engine: Callable[..., Any]
) -> None:
    """On one recording in so many, of those in order of length: the whole corpus takes minutes."""
    import torch
    import whisper

    ours: BatchTranscriber = engine(
        "whisper-tiny.en-transformers",
        without_timestamps=without_timestamps,
        word_timestamps=False,
        max_new_tokens=TOKENS,
        no_speech_threshold=None,  # a rule of `transcribe`, not of the decoder
    )
    theirs = engine("whisper-tiny.en")
    assert isinstance(theirs, OpenAIWhisper)
    # With timestamps, what the end of a full window cuts short is dropped and heard again, which a single decoding is not.
    longest = max(samples.size for samples in recordings.values()) if without_timestamps else WINDOW
    fitting = sorted(
        (name for name in recordings if recordings[name].size <= longest), key=lambda name: recordings[name].size
    )
    names = fitting[::-every]
    options = whisper.DecodingOptions(language="en", fp16=False, without_timestamps=without_timestamps, sample_len=TOKENS)
    heard, expected = {}, {}
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        samples = [recordings[name][:WINDOW] for name in batch]
        for name, one in zip(batch, ours.transcribe_batch(samples, language="en"), strict=True):
            heard[name] = one.text
        # One by one: of a batch the library would take the loudest recording as the measure of all.
        mel = torch.stack([whisper.log_mel_spectrogram(whisper.pad_or_trim(one)) for one in samples])
        with torch.inference_mode():
            for name, result in zip(batch, theirs._model.decode(mel, options), strict=True):
                expected[name] = result.text.strip()
    wrong = differing(heard, expected)
    print(f"the same text on {len(names) - len(wrong)} of {len(names)}; not on {', '.join(wrong) or 'none'}")
    assert sum(map(bool, expected.values())) > len(names) / 2
    assert 1 - len(wrong) / len(names) >= LEAST_SHARE_OF_DECODER
