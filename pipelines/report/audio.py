"""Recordings inside the page, as ``data:`` URIs, within a budget that keeps the page light enough to mail."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PAGE_BUDGET_BYTES = 6 * 1024 * 1024
"""Most that all recordings of one page and their pictures may take, as encoded."""

FILE_CAP_BYTES = 1_500 * 1024
"""Most that one recording may take, as encoded: about 35 s of 16 kHz WAV, minutes of MP3."""

_MIME_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
}


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording as the page shows it: a player, or the reason why there is none."""

    uri: str | None
    """``data:`` URI, or None where the recording is not embedded."""
    path: str
    """Where the file lies, without the machine's own folders; empty when unknown."""
    reason: str
    """Why it is not embedded; empty when it is."""


def _encoded_bytes(size: int) -> int:
    """Characters that base64 needs for `size` bytes."""
    return 4 * ((size + 2) // 3)


def _shown_root(paths: Mapping[str, Path]) -> Path | None:
    """Find the folder to name files from: above the one they share, so the page says ``audio/a.flac``."""
    folders = {path.parent for path in paths.values() if path.is_absolute()}
    return Path(os.path.commonpath(folders)).parent if folders else None


@dataclass(slots=True)
class Budget:
    """Room of one page; whoever comes first takes it."""

    limit_bytes: int = PAGE_BUDGET_BYTES
    spent_bytes: int = 0

    def take(self, size_bytes: int) -> bool:
        """Take so much, or nothing where that is not left."""
        fits = self.spent_bytes + size_bytes <= self.limit_bytes
        self.spent_bytes += size_bytes if fits else 0
        return fits


@dataclass(slots=True)
class AudioEmbedder:
    """Hands out clips in the order asked until the budget is spent. Files are read when asked for, one at a time."""

    paths: Mapping[str, Path]
    """Utterance → file."""
    budget: Budget = field(default_factory=Budget)
    cap_bytes: int = FILE_CAP_BYTES
    _clips: dict[str, Clip] = field(default_factory=dict)

    def clip(self, utterance: str) -> Clip:
        """Embed the recording of an utterance, once; later calls for it return the same clip at no cost."""
        if utterance not in self._clips:
            self._clips[utterance] = self._embed(utterance)
        return self._clips[utterance]

    def _shown_path(self, path: Path) -> str:
        root = _shown_root(self.paths)
        return path.relative_to(root).as_posix() if root and path.is_absolute() else path.as_posix()

    def _embed(self, utterance: str) -> Clip:
        path = self.paths.get(utterance)
        if path is None:
            return Clip(None, "", "no file is known for this recording")
        shown = self._shown_path(path)
        mime = _MIME_TYPES.get(path.suffix.lower())
        if mime is None:
            return Clip(None, shown, f"browsers do not play {path.suffix or 'a file without an extension'}")
        try:
            size = _encoded_bytes(path.stat().st_size)
            if size > self.cap_bytes:
                return Clip(None, shown, "the file is too large for the page")
            data = path.read_bytes()
        except OSError as error:
            return Clip(None, shown, f"the file cannot be read ({error.strerror or 'unknown error'})")
        if not self.budget.take(size):
            return Clip(None, shown, "the page's room for audio is used up")
        return Clip(f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}", shown, "")
