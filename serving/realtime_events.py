"""The events of a live transcription, as OpenAI's Realtime API has them for sessions of type ``transcription``.

https://platform.openai.com/docs/guides/realtime-transcription. What a client asks for and is not there is refused by name.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from models.types import Record
from serving.errors import ApiError, invalid, unsupported
from serving.pcm import DEFAULT_RATE_HZ, MAX_RATE_HZ, MIN_RATE_HZ
from serving.turns import Detection

MAX_PROMPT_CHARS = 8192


class Format(Record):
    """How the sound comes."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: int = Field(default=DEFAULT_RATE_HZ, ge=MIN_RATE_HZ, le=MAX_RATE_HZ)
    """Samples per second. OpenAI's clients send 24,000; 16,000 is what recognisers take."""


class Transcription(Record):
    """How it is written down."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = Field(default=None, max_length=MAX_PROMPT_CHARS)


class ServerVad(Record):
    """How turns are found."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(default=Detection.threshold, ge=0, le=1)
    prefix_padding_ms: int = Field(default=Detection.prefix_padding_ms, ge=0, le=5000)
    silence_duration_ms: int = Field(default=Detection.silence_duration_ms, ge=32, le=10_000)

    @property
    def detection(self) -> Detection:
        """The same for `serving.turns`."""
        return Detection(self.threshold, self.prefix_padding_ms, self.silence_duration_ms)


class AudioInput(Record):
    """What comes in; a field that is not sent stays as it is."""

    format: Format | None = None
    transcription: Transcription | None = None
    turn_detection: ServerVad | None = None
    """null: the client ends each turn by ``input_audio_buffer.commit``."""
    noise_reduction: None = None


class Audio(Record):
    """Of a session."""

    input: AudioInput = AudioInput()


class Session(Record):
    """What a client sets."""

    type: Literal["transcription"]
    audio: Audio = Audio()
    include: tuple[()] | None = None


class Update(Record):
    """``session.update``."""

    type: Literal["session.update"]
    event_id: str | None = None
    session: Session


class Append(Record):
    """``input_audio_buffer.append``."""

    type: Literal["input_audio_buffer.append"]
    event_id: str | None = None
    audio: str
    """Base64."""


class Plain(Record):
    """``input_audio_buffer.commit`` and ``input_audio_buffer.clear``."""

    type: Literal["input_audio_buffer.commit", "input_audio_buffer.clear"]
    event_id: str | None = None


ClientEvent = Update | Append | Plain
KINDS: Mapping[str, type[Update] | type[Append] | type[Plain]] = {
    "session.update": Update,
    "input_audio_buffer.append": Append,
    "input_audio_buffer.commit": Plain,
    "input_audio_buffer.clear": Plain,
}


def client_event(message: Mapping[str, Any]) -> ClientEvent:
    """Read what a client sent.

    Raises:
        ApiError: It is no event of `KINDS`, or has a field that cannot be used.
    """
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise invalid("type", f"There is no such event here. Available: {', '.join(KINDS)}.", "unknown_event")
    try:
        return KINDS[kind].model_validate(message)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = ".".join(str(part) for part in first["loc"])[:100]
        if first["type"] in ("extra_forbidden", "none_required") or param == "session.type":
            raise unsupported(param, f"{param!r} is not supported so: this service transcribes, and no more.") from None
        raise invalid(param, f"{param!r} cannot be used: {first['msg']}.") from None


def new_id(kind: str) -> str:
    """Make an id such as ``item_…``."""
    return f"{kind}_{uuid.uuid4().hex}"


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """Make a server's event."""
    return {"type": kind, "event_id": new_id("event"), **fields}


def error_event(error: ApiError, event_id: str | None = None) -> dict[str, Any]:
    """Make the event that tells an error, and which of the client's events it is about."""
    told = {"type": error.kind, "code": error.code, "message": error.message, "param": error.param, "event_id": event_id}
    return event("error", error=told)


def failed_event(item_id: str, error: ApiError) -> dict[str, Any]:
    """Make the event that tells that a turn could not be transcribed."""
    told = {"type": error.kind, "code": error.code, "message": error.message, "param": error.param}
    return event("conversation.item.input_audio_transcription.failed", item_id=item_id, content_index=0, error=told)


def item(item_id: str) -> dict[str, Any]:
    """Describe a turn."""
    content = [{"type": "input_audio", "transcript": None}]
    return {
        "id": item_id, "type": "message", "object": "realtime.item", "role": "user", "status": "completed",
        "content": content,
    }  # fmt: skip
