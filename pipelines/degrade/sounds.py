"""Noises and impulse responses: the project's, or a user's by a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from models.audio import AudioLimits, decode, file_sha256
from models.errors import CorpusError, unknown_name
from pipelines.degrade.level import Samples

SOUND_ENDINGS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus"})
LIMITS = AudioLimits(max_bytes=256 << 20, max_duration_s=3600)
"""What one noise may be: it is held in memory."""
MAX_SOUNDS = 200


@dataclass(frozen=True)
class SoundFile:
    """One noise or impulse response."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    @cached_property
    def samples(self) -> Samples:
        """Mono at `SOUND_RATE_HZ`, (n,)."""
        return decode(self.path, sample_rate_hz=SOUND_RATE_HZ, limits=LIMITS).samples.astype(np.float64)


SOUND_RATE_HZ = 16_000


def find_sounds(path: Path, kind: str, option: str) -> tuple[SoundFile, ...]:
    """List the sounds in a folder, or take the one file, in the order of their names.

    Args:
        path: A folder, or a file.
        kind: What they are, for errors: ``noise`` …
        option: How another path is given.

    Raises:
        CorpusError: There is nothing to take.
        AudioError: One is no audio.
    """
    remedy = f"Run `dvc pull`, or name a folder of recordings by {option} or in params.yaml under degrade."
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else None
    if files is None:
        raise CorpusError(f"The folder {path} for {kind} does not exist.", remedy)
    files = [file for file in files if file.is_file() and file.suffix.lower() in SOUND_ENDINGS]
    if not files:
        raise CorpusError(f"{path} holds no {kind}: no file with {', '.join(sorted(SOUND_ENDINGS))}.", remedy)
    if len(files) > MAX_SOUNDS:
        raise CorpusError(f"{path} holds {len(files)} files; at most {MAX_SOUNDS} are taken.", "Name a smaller folder.")
    sounds = tuple(SoundFile(file, file_sha256(file)) for file in files)
    for sound in sounds:
        if not sound.samples.any():
            raise CorpusError(f"{sound.name} is silent, and no {kind} can be made of it.", "Take it out of the folder.")
    return sounds


def draw(sounds: Sequence[SoundFile], name: str | None, kind: str, choose: Callable[[int], int]) -> SoundFile:
    """Take the sound of a name, or draw one.

    Raises:
        CorpusError: There is none of this name.
    """
    if name is None:
        return sounds[choose(len(sounds))]
    for sound in sounds:
        if name in (sound.name, sound.path.stem):
            return sound
    raise CorpusError(*unknown_name(kind, name, [sound.name for sound in sounds]))
