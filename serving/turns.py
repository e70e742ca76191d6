"""A stream of sound cut into turns: by voice activity, or where its sender says so. Memory is bounded either way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.audio import SAMPLE_RATE_HZ
from serving.voice_activity import FRAME_SAMPLES, Detector

Samples = NDArray[np.float32]

START_FRAMES = 3
"""Frames of speech in a row that begin a turn (96 ms): a click is none."""
HYSTERESIS = 0.15
"""Speech goes on until its probability is this much below the threshold; Silero's own value."""
CUT_SHARE = 0.25
"""A turn that grows too long is cut anywhere in its last quarter."""


@dataclass(frozen=True)
class Detection:
    """How turns are found; fields and defaults are OpenAI's."""

    threshold: float = 0.5
    """Probability from which on a frame is speech."""
    prefix_padding_ms: int = 300
    """Sound before the first speech that belongs to the turn."""
    silence_duration_ms: int = 500
    """Silence that ends a turn."""


@dataclass(frozen=True)
class Started:
    """Somebody began to speak."""

    at: int
    """First sample of the turn, counted from the stream's first."""


@dataclass(frozen=True)
class Turn:
    """What was said in one go."""

    samples: Samples
    """Mono at 16 kHz, shape (n,)."""
    end: int
    """The sample after the last, counted from the stream's first."""
    found: bool
    """Whether it was found by voice activity; else its sender ended it."""


class BufferFullError(Exception):
    """More sound than a turn may have, and its sender did not end it."""


class Turns:
    """Cuts a stream at 16 kHz into turns."""

    def __init__(self, detection: Detection | None, detector: Detector | None, max_s: float, at: int = 0) -> None:
        """Begin with silence.

        Args:
            detection: None, where the sender ends each turn.
            detector: For `detection`.
            max_s: Longest turn.
            at: Samples that came before.
        """
        assert (detection is None) == (detector is None), "a detector and how to use it go together"
        self._detection, self._detector = detection, detector
        self._max = round(max_s * SAMPLE_RATE_HZ)
        self._at = at
        self._buffer = bytearray()
        """Of the turn under way: float32. Not a list of pieces, each of which would cost as much as 50 samples."""
        self._rest = np.zeros(0, np.float32)
        before = -(-detection.prefix_padding_ms * SAMPLE_RATE_HZ // (1000 * FRAME_SAMPLES)) if detection else 0
        self._before: deque[Samples] = deque(maxlen=before + START_FRAMES)
        self._chances: list[float] = []
        self._voiced = self._silent = 0
        self.speaking = False
        """Whether a turn is under way that voice activity began."""

    @property
    def at(self) -> int:
        """Samples that came so far, without those that do not fill a frame."""
        return self._at

    @property
    def length(self) -> int:
        """Samples of the turn under way."""
        return len(self._buffer) // 4

    def current(self) -> Samples:
        """A copy of the turn under way."""
        return np.frombuffer(bytes(self._buffer), np.float32)

    def add(self, samples: Samples) -> list[Started | Turn]:
        """Take more sound, and say what began and ended in it.

        Raises:
            BufferFullError: The sender ends the turns, and did not in time; this sound was not taken.
        """
        if self._detection is None:
            if self.length + samples.size > self._max:
                raise BufferFullError
            self._buffer += samples.tobytes()
            self._at += samples.size
            return []
        samples = np.concatenate([self._rest, samples])
        whole = samples.size // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = samples[whole:].copy()
        happened: list[Started | Turn] = []
        for frame in samples[:whole].reshape(-1, FRAME_SAMPLES):
            happened += self._heard(frame, self._detection)
        return happened

    def commit(self) -> Turn | None:
        """End the turn under way now; None where there is nothing in it."""
        if self._detection is not None and not self.speaking:
            return None
        self._buffer += self._rest.tobytes()
        self._at += self._rest.size
        self._rest = self._rest[:0]
        turn = Turn(self.current(), self._at, found=False)
        self._begin_anew()
        return turn if turn.samples.size else None

    def clear(self) -> None:
        """Throw the turn under way and what came before it away."""
        self._at += self._rest.size
        self._rest = self._rest[:0]
        self._before.clear()
        self._begin_anew()
        if self._detector is not None:
            self._detector.reset()

    def _heard(self, frame: Samples, detection: Detection) -> list[Started | Turn]:
        assert self._detector is not None
        chance = self._detector.probability(frame)
        self._at += frame.size
        if not self.speaking:
            self._before.append(frame)
            self._voiced = self._voiced + 1 if chance >= detection.threshold else 0
            if self._voiced < START_FRAMES:
                return []
            self.speaking, self._silent = True, 0
            self._buffer += np.concatenate(self._before).tobytes()
            self._chances = [1.0] * len(self._before)
            self._before.clear()
            return [Started(self._at - self.length)]
        self._buffer += frame.tobytes()
        self._chances.append(chance)
        self._silent = 0 if chance >= detection.threshold - HYSTERESIS else self._silent + 1
        if self._silent * FRAME_SAMPLES * 1000 >= detection.silence_duration_ms * SAMPLE_RATE_HZ:
            turn = Turn(self.current(), self._at, found=True)
            self._begin_anew()
            return [turn]
        return self._cut() if self.length >= self._max else []

    def _cut(self) -> list[Started | Turn]:
        """End a turn that grew too long where speech is least likely, and let the next one begin there."""
        first = len(self._chances) - max(1, round(len(self._chances) * CUT_SHARE))
        frames = first + int(np.argmin(self._chances[first:])) + 1
        samples, end = self.current(), self._at - self.length + frames * FRAME_SAMPLES
        rest, chances = samples[frames * FRAME_SAMPLES :], self._chances[frames:]
        self._buffer, self._chances = bytearray(rest.tobytes()), chances
        return [Turn(samples[: frames * FRAME_SAMPLES], end, found=True), Started(end)]

    def _begin_anew(self) -> None:
        self._buffer = bytearray()
        self._chances = []
        self._voiced = self._silent = 0
        self.speaking = False
