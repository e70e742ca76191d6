"""Talking to a server with the OpenAI API: patient, bounded, a few calls at a time, and clear about what went wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from models.backoff import RETRIED, SYSTEM_CLOCK, Clock, pause_before, retry_after_s
from models.engine import missing_library
from models.engines._openai_connection import Connection
from models.errors import EngineError, unknown_name

if TYPE_CHECKING:
    from httpx2 import Response

T = TypeVar("T")

REQUIREMENT = "httpx2>=2.16,<3"
ATTEMPTS = 6
"""Tries of one call; with the pauses between them about half a minute, or as long as the server asks."""
CONNECT_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16 * 1024**2
"""A transcript of many hours."""
MAX_SPEECH_BYTES = 512 * 1024**2
"""Three hours of 24 kHz audio."""
SAID_CHARACTERS = 300
"""How much of a server's complaint is passed on."""


class _Again(Exception):  # noqa: N818 - a call that may be repeated
    """The server is busy, broken or silent."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Refused(EngineError):  # noqa: N818 - what the server did
    """The server answered that the call itself is wrong."""

    def __init__(self, message: str, remedy: str, status: int) -> None:
        """Take the status beside the message."""
        super().__init__(message, remedy)
        self.status = status


class Service:
    """One server. Safe to use from several threads."""

    def __init__(self, connection: Connection, clock: Clock = SYSTEM_CLOCK, attempts: int = ATTEMPTS) -> None:
        """Connect to nothing yet.

        Args:
            connection: How to reach it.
            clock: For pauses and patience.
            attempts: Tries of one call.

        Raises:
            EngineError: httpx2 is not installed, or the key's variable is not set.
        """
        try:
            import httpx2
        except ImportError as error:
            raise missing_library(REQUIREMENT, error) from error
        self.connection = connection
        self._clock, self._attempts = clock, attempts
        self._slots = threading.BoundedSemaphore(connection.concurrency)
        self._key = connection.key()
        # Compressed answers could unpack to any size.
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        timeout = httpx2.Timeout(connection.timeout_s, connect=min(CONNECT_TIMEOUT_S, connection.timeout_s))
        self._client = httpx2.Client(headers=headers, timeout=timeout)

    def ask(self, method: str, path: str, shape: TypeAdapter[T], **content: Any) -> T:
        """Put a question and read the answer.

        Args:
            method: ``GET`` or ``POST``.
            path: Below the base URL.
            shape: What the answer must be.
            content: As httpx2 takes it: ``json``, ``data``, ``files``.

        Raises:
            Refused: The server says that the call is wrong.
            EngineError: It cannot be reached, stays busy or broken, or its answer is too long or none.
        """
        body = self.ask_bytes(method, path, MAX_ANSWER_BYTES, **content)
        try:
            return shape.validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "as a whole"
            raise EngineError(
                f"{self.url(path)} gave no such answer as was expected: {where}: {first['msg']} (found {body[:80]!r}).",
                "Check that the server has the OpenAI API.",
            ) from error

    def ask_bytes(self, method: str, path: str, most_bytes: int, **content: Any) -> bytes:
        """Put a question and read the answer's bytes; see `ask`. A broken answer is asked for again."""

        def once() -> bytes:
            response = self._send(method, path, content)
            try:
                return b"".join(self._blocks(response, path, most_bytes))
            finally:
                response.close()

        with self._slots:
            return self._patiently(path, once)

    def stream(self, method: str, path: str, most_bytes: int, **content: Any) -> Generator[bytes, None, None]:
        """Put a question and give the answer's bytes as they come; see `ask`. An answer that breaks off is an error."""
        with self._slots:
            response = self._patiently(path, lambda: self._send(method, path, content))
            try:
                yield from self._blocks(response, path, most_bytes)
            except _Again as error:
                raise EngineError(f"{self.url(path)} broke off: {error}.", "Try again.") from error
            finally:
                response.close()

    def describe_model(self) -> dict[str, JsonValue]:
        """Ask the server what it reports of the connection's model.

        Raises:
            EngineError: It has no such model, does not say which ones it has, or cannot be asked.
        """
        name = self.connection.model
        try:
            return self.ask("GET", f"models/{quote(name)}", _DESCRIPTION).model_dump()
        except Refused as error:
            if error.status not in (404, 405):
                raise
        known = {entry.id: entry for entry in self.ask("GET", "models", _DESCRIPTIONS).data}
        if name not in known:
            raise EngineError(*unknown_name(f"model at {self.connection.base_url}", name, known))
        return known[name].model_dump()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def url(self, path: str) -> str:
        """The whole address of a path."""
        return f"{self.connection.base_url.rstrip('/')}/{path}"

    def _patiently(self, path: str, once: Callable[[], T]) -> T:
        for attempt in range(1, self._attempts + 1):
            try:
                return once()
            except _Again as error:
                if attempt == self._attempts:
                    message = f"{self.url(path)} {error}, {attempt} times."
                    raise EngineError(message, "Check the server, or try again later.") from error
                self._clock.pause(pause_before(attempt, error.after_s))
        raise AssertionError("the last try returns or raises")

    def _send(self, method: str, path: str, content: Mapping[str, Any]) -> Response:
        import httpx2

        try:
            response = self._client.send(self._client.build_request(method, self.url(path), **content), stream=True)
        except httpx2.ConnectError as error:
            raise _Again(f"cannot be reached ({_first_line(error)})") from error
        except httpx2.TransportError as error:
            raise _Again(f"does not answer ({_first_line(error)})") from error
        if response.is_success:
            return response
        try:
            raise self._refusal(response, path)
        finally:
            response.close()

    def _refusal(self, response: Response, path: str) -> Exception:
        status, said = response.status_code, self._complaint(response, path)
        if status in RETRIED:
            return _Again(f"answers {status}{said}", retry_after_s(response.headers.get("Retry-After")))
        message = f"{self.url(path)} answers {status}{said}."
        if status in (401, 403):
            name = self.connection.api_key_env
            remedy = f"Put a key that it takes into {name}." if name else "Name the variable of a key in `api_key_env`."
            return EngineError(message, remedy)
        return Refused(message, "Check base_url, the model's name, and what the server can do.", status)

    def _complaint(self, response: Response, path: str) -> str:
        try:
            text = b"".join(self._blocks(response, path, MAX_ANSWER_BYTES)).decode(errors="replace")
        except (_Again, EngineError):
            return ""
        with suppress(ValidationError):  # no JSON, or another: said as it is
            text = _COMPLAINT.validate_json(text).text() or text
        text = " ".join(text.split())[:SAID_CHARACTERS].rstrip(".")
        return f": {text.replace(self._key, '…') if self._key else text}" if text else ""

    def _blocks(self, response: Response, path: str, most_bytes: int) -> Iterator[bytes]:
        import httpx2

        total, waited_s, timeout_s = 0, 0.0, self.connection.timeout_s
        blocks = response.iter_raw()
        while True:
            began = self._clock.now()
            try:
                block = next(blocks, None)
            except httpx2.TransportError as error:
                raise _Again(f"broke off ({_first_line(error)})") from error
            if block is None:
                return
            # The client's own timeout starts anew with each byte.
            waited_s += self._clock.now() - began
            if waited_s > timeout_s:
                raise _Again(f"took longer than {timeout_s:g} s")
            total += len(block)
            if total > most_bytes:
                raise EngineError(f"{self.url(path)} sends more than {most_bytes} bytes.", "Check the server.")
            yield block


class _Description(BaseModel):
    """A model as ``GET /models`` describes it."""

    model_config = ConfigDict(extra="allow")

    id: str


class _Descriptions(BaseModel):
    """The answer of ``GET /models``."""

    data: list[_Description]


class _Complaint(BaseModel):
    """An error in OpenAI's form, or in FastAPI's."""

    error: JsonValue = None
    detail: JsonValue = None

    def text(self) -> str:
        """What it says."""
        said = self.error or self.detail or ""
        if isinstance(said, dict):
            said = said.get("message") or said
        return said if isinstance(said, str) else json.dumps(said)


_DESCRIPTION = TypeAdapter(_Description)
_DESCRIPTIONS = TypeAdapter(_Descriptions)
_COMPLAINT = TypeAdapter(_Complaint)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
