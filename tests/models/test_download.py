"""Downloads go on where they stopped, end when they should, and say why."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from models.backoff import LONGEST_PAUSE_S, Clock, pause_before, retry_after_s
from models.sources import download as module
from models.sources.base import Unavailable
from models.sources.download import ATTEMPTS, Meter, download
from models.sources.http import MAX_REDIRECTS, open_client
from tests.models.file_server import Fault, FileServer, serving

CONTENT = random.Random(0).randbytes(300_000)
HALF = 150_000


@dataclass
class Watched:
    """A download that never really waits, with all that it said and waited for."""

    folder: Path
    server: FileServer
    said: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def run(self, name: str = "model.bin", timeout_s: float = 30.0) -> bytes:
        with open_client(allow_http=False) as client:
            client.timeout = httpx2.Timeout(timeout_s)
            clock = Clock(pause=self.pauses.append)
            download(client, self.server.url + name, self.folder / name, self.said.append, clock=clock)
        return (self.folder / name).read_bytes()

    @property
    def left(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving({"model.bin": CONTENT}) as running:
        yield running


@pytest.fixture
def watched(tmp_path: Path, server: FileServer) -> Watched:
    return Watched(tmp_path, server)


def stop_half_way(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the first half behind, as a killed process does."""
    watched.server.faults = [Fault(cut_after=HALF)]
    with monkeypatch.context() as patch, pytest.raises(Unavailable):
        patch.setattr(module, "ATTEMPTS", 1)
        watched.run()
    assert (watched.folder / "model.bin.partial").read_bytes() == CONTENT[:HALF]
    assert watched.left == {"model.bin.partial", "model.bin.partial.json"}
    watched.server.asked.clear()


def test_a_file_comes_whole_and_is_not_asked_for_again(watched: Watched) -> None:
    assert watched.run() == CONTENT
    assert watched.run() == CONTENT
    assert len(watched.server.asked) == 1
    assert watched.left == {"model.bin"}


def test_a_broken_connection_is_gone_on_with(watched: Watched) -> None:
    watched.server.faults = [Fault(cut_after=HALF), Fault(cut_after=1000)]
    assert watched.run() == CONTENT
    assert watched.server.ranges_asked == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert len(watched.pauses) == 2


@pytest.mark.parametrize(
    ("etag", "date"),
    [('"1"', None), (None, "Mon, 01 Jan 2024 00:00:00 GMT"), ('W/"1"', "Mon, 01 Jan 2024 00:00:00 GMT"), (None, None)],
)
def test_a_later_fetch_goes_on(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, etag: str | None, date: str | None
) -> None:
    watched.server.etag, watched.server.last_modified = etag, date
    stop_half_way(watched, monkeypatch)
    assert watched.run() == CONTENT
    (_, headers), *more = watched.server.asked
    assert not more
    assert headers["Range"] == f"bytes={HALF}-"
    assert headers.get("If-Range") == (date or etag)


NEW = random.Random(1).randbytes(300_000)


def change_etag(server: FileServer) -> None:
    server.etag, server.files["/model.bin"] = '"2"', NEW


def lose_ranges(server: FileServer) -> None:
    server.ranges, server.files["/model.bin"] = False, NEW


def grow(server: FileServer) -> None:
    server.files["/model.bin"] = NEW + b"more"


def shrink(server: FileServer) -> None:
    server.files["/model.bin"] = NEW[:1000]
    server.faults = [Fault(status=416)]


@pytest.mark.parametrize("change", [change_etag, lose_ranges, grow, shrink])
def test_another_file_is_begun_anew(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, change: Callable[[FileServer], None]
) -> None:
    stop_half_way(watched, monkeypatch)
    change(watched.server)
    assert watched.run() == watched.server.files["/model.bin"]


