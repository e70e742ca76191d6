"""What is known of a request while it is served, and the line about it in the log."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from serving.logs import log

CLIENT_GONE = 499
"""nginx's status for a client that did not wait; it is logged and counted, and never sent."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RECORD = "modellab.record"


@dataclass
class RequestRecord:
    """What is known of a request, for its log line."""

    request_id: str
    key: str | None = None
    network: str | None = None
    """Whose rate it counts to; not logged, the address is."""
    model: str | None = None
    audio_s: float | None = None
    characters: int | None = None
    turns: int | None = None
    """Of a live transcription."""
    close_code: int | None = None
    """By which a WebSocket ended (RFC 6455, section 7.4)."""
    code: str | None = None
    status: int = CLIENT_GONE
    began: float = field(default_factory=time.monotonic)

    @property
    def duration_s(self) -> float:
        """Time since its head came."""
        return time.monotonic() - self.began

    def log(self, event: str, scope: Scope, method: str, route: str) -> None:
        """Write the line."""
        log(
            event,
            request_id=self.request_id,
            method=method,
            route=route,
            status=self.status,
            code=self.code,
            duration_ms=round(self.duration_s * 1000, 1),
            client=scope["client"][0] if scope.get("client") else None,
            key=self.key,
            model=self.model,
            audio_s=self.audio_s,
            characters=self.characters,
            turns=self.turns,
            close_code=self.close_code,
        )


def begin_record(scope: Scope, headers: Headers) -> RequestRecord:
    """Begin the record of a request; its id is the client's, where that is a fit one."""
    given = headers.get("x-request-id", "")
    record = RequestRecord(given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
    scope[_RECORD] = record
    return record


def record_of(request: HTTPConnection) -> RequestRecord:
    """The record that the protection keeps of this request."""
    record: RequestRecord = request.scope[_RECORD]
    return record


def route_of(scope: Scope) -> str:
    """The route's template, never the path itself: a client writes that."""
    return getattr(scope.get("route"), "path", "other")
