"""What can be set on a running service; every value has a default that is safe on one's own machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from models.audio import AudioLimits
from models.errors import StateError
from models.types import Record

PREFIX = "MODELLAB_SERVE_"


class ServiceSettings(Record):
    """Limits, protection and capacity of one service process."""

    api_keys_file: Path | None = None
    """Keys that may be used (`serving.keys`); None serves this machine alone. Read again when it changes."""
    rate_per_minute: float = Field(default=600, gt=0)
    """Requests a minute, for each key and for each address, in the long run."""
    rate_burst: int = Field(default=100, ge=1)
    """Requests at once, before the rate counts."""
    max_upload_bytes: int = Field(default=25 * 2**20, ge=1)
    """Whole body of an upload; OpenAI's own limit is 25 MB."""
    max_upload_s: float = Field(default=60, gt=0)
    """Longest time that a body may take to arrive."""
    max_audio_s: float = Field(default=900, gt=0)
    """Longest recording: 15 minutes, 58 MB when decoded. All that wait may be decoded at once."""
    max_decode_s: float = Field(default=30, gt=0)
    """Longest wait for a recording's decoding."""
    max_input_chars: int = Field(default=4096, ge=1)
    """Longest text to speak; OpenAI's own limit."""
    running: int | None = Field(default=None, ge=1)
    """Engine calls at once; None is as many as every model that is held gains from (`models.engine.calls_at_once`)."""
    waiting: int = Field(default=16, ge=0)
    """Requests that may wait beyond those; the next is answered 503 with ``Retry-After``."""
    max_wait_s: float = Field(default=120, gt=0)
    """Longest wait for a turn, after which the answer is 503."""
    batch_most: int = Field(default=8, ge=1)
    """Recordings that share an engine call, where the engine gains from it; 1 lets none do."""
    batch_wait_s: float = Field(default=0.0, ge=0, le=1)
    """How long the first of a batch waits for others; 0 takes those alone that wait already while the engine works."""
    unload_after_s: float = Field(default=900, ge=0)
    """A service of several models frees the memory of one that was not asked for this long; 0 keeps all."""
    preload: bool = True
    """Whether every model is loaded and warmed up at the start; else when it is first asked for."""
    max_sessions: int = Field(default=8, ge=0)
    """Live transcriptions at once; the next is answered 503. 0 offers none."""
    session_idle_s: float = Field(default=60, gt=0)
    """A live transcription ends when nothing came for this long."""
    max_session_s: float = Field(default=3600, gt=0)
    """Longest live transcription."""
    max_turn_s: float = Field(default=30, ge=1)
    """Longest turn of a live transcription: speech that goes on is cut where it is quietest."""
    partial_every_s: float = Field(default=1.0, ge=0)
    """New speech after which a partial text is computed, where nobody waits for the engine; 0 gives none."""
    drain_s: float = Field(default=20, ge=0)
    """Longest wait, when the service is told to end, for live transcriptions to finish what they were sent."""

    @property
    def audio_limits(self) -> AudioLimits:
        """Bounds of one recording, tighter than the lab's own: these files come from anywhere."""
        return AudioLimits(
            max_bytes=self.max_upload_bytes,
            max_duration_s=self.max_audio_s,
            max_channels=8,
            max_sample_rate_hz=192_000,
        )


def read_settings(environment: Mapping[str, str] = os.environ) -> ServiceSettings:
    """Read ``MODELLAB_SERVE_*``; unset and empty variables leave the default.

    Raises:
        StateError: A variable has a value that cannot be used; it is named.
    """
    names = {f"{PREFIX}{name.upper()}": name for name in ServiceSettings.model_fields}
    if unknown := sorted(name for name in environment if name.startswith(PREFIX) and name not in names):
        raise StateError(f"There is no setting {unknown[0]}.", f"Available: {', '.join(sorted(names))}.")
    given = {field: environment[name] for name, field in names.items() if environment.get(name)}
    try:
        return ServiceSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{PREFIX}{str(first['loc'][0]).upper()}"
        raise StateError(f"{name} is {first.get('input')!r}: {first['msg']}.", f"Correct or unset {name}.") from error