def test_a_range_that_was_not_asked_for_is_not_taken(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_half_way(watched, monkeypatch)
    watched.server.faults = [Fault(headers={"Content-Range": f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"})]
    assert watched.run() == CONTENT


def test_bytes_without_a_note_are_not_gone_on_with(watched: Watched) -> None:
    (watched.folder / "model.bin.partial").write_bytes(b"of something else")
    assert watched.run() == CONTENT
    assert watched.server.ranges_asked == [None]


def test_what_is_all_here_needs_no_more_bytes(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_half_way(watched, monkeypatch)
    (watched.folder / "model.bin.partial").write_bytes(CONTENT)
    watched.server.faults = [Fault(status=416)]
    assert watched.run() == CONTENT


def test_a_server_that_asks_for_patience_gets_it(watched: Watched) -> None:
    watched.server.faults = [Fault(status=503, headers={"Retry-After": "7"}), Fault(status=429), Fault(status=500)]
    assert watched.run() == CONTENT
    assert watched.pauses[0] == 7.0
    assert len(watched.pauses) == 3


def test_pauses_double_up_to_a_limit_and_obey_within_it() -> None:
    for attempt, most in ((1, 1.0), (2, 2.0), (3, 4.0), (40, LONGEST_PAUSE_S)):
        assert most / 2 <= pause_before(attempt) <= most
    assert pause_before(1, 30.0) == 30.0
    assert pause_before(1, 1e6) == LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 2024 00:00:00", None),
    ],
)
def test_the_pause_a_server_asks_for(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value) == seconds


def test_the_pause_a_server_asks_for_by_date() -> None:
    assert (retry_after_s("Fri, 01 Jan 2100 00:00:00 GMT") or 0) > LONGEST_PAUSE_S


def test_a_server_that_stays_broken_is_given_up(watched: Watched) -> None:
    watched.server.always = Fault(status=500)
    with pytest.raises(Unavailable, match="answers 500"):
        watched.run()
    assert len(watched.server.asked) == ATTEMPTS
    assert len(watched.pauses) == ATTEMPTS - 1


def test_much_progress_earns_new_patience(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTHWHILE_BYTES", 1000)
    watched.server.faults = [Fault(cut_after=20_000) for _ in range(10)]
    assert watched.run() == CONTENT
    assert len(watched.pauses) == 10


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_final(watched: Watched, status: int) -> None:
    watched.server.always = Fault(status=status)
    with pytest.raises(Unavailable, match=str(status)):
        watched.run()
    assert not watched.pauses


def test_nobody_there_is_said_at_once(watched: Watched) -> None:
    watched.server.url = "http://127.0.0.1:9/"
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        watched.run()
    assert not watched.pauses


def test_a_silent_server_is_given_up(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    watched.server.always = Fault(hold_after=1000)
    with pytest.raises(Unavailable, match="timed out"):
        watched.run(timeout_s=0.2)
    assert len(watched.server.asked) == 2


def test_a_body_without_end_is_cut(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 2**20)
    watched.server.always = Fault(endless=True)
    with pytest.raises(Unavailable, match="larger than 1048576 bytes"):
        watched.run()
    assert (watched.folder / "model.bin.partial").stat().st_size <= 2**20


def test_a_file_that_says_it_is_too_large_is_not_begun(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    with pytest.raises(Unavailable, match="300000 bytes"):
        watched.run()
    assert not watched.left


def test_a_disk_without_room_is_named(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(Unavailable, match=r"needs 0\.3 MB more, the disk has 0\.0 MB"):
        watched.run()


def test_a_redirect_is_followed_but_not_to_an_unencrypted_place(watched: Watched) -> None:
    watched.server.files["/moved.bin"] = NEW
    watched.server.faults = [Fault(status=302, headers={"Location": "/moved.bin"})]
    assert watched.run() == NEW
    watched.server.faults = [Fault(status=302, headers={"Location": "http://192.0.2.1/model.bin"})]
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1 is not encrypted"):
        watched.run("moved.bin")


def test_redirects_in_a_circle_end(watched: Watched) -> None:
    watched.server.always = Fault(status=302, headers={"Location": "/model.bin"})
    with pytest.raises(Unavailable, match="redirects"):
        watched.run()
    assert len(watched.server.asked) == MAX_REDIRECTS + 1


def test_a_key_is_not_sent_on_to_another_server(watched: Watched) -> None:
    with serving({"model.bin": NEW}) as other, open_client(allow_http=False) as client:
        watched.server.faults = [Fault(status=302, headers={"Location": other.url + "model.bin"})]
        key = {"Authorization": "Bearer secret"}
        download(client, watched.server.url + "model.bin", watched.folder / "x", watched.said.append, headers=key)
        assert watched.server.asked[0][1]["Authorization"] == "Bearer secret"
        assert "Authorization" not in other.asked[0][1]


@pytest.mark.parametrize(
    ("size", "step_s", "lines", "first"),
    [
        # 100 pieces of 1 MB, one each step.
        (100_000_000, 0.5, 20, "model.bin: 5% of 100.0 MB, 2.0 MB/s"),
        (100_000_000, 1 / 64, 1, "model.bin: 64% of 100.0 MB, 64.0 MB/s"),
        (100_000_000_000, 1.0, 6, "model.bin: 0% of 100000.0 MB, 1.0 MB/s"),
        (None, 0.25, 25, "model.bin: 4.0 MB, 4.0 MB/s"),
    ],
)
def test_progress_is_told_now_and_then(size: int | None, step_s: float, lines: int, first: str) -> None:
    said: list[str] = []
    now_s = 0.0
    meter = Meter("model.bin", size, 0, said.append, Clock(lambda: now_s))
    for _ in range(100):
        now_s += step_s
        meter.advance(1_000_000)
    assert said[0] == first
    assert len(said) == lines


def test_progress_of_what_is_gone_on_with_counts_only_what_came_now() -> None:
    said: list[str] = []
    now_s = 0.0
    meter = Meter("model.bin", 100_000_000, 50_000_000, said.append, Clock(lambda: now_s))
    now_s = 2.0
    meter.advance(10_000_000)
    assert said == ["model.bin: going on at 50.0 MB", "model.bin: 60% of 100.0 MB, 5.0 MB/s"]


def test_two_threads_may_download_side_by_side(watched: Watched) -> None:
    for number in range(4):
        watched.server.files[f"/{number}.bin"] = bytes([number]) * 1000
    threads = [threading.Thread(target=watched.run, args=(f"{number}.bin",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"{number}.bin" for number in range(4)} <= watched.left
