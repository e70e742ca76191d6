"""A web server of a few files that can be told to fail, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fault:
    """What goes wrong with one request."""

    status: int = 0
    """Answer this and nothing else."""
    headers: dict[str, str] = field(default_factory=dict)
    """Instead of, or beside, the right ones."""
    cut_after: int | None = None
    """Break the connection after this many bytes of the body."""
    hold_after: int | None = None
    """Send no more after this many bytes, until the server is released."""
    endless: bool = False
    """Send zeros until the client goes away, and no length."""


@dataclass
class FileServer:
    """Files by path, with the switches that tests turn."""

    files: dict[str, bytes]
    url: str = ""
    etag: str | None = '"1"'
    last_modified: str | None = None
    ranges: bool = True
    faults: list[Fault] = field(default_factory=list)
    """One for each of the next GET requests; then all goes well."""
    always: Fault | None = None
    """For every request that has no fault of its own."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of each GET request."""
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def ranges_asked(self) -> list[str | None]:
        """The ``Range`` of each request."""
        return [headers.get("Range") for _, headers in self.asked]


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """Serve files on a port of this machine."""
    told = FileServer({f"/{name}": content for name, content in files.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append((self.path, dict(self.headers)))
            fault = told.faults.pop(0) if told.faults else told.always or Fault()
            content = told.files.get(self.path)
            if fault.status or content is None:
                self.answer(fault.status or 404, fault.headers)
                return
            if fault.endless:
                self.answer(200, {})
                with_zeros(self)
                return
            first = self.first_byte(content)
            headers = {"Content-Length": str(len(content) - first), "Content-Type": "application/octet-stream"}
            if first:
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            if told.etag:
                headers["ETag"] = told.etag
            if told.last_modified:
                headers["Last-Modified"] = told.last_modified
            self.answer(206 if first else 200, headers | fault.headers)
            stop = fault.cut_after if fault.hold_after is None else fault.hold_after
            self.wfile.write(content[first : None if stop is None else first + stop])
            if fault.hold_after is not None:
                self.wfile.flush()
                told.released.wait(60)

        def first_byte(self, content: bytes) -> int:
            asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
            if not told.ranges or asked is None or (condition and condition not in (told.etag, told.last_modified)):
                return 0
            return int(asked.removeprefix("bytes=").removesuffix("-"))

        def answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield told
    finally:
        told.released.set()
        server.shutdown()
        server.server_close()


def with_zeros(handler: BaseHTTPRequestHandler) -> None:
    """Send without end."""
    try:
        while True:
            handler.wfile.write(bytes(2**16))
    except OSError:  # the client has had enough
        pass
