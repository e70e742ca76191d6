"""Patience with servers: how long to wait before a question is put again, and how to know one's own machine."""

from __future__ import annotations

import email.utils
import ipaddress
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Pauses double from the first to the longest; each is shortened by up to half at random, so that clients part ways."""
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be others in a while (RFC 9110, RFC 6585)."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as a client feels it; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    """Seconds from any beginning."""
    pause: Callable[[float], None] = time.sleep
    """Waits so many seconds."""


SYSTEM_CLOCK = Clock()


def pause_before(attempt: int, asked_s: float | None = None) -> float:
    """Seconds to wait before something is tried again.

    Args:
        attempt: How many tries have failed, from 1.
        asked_s: What the server asked for, obeyed up to `LONGEST_PAUSE_S`.
    """
    pause_s = min(FIRST_PAUSE_S * 2.0 ** (attempt - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311 - no secret
    return min(max(pause_s, asked_s or 0.0), LONGEST_PAUSE_S)


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, as a number or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    if re.fullmatch(r"\d{1,6}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):  # no date, or one without a zone
        return None


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
