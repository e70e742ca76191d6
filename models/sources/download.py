"""One file over HTTP, going on where an earlier try stopped.

``NAME.partial`` holds the bytes so far and ``NAME.partial.json`` says of what they are the beginning. They are continued
with a range request (RFC 9110, sections 13.1.5 and 14) only if the server still has the same file: same ETag or, where there
is none, the same date, and the same length. Else the file is begun anew. Whether the bytes are the right ones is not judged
here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from models.backoff import RETRIED, SYSTEM_CLOCK, Clock, pause_before, retry_after_s
from models.sources.base import MAX_FILE_BYTES, Progress, Unavailable, first_line
from models.types import Record

if TYPE_CHECKING:
    from httpx2 import Client, Response

ATTEMPTS = 5
"""Tries without `WORTHWHILE_BYTES` of progress before a file is given up."""
WORTHWHILE_BYTES = 1024**2
"""A try that brought this much does not count against `ATTEMPTS`: large files outlive many broken connections."""
LINE_S, LINE_SHARE, LINE_AT_LEAST_S = 1.0, 0.05, 15.0
"""Progress is told at most once in the first, and then after this share of the file or this time."""


class _Begun(Record):
    """Of what a partial file is the beginning."""

    url: str
    validator: str | None
    """Strong ETag or date of the file, for ``If-Range``."""
    size: int | None


class _Broken(Exception):  # noqa: N818 - a try that may be repeated
    """The connection broke or the server asked for patience."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


