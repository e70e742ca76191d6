"""Weights on a web server."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

from models.backoff import SYSTEM_CLOCK, Clock, is_loopback
from models.card import HttpSource
from models.sources.base import Order, Unavailable
from models.sources.download import download
from models.sources.folder import expand, take

if TYPE_CHECKING:
    from httpx2 import Client, Request

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 60.0
"""How long a server may send nothing."""
MAX_REDIRECTS = 5


def deliver(source: HttpSource, order: Order, clock: Clock = SYSTEM_CLOCK) -> None:
    """Download the files; those that an earlier fetch finished, or began, are gone on with."""
    base = expand(source.url)
    with open_client(allow_http=source.allow_http) as client:
        for name in order.files:
            finished = order.scratch / name
            finished.parent.mkdir(parents=True, exist_ok=True)
            download(client, urljoin(base, source.members.get(name, name)), finished, order.say, clock=clock)
    take(order.scratch, {name: name for name in order.files}, order.into)


def open_client(*, allow_http: bool) -> Client:
    """Make a client that follows few redirects, none of them to where it may not go.

    Args:
        allow_http: Whether it may leave this machine unencrypted.

    Raises:
        Unavailable: httpx2 is not installed.
    """
    try:
        import httpx2
    except ImportError as error:
        raise Unavailable(f"{error}; install it with: pip install httpx2") from error

    def check(request: Request) -> None:
        if not (request.url.scheme == "https" or allow_http or is_loopback(request.url.host)):
            raise Unavailable(f"{request.url.host} is not encrypted; use https, or set `allow_http: true` in the card")

    return httpx2.Client(
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=httpx2.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        event_hooks={"request": [check]},  # called for each redirect too
    )
