"""What stands before every request: who may ask, how often, how much; and what is written down about it.

Plain ASGI, not a Starlette ``BaseHTTPMiddleware``: that one hides a client's disconnection from the application.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from serving.admission import PROBES, Admission
from serving.errors import INVALID, ApiError, internal
from serving.logs import log_failure
from serving.metrics import Metrics
from serving.records import RequestRecord, begin_record, route_of
from serving.settings import ServiceSettings
from serving.sockets import MAX_STALL_S, SocketAnswer

UPLOADS = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
MAX_BODY_BYTES = 128 * 1024
"""Of a request that is no upload: a text to speak, at up to 12 bytes a character in JSON."""
DRAIN_S = 5.0
"""How long the rest of a refused body is read and thrown away: closing on a client that still sends loses the answer."""


class Protection:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, *, settings: ServiceSettings, metrics: Metrics, admission: Admission) -> None:
        """Wrap the application."""
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens, it ends with an answer, a log line and a count."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = begin_record(scope, headers)
        answer: _Answer | SocketAnswer
        if scope["type"] == "websocket":
            answer = SocketAnswer(send, scope, record)
        else:
            limit = self._settings.max_upload_bytes if scope["path"] in UPLOADS else MAX_BODY_BYTES
            body = _Body(receive, limit, self._settings.max_upload_s)
            answer, receive = _Answer(send, scope, record, body, headers), body.receive
        try:
            self._admission.admit(scope, headers, record)
            if isinstance(answer, _Answer):
                body.check_declared(headers)
            await self._app(scope, receive, answer.send)
        except (ClientDisconnect, WebSocketDisconnect):
            pass  # nobody is left to answer; the log says 499
        except ApiError as error:
            await answer.refuse(error, receive)
        except Exception as error:
            log_failure(error, record.request_id)
            await answer.refuse(internal(), receive)
        finally:
            self._write_down(scope, record)

    def _write_down(self, scope: Scope, record: RequestRecord) -> None:
        route, socket = route_of(scope), scope["type"] == "websocket"
        method = "WEBSOCKET" if socket else scope["method"]
        self._metrics.answered(route, method if route != "other" else "other", record.status, record.duration_s)
        if scope["path"] not in PROBES:
            record.log("session" if socket else "request", scope, method, route)


class _Body:
    """A request's body, counted and timed while it is read."""

    def __init__(self, receive: Receive, limit: int, most_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._most_s = most_s
        self._read = 0
        self._until: float | None = None
        self.complete = False

    def check_declared(self, headers: Headers) -> None:
        declared = headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > self._limit:
            raise self._too_large()
        self.complete = declared == "0" or (not declared and "transfer-encoding" not in headers)

    async def receive(self) -> Message:
        if self.complete and self._until is not None:
            return await self._receive()
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._most_s
        try:
            async with asyncio.timeout(max(0.0, self._until - now)):
                message = await self._receive()
        except TimeoutError:
            late = f"The request took longer than {self._most_s:g} s to arrive."
            raise ApiError(408, late, code="upload_timeout") from None
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self._read > self._limit:
                raise self._too_large()
        return message

    async def drain(self) -> None:
        read = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self.complete and read <= self._limit:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        return
                    read += len(message.get("body", b""))
                    self.complete = not message.get("more_body", False)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The request is larger than {self._limit} bytes.", code="request_too_large", kind=INVALID)


class _Answer:
    """The way to the client: adds headers, and notes what was answered."""

    def __init__(self, send: Send, scope: Scope, record: RequestRecord, body: _Body, headers: Headers) -> None:
        self._send = send
        self._scope = scope
        self._record = record
        self._body = body
        self._waits_for_100 = "expect" in headers  # reading would ask such a client to send what nobody wants
        self._started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self._body.complete and not self._waits_for_100:
                await self._body.drain()
            self._started = True
            self._record.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._record.request_id
            headers["X-Content-Type-Options"] = "nosniff"
        try:
            async with asyncio.timeout(MAX_STALL_S):
                await self._send(message)
        except OSError as error:  # a TimeoutError is one
            raise ClientDisconnect from error

    async def refuse(self, error: ApiError, receive: Receive) -> None:
        if self._started:
            self._record.code = "cut_short"
            return  # the server closes the connection, by which the client knows that the answer is not whole
        self._record.code = error.code
        with suppress(ClientDisconnect):
            await error.response()(self._scope, receive, self.send)
