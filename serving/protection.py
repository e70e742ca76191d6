"""What stands before every request: who may ask, how often, how much; and what is written down about it.

Plain ASGI, not a Starlette ``BaseHTTPMiddleware``: that one hides a client's disconnection from the application.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import StateError
from serving.errors import AUTHENTICATION, INVALID, PERMISSION, SERVER, ApiError, internal, rate_limited
from serving.keys import KeyFile
from serving.logs import log, log_failure
from serving.metrics import Metrics
from serving.rates import Rates
from serving.settings import ServiceSettings

PROBES = frozenset({"/healthz", "/livez", "/readyz"})
OPEN = PROBES | {"/docs", "/openapi.json"}
"""Answered without a key: they tell nothing that is not public."""
UPLOADS = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
MAX_BODY_BYTES = 128 * 1024
"""Of a request that is no upload: a text to speak, at up to 12 bytes a character in JSON."""
DRAIN_S = 5.0
"""How long the rest of a refused body is read and thrown away: closing on a client that still sends loses the answer."""
MAX_STALL_S = 30.0
"""How long a client may take nothing of what is sent; what waits for it is in memory."""
CLIENT_GONE = 499
"""nginx's status for a client that did not wait; it is logged and counted, and never sent."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RECORD = "modellab.record"


@dataclass
class RequestRecord:
    """What is known of a request, for its log line."""

    request_id: str
    key: str | None = None
    model: str | None = None
    audio_s: float | None = None
    characters: int | None = None
    code: str | None = None
    status: int = CLIENT_GONE


def record_of(request: Request) -> RequestRecord:
    """The record that the protection keeps of this request."""
    record: RequestRecord = request.scope[_RECORD]
    return record


class Protection:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, *, settings: ServiceSettings, metrics: Metrics, keys: KeyFile | None) -> None:
        """Wrap the application; `keys` None serves loopback addresses alone."""
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._keys = keys
        self._by_address = Rates(settings.rate_per_minute, settings.rate_burst)
        self._by_key = Rates(settings.rate_per_minute, settings.rate_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens, it ends with an answer, a log line and a count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        record = RequestRecord(given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
        scope[_RECORD] = record
        limit = self._settings.max_upload_bytes if scope["path"] in UPLOADS else MAX_BODY_BYTES
        body = _Body(receive, limit, self._settings.max_upload_s)
        answer = _Answer(send, record, body, headers)
        try:
            self._admit(scope, headers, record)
            body.check_declared(headers)
            await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            pass  # nobody is left to answer; the log says 499
        except ApiError as error:
            await answer.refuse(error, scope)
        except Exception as error:
            log_failure(error, record.request_id)
            await answer.refuse(internal(), scope)
        finally:
            self._write_down(scope, record, time.monotonic() - began)

    def _write_down(self, scope: Scope, record: RequestRecord, duration_s: float) -> None:
        route = getattr(scope.get("route"), "path", "other")  # never the path itself: a client writes that
        self._metrics.answered(route, scope["method"] if route != "other" else "other", record.status, duration_s)
        if scope["path"] in PROBES:
            return
        log(
            "request",
            request_id=record.request_id,
            method=scope["method"],
            route=route,
            status=record.status,
            code=record.code,
            duration_ms=round(duration_s * 1000, 1),
            client=scope["client"][0] if scope.get("client") else None,
            key=record.key,
            model=record.model,
            audio_s=record.audio_s,
            characters=record.characters,
        )

    def _admit(self, scope: Scope, headers: Headers, record: RequestRecord) -> None:
        address = _address(scope)
        if self._keys is None and not (_is_loopback(address) and _names_loopback(headers.get("host", ""))):
            raise ApiError(
                403,
                "No API keys are configured, so only this machine, under a loopback name, is served.",
                code="loopback_only",
                kind=PERMISSION,
            )
        if scope["path"] in PROBES:
            return
        self._limit(self._by_address, _network(address), "address")
        if self._keys is None or scope["path"] in OPEN:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        try:
            owner = self._keys.owner_of(key.strip()) if scheme.lower() == "bearer" else None
        except StateError as error:
            log_failure(error, record.request_id)
            raise ApiError(503, "API keys cannot be checked now.", code="keys_unavailable", kind=SERVER) from error
        if owner is None:
            raise ApiError(
                401,
                "A valid API key is needed: Authorization: Bearer KEY.",
                code="invalid_api_key",
                kind=AUTHENTICATION,
                headers={"WWW-Authenticate": "Bearer"},
            )
        record.key = owner
        self._limit(self._by_key, owner, "key")

    @staticmethod
    def _limit(rates: Rates, name: str, what: str) -> None:
        if wait_s := rates.take(name):
            raise rate_limited(f"Too many requests with this {what}; try again in {wait_s:.0f} s.", wait_s)


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

    def __init__(self, send: Send, record: RequestRecord, body: _Body, headers: Headers) -> None:
        self._send = send
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

    async def refuse(self, error: ApiError, scope: Scope) -> None:
        if self._started:
            self._record.code = "cut_short"
            return  # the server closes the connection, by which the client knows that the answer is not whole
        self._record.code = error.code
        with suppress(ClientDisconnect):
            await error.response()(scope, self._body.receive, self.send)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found


def _is_loopback(address: str) -> bool:
    found = _ip(address)
    return found is not None and found.is_loopback


def _names_loopback(host: str) -> bool:
    """Hold the Host header to this machine: a web page whose name was made to point here must not reach the service."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower() == "localhost" or _is_loopback(name)


def _network(address: str) -> str:
    """The unit that is limited: one IPv4 address, or an IPv6 network of 64 bits, which one subscriber has whole."""
    found = _ip(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
