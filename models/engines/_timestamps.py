"""How the timestamps that Whisper writes split a window into segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STEP_S = 0.02
"""Step of the timestamps."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a window's tokens that timestamps enclose."""

    tokens: tuple[int, int]
    """First token and the one after the last."""
    start_s: float
    """From the window's start."""
    end_s: float
    """From the window's start."""


def split_at_timestamps(tokens: Sequence[int], begin: int, duration_s: float) -> tuple[list[Piece], float]:
    """Split what Whisper wrote about a window into segments, as ``whisper.transcribe`` does.

    Two timestamps in a row end a segment and begin another. What follows the last such pair may be cut short by the window's
    end, so it is dropped and the next window begins there; a single timestamp at the end says that nothing follows.

    Args:
        tokens: Text and timestamps.
        begin: Id of the timestamp 0.00; higher ids are later.
        duration_s: Length of the window's audio.

    Returns:
        The segments, and how much of the window they cover, in s.
    """
    stamps = [token >= begin for token in tokens]

    def time_s(at: int) -> float:
        return min((tokens[at] - begin) * STEP_S, duration_s)

    cuts = [at for at in range(1, len(tokens)) if stamps[at - 1] and stamps[at]]
    if not cuts:
        last = max((at for at, stamp in enumerate(stamps) if stamp), default=None)
        end_s = time_s(last) if last is not None and tokens[last] != begin else duration_s
        return [Piece((0, len(tokens)), 0.0, end_s)], duration_s
    ends_here = stamps[-2:] == [False, True]
    if ends_here:
        cuts.append(len(tokens))
    pieces = [Piece((start, end), time_s(start), time_s(end - 1)) for start, end in zip([0, *cuts[:-1]], cuts, strict=True)]
    # A pair at 0.00 would be heard again for ever.
    return pieces, duration_s if ends_here else pieces[-1].end_s or duration_s
