"""The home is proved writable before anything is done, and a file in it is never half there."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from models.errors import StateError
from pipelines.home import Home, write_atomically

SIZE = 4 << 20
KILLS = 12


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond ``room`` bytes: the kernel then refuses a write as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_home_is_made_where_it_is_missing_and_left_empty(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "b").open()
    assert home.root.is_dir() and not list(home.root.iterdir())
    home.open()


def test_a_home_keeps_each_thing_in_a_place_of_its_own() -> None:
    home = Home(Path("/h"))
    places = [getattr(home, name) for name, kind in vars(Home).items() if isinstance(kind, property)]
    assert len(set(places)) == len(places) > 5
    assert all(place.parent == home.root for place in places)


def test_a_home_that_is_a_file_is_refused_with_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(StateError, match=rf"The home folder {root} cannot be written \(.+\)\. Set MODELLAB_HOME"):
            Home(root).open()


def test_a_home_on_a_file_system_that_takes_no_files_is_refused() -> None:
    with pytest.raises(StateError, match="cannot be written"):
        Home(Path("/proc/modellab")).open()
    with pytest.raises(StateError, match="cannot be written"):
        Home(Path("/proc")).open()


def test_text_and_bytes_are_written_readable_for_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.json"
    write_atomically(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with full_disk(1 << 12), pytest.raises(OSError, match="File too large"):
        write_atomically(path, bytes(1 << 16))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_interrupts_a_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.home.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "new")
    assert not list(tmp_path.iterdir())


def test_readers_see_one_whole_content_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = {bytes([byte]) * (1 << 18) for byte in range(4)}
    write_atomically(path, next(iter(contents)))
    seen: list[bytes] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda content=content: [write_atomically(path, content) for _ in range(10)])
        for content in contents
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert seen and set(seen) <= contents
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def write_for_ever(folder: Path) -> None:
    number = 0
    while True:
        write_atomically(folder / f"{number}.bin", bytes([number % 256]) * SIZE)
        number += 1


def killed_inside_a_write(folder: Path) -> bool:
    """Stop a writer when it is seen at its second file, and kill it; True if the file was still being written."""
    folder.mkdir()
    writer = multiprocessing.get_context("forkserver").Process(target=write_for_ever, args=(folder,), daemon=True)
    writer.start()
    assert writer.pid is not None
    while not any(path.name.startswith(".1.bin.") for path in folder.iterdir()):
        assert writer.is_alive()
    # A stopped process changes nothing more: what lies there now is what the kill leaves.
    os.kill(writer.pid, signal.SIGSTOP)
    while psutil.Process(writer.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.001)
    inside = any(path.name.startswith(".") for path in folder.iterdir())
    writer.kill()
    writer.join()
    return inside


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    """Between the look and the stop a file may be finished: as many attempts are made as the hits need."""
    hits = 0
    for attempt in range(20 * KILLS):
        folder = tmp_path / str(attempt)
        hits += killed_inside_a_write(folder)
        whole = [path for path in folder.iterdir() if not path.name.startswith(".")]
        assert whole, "the writer had finished a file"
        for path in whole:
            content = path.read_bytes()
            assert len(content) == SIZE and content == content[:1] * SIZE, f"{path.name} is not whole"
        if hits == KILLS:
            break
    assert hits == KILLS, "too few kills fell into a write: the test would prove nothing"
