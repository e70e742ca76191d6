"""Reading what a CTC model says: windows that overlap, and frames that become tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Token:
    """A run of frames that says one token."""

    id: int
    start: int
    """First frame."""
    end: int
    """The frame after the last."""
    probability: float
    """The highest among its frames."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a recording, and the part of it that is written."""

    samples: slice
    """Of the recording."""
    frames: slice
    """Of the window."""


def overlapping(size: int, step: int, length: int, context: int) -> Iterator[Window]:
    """Cut a recording into windows whose written parts join without gap or overlap.

    Args:
        size: Samples of the recording.
        step: Samples of a frame.
        length: Frames of a window.
        context: Frames at either end of a window that its neighbour writes; the recording's own ends have no neighbour.
    """
    start = 0
    while size > 0:
        last = (start + length) * step >= size
        heard = slice(start * step, min((start + length) * step, size))
        yield Window(heard, slice(context if start else 0, None if last else length - context))
        if last:
            return
        start += length - 2 * context


def collapse(ids: NDArray[np.int64], probabilities: NDArray[np.float32], blank: int) -> list[Token]:
    """Merge repeats and drop blanks.

    Args:
        ids: The likeliest token of each frame, shape (n,).
        probabilities: Their probabilities, shape (n,).
        blank: Id of the blank.
    """
    if ids.size == 0:
        return []
    edges = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), ids.size]
    return [
        Token(int(ids[start]), start, end, min(float(probabilities[start:end].max()), 1.0))
        for start, end in pairwise(edges)
        if ids[start] != blank
    ]
