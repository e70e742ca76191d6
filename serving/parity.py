"""Parity: what a service answers over HTTP is what the gate saw.

Transcripts must be equal, character by character. Audio must be as long and differ by no more than rounding: voices compute
in floating point, and a service sends 16-bit samples.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from models.errors import StateError
from models.types import Record, Task

Samples = NDArray[np.float32]

REQUEST_TIMEOUT_S = 900.0
"""A long recording on a slow machine; the service has limits of its own."""
ATTEMPTS = 5
"""How often a request is made that the service is too busy for."""
AUDIO_TOLERANCE_DB = -40.0
"""Level of the difference against the stored audio; the quantisation of 16 bits lies near -90."""
LENGTH_TOLERANCE_S = 0.01
TEXT_CHARACTERS = 200


@dataclass(frozen=True)
class HeardSample:
    """A recording and the transcript that the evaluation scored."""

    id: str
    path: Path
    language: str | None
    """Language the engine was told."""
    text: str


@dataclass(frozen=True)
class SpokenSample:
    """A prompt and the audio that the evaluation scored."""

    id: str
    text: str
    path: Path
    """Stored audio."""


Sample = HeardSample | SpokenSample


class Difference(Record):
    """One item that the service answers otherwise."""

    id: str
    """The utterance."""
    expected: str
    """What is stored."""
    found: str
    """What came over HTTP."""


class ParityReport(Record):
    """What came of a parity check. `parity --json` prints it."""

    model: str
    """The card's name, as asked of the service."""
    url: str
    """The service."""
    fingerprint: str
    """Of the model whose stored answers were expected."""
    task: Task
    """What was asked."""
    checked: tuple[str, ...]
    """Items that were asked for."""
    different: tuple[Difference, ...]
    """Those with another answer."""

    @property
    def passed(self) -> bool:
        """Whether every answer is the stored one."""
        return not self.different


def check_parity(
    url: str,
    model: str,
    fingerprint: str,
    samples: Sequence[Sample],
    *,
    key: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ParityReport:
    """Ask a service for every sample and hold the answers to the stored ones.

    Args:
        url: The service, without ``/v1``.
        model: The model's name there.
        fingerprint: Of the model that the samples come from.
        samples: All of one task; at least one.
        key: API key, where the service wants one.
        say: Told what is going on.

    Raises:
        StateError: The service cannot be reached, or refuses to answer.
    """
    assert samples, "parity over nothing would always pass"
    task: Task = "asr" if isinstance(samples[0], HeardSample) else "tts"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    different = []
    say(f"Parity: {len(samples)} items over HTTP")
    with httpx2.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, headers=headers, trust_env=False) as client:
        voice = default_voice(client, model) if task == "tts" else ""
        for sample in samples:
            if isinstance(sample, HeardSample):
                difference = compare_text(sample, _transcript(client, model, sample))
            else:
                difference = compare_audio(sample, _speech(client, model, voice, sample))
            if difference is not None:
                different.append(difference)
    return ParityReport(
        model=model,
        url=url,
        fingerprint=fingerprint,
        task=task,
        checked=tuple(sample.id for sample in samples),
        different=tuple(different),
    )


def default_voice(client: httpx2.Client, model: str) -> str:
    """Ask a service for a model's first voice: the one that is evaluated.

    Raises:
        StateError: The service cannot be reached, or has none.
    """
    answer = _ask(client, "GET", "/v1/audio/voices", "the list of voices", params={"model": model})
    voices = [str(voice["id"]) for voice in answer.json()["voices"]]
    if not voices:
        raise StateError(f"{client.base_url} has no voice of {model}.", "Check that it holds this model.")
    return voices[0]


def _transcript(client: httpx2.Client, model: str, sample: HeardSample) -> str:
    form = {"model": model, "response_format": "json"} | ({"language": sample.language} if sample.language else {})
    content = sample.path.read_bytes()
    answer = _ask(
        client, "POST", "/v1/audio/transcriptions", sample.id, data=form, files={"file": (sample.path.name, content)}
    )
    return str(answer.json()["text"])


def _speech(client: httpx2.Client, model: str, voice: str, sample: SpokenSample) -> tuple[Samples, int]:
    import soundfile

    body = {"model": model, "input": sample.text, "voice": voice, "response_format": "wav"}
    answer = _ask(client, "POST", "/v1/audio/speech", sample.id, json=body)
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    return samples, int(rate)


def _ask(client: httpx2.Client, method: str, path: str, item: str, **content: Any) -> httpx2.Response:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = client.request(method, path, **content)
        except httpx2.HTTPError as error:
            raise StateError(
                f"{client.base_url} gave no answer for {item} ({error or type(error).__name__}).",
                "See the service's log.",
            ) from error
        busy = answer.status_code in (429, 503)
        if not busy or attempt == ATTEMPTS:
            break
        time.sleep(_retry_after(answer.headers))
    if answer.status_code != 200:
        raise StateError(
            f"{client.base_url} answered {answer.status_code} for {item}: {answer.text[:TEXT_CHARACTERS]}.",
            "Check the service, and that it holds this model.",
        )
    return answer


def _retry_after(headers: Mapping[str, str]) -> float:
    value = headers.get("retry-after", "")
    return min(float(value), 30.0) if value.isdigit() else 1.0


def compare_text(sample: HeardSample, found: str) -> Difference | None:
    """Hold a transcript to the stored one; None where it is equal."""
    if found == sample.text:
        return None
    return Difference(id=sample.id, expected=sample.text[:TEXT_CHARACTERS], found=found[:TEXT_CHARACTERS])


def compare_audio(sample: SpokenSample, found: tuple[Samples, int]) -> Difference | None:
    """Hold speech, samples and their rate, to the stored one; None where it is as long and differs by rounding only."""
    import soundfile

    expected, expected_rate = soundfile.read(sample.path, dtype="float32")
    samples, rate = found
    told = f"{len(expected) / expected_rate:.3f} s at {expected_rate} Hz"
    if rate != expected_rate or abs(len(samples) - len(expected)) > LENGTH_TOLERANCE_S * rate:
        return Difference(id=sample.id, expected=told, found=f"{len(samples) / rate:.3f} s at {rate} Hz")
    level = difference_db(expected, samples)
    if level > AUDIO_TOLERANCE_DB:
        wanted = f"{told}, difference at most {AUDIO_TOLERANCE_DB:.0f} dB"
        return Difference(id=sample.id, expected=wanted, found=f"difference {level:.1f} dB")
    return None


def difference_db(expected: Samples, found: Samples) -> float:
    """Level of the difference of two recordings against the first, over what both have; -inf where they are equal."""
    n = min(len(expected), len(found))
    error = float(np.square(expected[:n] - found[:n], dtype=np.float64).sum())
    signal = float(np.square(expected[:n], dtype=np.float64).sum())
    if error == 0.0:
        return -np.inf
    return float(10 * np.log10(error / signal)) if signal else np.inf
