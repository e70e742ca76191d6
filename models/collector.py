"""Python's garbage collector, kept from walking what large libraries make when they are imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Import libraries or load weights without the collector, then leave what they made out of all collections.

    Modules, classes and weights live as long as the process. Walking them again and again while they are made is a quarter
    of the time that importing an orchestrator and a tracker takes (``gc.freeze`` is made for this:
    https://docs.python.org/3/library/gc.html#gc.freeze). Blocks may nest, and may run in several threads.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
