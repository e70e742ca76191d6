"""What a process is started with so that it keeps what an engine frees, and variables that are set for a while."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping

import pytest

from models.memory import ALLOCATOR
from models.variables import variables

# Bytes and not an array, for which numpy asks for huge pages, of which there are few either way.
FAULTS = """
import resource
b"x" * (100 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * (100 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def printed(code: str, more: Mapping[str, str] = ALLOCATOR) -> list[int]:
    """Run code in a process of its own that has these variables and no others of the allocator."""
    variables = {name: value for name, value in os.environ.items() if name not in ALLOCATOR} | more
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True, timeout=60
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_memory_that_was_freed_is_there_for_the_next_call() -> None:
    (kept,), (otherwise,) = printed(FAULTS), printed(FAULTS, {})
    assert kept < otherwise / 100, "pages that the system hands out for 100 MiB that were used before"


WORN = """
import psutil, numpy
from models import memory
resident = lambda: psutil.Process().memory_info().rss >> 20
blocks = [numpy.ones(1 << 17) for _ in range(200)]
del blocks[::2]  # gaps of one MiB, each behind what is in use
before = resident()
memory.tidy()
early = resident()
memory._tidied -= memory.TIDY_S
memory.tidy()
print(before - early, early - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_what_the_heap_has_between_is_returned_now_and_then() -> None:
    at_once, later = printed(WORN)
    assert abs(at_once) <= 1 and later > 80


def test_variables_are_as_they_were_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "before")
    monkeypatch.delenv("NOBODYS", raising=False)
    before = dict(os.environ)
    with pytest.raises(ValueError), variables({"OURS": "1", "NOBODYS": "2"}):
        assert (os.environ["OURS"], os.environ["NOBODYS"]) == ("1", "2")
        with variables({"OURS": "inner"}):
            assert os.environ["OURS"] == "inner"
        assert os.environ["OURS"] == "1"
        raise ValueError
    assert os.environ == before
