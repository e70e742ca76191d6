"""The end of a demonstration: a model is packaged, held to its stored answers, and asked once as a consumer would ask it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import httpx2

from models.errors import StateError
from models.types import Record
from pipelines.lab import Lab
from serving.package import bento_name, describe, log_path, newest_checked, package
from serving.parity import (
    TEXT_CHARACTERS,
    Difference,
    HeardSample,
    ParityReport,
    Sample,
    SpokenSample,
    compare_audio,
    compare_text,
    default_voice,
)
from serving.run import running
from serving.samples import parity_samples
from serving.store import Store

TIMEOUT_S = 300.0
"""For one short request on a slow machine."""


class Request(Record):
    """One request through the OpenAI client, and what came of it."""

    id: str
    """The utterance."""
    answer: str
    """The transcript, or how long the speech was."""
    seconds: float
    """From the call to the whole answer."""
    different: Difference | None
    """None where the answer is the stored one."""


class Shipped(Record):
    """What was packaged and served."""

    model: str
    """The card's name."""
    tag: str
    """The Bento's."""
    reused: bool
    """Whether this version had been packaged, and so checked, before."""
    parity: ParityReport | None
    """Of the check after packaging; None where that was done before."""
    request: Request | None
    """None where parity failed: nothing is served then."""
    command: str
    """What serves it for real."""

    @property
    def passed(self) -> bool:
        """Whether every answer was the stored one."""
        return self.request is not None and self.request.different is None


def ship(lab: Lab, store: Store, model: str, say: Callable[[str], None]) -> Shipped:
    """Package a model where that was not done, serve it, ask it once through the OpenAI client, and stop it.

    Args:
        lab: The project, in which the model was evaluated.
        store: Where its Bento is or goes.
        model: The card's name.
        say: Told what is going on.

    Raises:
        LabError: It cannot be built, does not start, or was never evaluated.
    """
    bundle, _ = describe(lab, model, say)
    name = bundle.card.name
    samples = parity_samples(lab, name, bundle.digest, bundle.task)
    sample = min(samples, key=_cost)
    command = f"modellab serve {name}"
    # What the gate says is in the package, so another verdict makes another package.
    bento = newest_checked(store, bento_name(bundle.card), fingerprint=bundle.digest, verdict=bundle.verdict)
    if bento is not None:
        say(f"{bento.tag} is packaged already; starting it for one request")
        with running(store, bento, log_path(store, bento)) as (url, _):
            request = ask_once(url, name, sample)
        return Shipped(model=name, tag=bento.tag, reused=True, parity=None, request=request, command=command)
    asked: list[Request] = []
    packaged = package(lab, store, name, say, then=lambda url: asked.append(ask_once(url, name, sample)))
    return Shipped(
        model=name,
        tag=packaged.tag,
        reused=False,
        parity=packaged.parity,
        request=asked[0] if asked else None,
        command=command,
    )


def ask_once(url: str, model: str, sample: Sample) -> Request:
    """Make one request as a consumer makes it, and hold the answer to the stored one.

    Args:
        url: The service, without ``/v1``.
        model: The model's name there.
        sample: What to ask for.

    Raises:
        StateError: The service gives no answer.
    """
    import openai

    # A proxy of the environment is not for this machine.
    with httpx2.Client(trust_env=False, base_url=url) as plain, openai.DefaultHttpxClient(trust_env=False) as http:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http, timeout=TIMEOUT_S)
        try:
            began = time.monotonic()
            if isinstance(sample, HeardSample):
                options: dict[str, Any] = {"language": sample.language} if sample.language else {}
                text = client.audio.transcriptions.create(model=model, file=sample.path, **options).text
                seconds, different = time.monotonic() - began, compare_text(sample, text)
                return Request(id=sample.id, answer=text[:TEXT_CHARACTERS], seconds=seconds, different=different)
            voice = default_voice(plain, model)
            began = time.monotonic()
            spoken = client.audio.speech.create(model=model, voice=voice, input=sample.text, response_format="wav").content
            seconds = time.monotonic() - began
            return _spoken(sample, spoken, seconds)
        except openai.OpenAIError as error:
            raise StateError(f"{url} gave the OpenAI client no answer ({error}).", "See the service's log.") from error


def _spoken(sample: SpokenSample, content: bytes, seconds: float) -> Request:
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    different = compare_audio(sample, (samples, int(rate)))
    return Request(id=sample.id, answer=f"{len(samples) / rate:.1f} s of speech", seconds=seconds, different=different)


def _cost(sample: Sample) -> tuple[bool, float]:
    """Order of samples by work, the least first; those in which nothing is said come last."""
    import soundfile

    if isinstance(sample, SpokenSample):
        return False, float(len(sample.text))
    return not sample.text, float(soundfile.info(sample.path).duration)