def download(
    client: Client,
    url: str,
    to: Path,
    say: Progress,
    *,
    headers: Mapping[str, str] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Bring a file here, whole or not at all; does nothing where it is.

    Args:
        client: Its timeouts and redirects are obeyed.
        url: Where the file is.
        to: Where it shall be; what was not finished lies beside it.
        say: Told percent and speed now and then.
        headers: Sent with each request, and with redirects to the same server.
        clock: For pauses and progress.

    Raises:
        Unavailable: The server does not have it, stays silent or broken, or the file is larger than `MAX_FILE_BYTES`.
        OSError: It cannot be written.
    """
    if to.is_file():
        return
    partial = to.with_name(f"{to.name}.partial")
    failed, best = 0, _size(partial)
    while True:
        try:
            _attempt(client, url, partial, say, headers or {}, clock)
        except _Broken as error:
            failed = 1 if _size(partial) >= best + WORTHWHILE_BYTES else failed + 1
            best = max(best, _size(partial))
            if failed >= ATTEMPTS:
                raise Unavailable(
                    f"{to.name}: {error}, {ATTEMPTS} times; what is here is kept for the next fetch"
                ) from error
            wait_s = pause_before(failed, error.after_s)
            say(f"{to.name}: {error}; trying again in {wait_s:.0f} s")
            clock.pause(wait_s)
        else:
            partial.replace(to)
            _note(partial).unlink(missing_ok=True)
            return


def _attempt(client: Client, url: str, partial: Path, say: Progress, headers: Mapping[str, str], clock: Clock) -> None:
    import httpx2

    begun = _read_note(partial, url)
    have = _size(partial) if begun else 0
    asked = {**headers, "Accept-Encoding": "identity"}  # a range of a compressed file is of no use
    if begun and have:
        asked["Range"] = f"bytes={have}-"
        if begun.validator:
            asked["If-Range"] = begun.validator
    try:
        with client.stream("GET", url, headers=asked) as response:
            if response.status_code in RETRIED:
                raise _Broken(
                    f"{_host(response)} answers {response.status_code}", retry_after_s(response.headers.get("Retry-After"))
                )
            if response.status_code == 416 and have:  # the file has become shorter, or is all here
                if begun and have == begun.size:
                    return
                _forget(partial)
                raise _Broken(f"{_host(response)} has another file now")
            if response.status_code not in (200, 206):
                raise Unavailable(f"{_host(response)} answers {response.status_code} to {partial.stem}")
            start = _start_of(response, begun) if response.status_code == 206 else 0
            if start != have and start:
                _forget(partial)
                raise _Broken(f"{_host(response)} sent another range than was asked for")
            size = begun.size if start and begun else _length(response)
            if not start:
                _begin(partial, _Begun(url=url, validator=_validator(response), size=size))
            _check_room(partial, size, start)
            _append(response, partial, size, Meter(partial.stem, size, start, say, clock))
    except httpx2.ConnectError as error:
        if not _size(partial):  # nobody there: the next source may be quicker than our patience
            raise Unavailable(f"{_origin(url)} cannot be reached ({first_line(error)})") from error
        raise _Broken(first_line(error)) from error
    except httpx2.TransportError as error:
        raise _Broken(first_line(error)) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:  # too many redirects, an answer that cannot be read
        raise Unavailable(f"{partial.stem}: {first_line(error)}") from error


def _append(response: Response, partial: Path, size: int | None, meter: Meter) -> None:
    most = MAX_FILE_BYTES if size is None else size
    with partial.open("ab", buffering=0) as out:  # what has come outlives this process
        for chunk in response.iter_raw():  # as it comes: a broken connection loses nothing
            if meter.have + len(chunk) > most:
                raise Unavailable(f"{partial.stem} is larger than {most} bytes")
            out.write(chunk)
            meter.advance(len(chunk))
    if size is not None and meter.have < size:
        raise _Broken(f"only {meter.have} of {size} bytes came")


class Meter:
    """Says now and then how far a file is."""

    def __init__(self, name: str, size: int | None, have: int, say: Progress, clock: Clock) -> None:
        """Begin at `have` bytes of `size`."""
        self.have = have
        self._name, self._size, self._say, self._clock = name, size, say, clock
        self._began = self._told = clock.now()
        self._first = self._told_at = have
        if have:
            say(f"{name}: going on at {_mb(have)}")

    def advance(self, count: int) -> None:
        """Count bytes that came."""
        self.have += count
        now = self._clock.now()
        since_s = now - self._told
        worth = since_s >= LINE_AT_LEAST_S or self._size is None or self.have - self._told_at >= LINE_SHARE * self._size
        if since_s < LINE_S or not worth:
            return
        rate = (self.have - self._first) / (now - self._began)
        share = f"{self.have / self._size:.0%} of {_mb(self._size)}" if self._size else _mb(self.have)
        self._say(f"{self._name}: {share}, {_mb(rate)}/s")
        self._told, self._told_at = now, self.have


def _start_of(response: Response, begun: _Begun | None) -> int:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    same_length = match and begun and (begun.size is None or match[2] in ("*", str(begun.size)))
    return int(match[1]) if match and same_length else -1


def _validator(response: Response) -> str | None:
    etag = response.headers.get("ETag", "")
    # A weak ETag promises the same meaning, not the same bytes.
    strong = etag if etag and not etag.startswith("W/") else None
    return strong or response.headers.get("Last-Modified")


def _length(response: Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    size = int(text) if text.isdecimal() else None
    if size is not None and size > MAX_FILE_BYTES:
        raise Unavailable(f"the file has {size} bytes, more than {MAX_FILE_BYTES}")
    return size


def _check_room(partial: Path, size: int | None, start: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if size is not None and size - start > free:
        raise Unavailable(f"{partial.stem} needs {_mb(size - start)} more, the disk has {_mb(free)}")


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _begin(partial: Path, begun: _Begun) -> None:
    _forget(partial)
    partial.touch()
    _note(partial).write_text(begun.model_dump_json(), encoding="utf-8")


def _forget(partial: Path) -> None:
    # The note first: bytes without a note are never continued.
    _note(partial).unlink(missing_ok=True)
    partial.unlink(missing_ok=True)


def _read_note(partial: Path, url: str) -> _Begun | None:
    try:
        begun = _Begun.model_validate_json(_note(partial).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return begun if begun.url == url and (begun.validator or begun.size) else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _host(response: Response) -> str:
    return str(response.url.host)


def _mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB"
