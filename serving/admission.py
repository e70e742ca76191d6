"""Who may ask, and how often: API keys, addresses, and the rates of both."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from models.errors import StateError
from serving.errors import AUTHENTICATION, PERMISSION, SERVER, ApiError, rate_limited
from serving.keys import KeyFile
from serving.logs import log_failure
from serving.rates import Rates
from serving.records import RequestRecord
from serving.settings import ServiceSettings

PROBES = frozenset({"/healthz", "/livez", "/readyz"})
DOCS = "/docs"
OPEN = PROBES | {DOCS, "/openapi.json"}
"""Answered without a key: they tell nothing that is not public. So do the files of the docs."""
SUBPROTOCOL_KEY = "openai-insecure-api-key."
"""Begins the subprotocol in which OpenAI's clients in browsers, which cannot set headers, send their key."""


class Admission:
    """Decides on every request and every turn of a live transcription."""

    def __init__(self, settings: ServiceSettings, keys: KeyFile | None) -> None:
        """Take the rates; `keys` None serves loopback addresses alone."""
        self._keys = keys
        self._by_address = Rates(settings.rate_per_minute, settings.rate_burst)
        self._by_key = Rates(settings.rate_per_minute, settings.rate_burst)

    def admit(self, scope: Scope, headers: Headers, record: RequestRecord) -> None:
        """Let a request in, and note whose it is.

        Raises:
            ApiError: 401, 403, 429, or 503 when keys cannot be checked.
        """
        address = address_of(scope)
        if self._keys is None:
            self._only_from_here(scope, headers, address)
        if scope["path"] in PROBES:
            return
        record.network = network_of(address)
        self._limit(self._by_address, record.network, "address")
        if self._keys is None or scope["path"] in OPEN or scope["path"].startswith(f"{DOCS}/"):
            return
        record.key = self._owner(_key_in(scope, headers), record)
        self._limit(self._by_key, record.key, "key")

    def again(self, record: RequestRecord) -> None:
        """Count one more use by who was admitted: a turn of a live transcription is as good as a request.

        Raises:
            ApiError: 429.
        """
        if record.network is not None:
            self._limit(self._by_address, record.network, "address")
        if record.key is not None:
            self._limit(self._by_key, record.key, "key")

    def still(self, scope: Scope, record: RequestRecord) -> None:
        """Look again whether a key that was let in is valid.

        Raises:
            ApiError: 401, it was taken back; 503.
        """
        if self._keys is not None and self._owner(_key_in(scope, Headers(scope=scope)), record) != record.key:
            raise _no_key()

    def _only_from_here(self, scope: Scope, headers: Headers, address: str) -> None:
        # A web page may open a WebSocket to anywhere, and its browser says only in Origin whose page it is.
        origin = headers.get("origin") if scope["type"] == "websocket" else None
        foreign = origin is not None and not is_loopback_name(urlsplit(origin).netloc)
        if foreign or not (is_loopback(address) and is_loopback_name(headers.get("host", ""))):
            raise ApiError(
                403,
                "No API keys are configured, so only this machine, under a loopback name, is served.",
                code="loopback_only",
                kind=PERMISSION,
            )

    def _owner(self, key: str, record: RequestRecord) -> str:
        assert self._keys is not None, "without keys nobody is asked for one"
        try:
            owner = self._keys.owner_of(key) if key else None
        except StateError as error:
            log_failure(error, record.request_id)
            raise ApiError(503, "API keys cannot be checked now.", code="keys_unavailable", kind=SERVER) from error
        if owner is None:
            raise _no_key()
        return owner

    @staticmethod
    def _limit(rates: Rates, name: str, what: str) -> None:
        if wait_s := rates.take(name):
            raise rate_limited(f"Too many requests with this {what}; try again in {wait_s:.0f} s.", wait_s)


def _no_key() -> ApiError:
    return ApiError(
        401,
        "A valid API key is needed: Authorization: Bearer KEY.",
        code="invalid_api_key",
        kind=AUTHENTICATION,
        headers={"WWW-Authenticate": "Bearer"},
    )


def _key_in(scope: Scope, headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    offered = scope.get("subprotocols", ()) if scope["type"] == "websocket" else ()
    return next((name.removeprefix(SUBPROTOCOL_KEY) for name in offered if name.startswith(SUBPROTOCOL_KEY)), "")


def address_of(scope: Scope) -> str:
    """Give the client's address; empty where the server knows none."""
    client = scope.get("client")
    return client[0] if client else ""


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found


def is_loopback(address: str) -> bool:
    """Say whether an address is one of this machine alone."""
    found = _ip(address)
    return found is not None and found.is_loopback


def is_loopback_name(host: str) -> bool:
    """Hold a Host header to this machine: a web page whose name was made to point here must not reach the service."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower() == "localhost" or is_loopback(name)


def network_of(address: str) -> str:
    """The unit that is limited: one IPv4 address, or an IPv6 network of 64 bits, which one subscriber has whole."""
    found = _ip(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
