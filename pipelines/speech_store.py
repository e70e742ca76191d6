"""What voices said: synthesised once, the audio kept beside it under its own digest.

Key = the text's sha256 and the language told, within one model. The audio is 16-bit FLAC, which is what a service sends; its
quantisation noise lies 98 dB below full scale.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from models.types import Record, Speech
from pipelines.home import write_atomically
from pipelines.shards import ShardStore

AUDIO_FORMAT, AUDIO_SUBTYPE = "FLAC", "PCM_16"


class SpeechTiming(Record):
    """What one synthesis cost, measured around the engine's call alone."""

    inference_s: float
    """Wall time of the call in seconds."""
    first_audio_s: float
    """Wall time until the first samples in seconds; of the whole call where the engine does not stream."""


class Synthesis(Record):
    """What one model said for one text."""

    text_sha256: str
    """Of the text as given, UTF-8."""
    model_fingerprint: str
    """Digest of `models.fingerprint.ModelFingerprint`."""
    language: str | None
    """Language the engine was told."""
    audio_sha256: str | None
    """Digest of the kept file; None where the voice said nothing at all."""
    audio_s: float
    """Length in seconds."""
    sample_rate_hz: int | None
    """Samples per second, as the engine gave them; None where it gave none."""
    refusal: str | None = None
    """Why the voice refused the text; it is then as if it had said nothing."""
    cost: float | None = None
    """What it cost by the card's price, see `models.types.Speech.cost`."""
    timing: SpeechTiming
    """What it cost when it was computed; never used for speed once it comes from the store."""


def text_sha256(text: str) -> str:
    """Digest of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def keep_audio(speech: Speech, folder: Path) -> str | None:
    """Write the audio under its digest, once; None if there are no samples.

    Samples beyond [-1, 1] are clipped as every 16-bit format would; `clipped_share` counts them.
    """
    import soundfile

    if not len(speech.samples):
        return None
    buffer = io.BytesIO()
    soundfile.write(buffer, speech.samples.clip(-1, 1), speech.sample_rate_hz, format=AUDIO_FORMAT, subtype=AUDIO_SUBTYPE)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    path = audio_path(folder, digest)
    if not path.is_file():
        write_atomically(path, content)
    return digest


def audio_path(folder: Path, digest: str) -> Path:
    """Where the audio of this digest is kept."""
    return folder / digest[:2] / f"{digest}.flac"


class SpeechStore(ShardStore[Synthesis]):
    """Syntheses of one model, by text and language."""

    def __init__(self, folder: Path, model_fingerprint: str) -> None:
        """Open the store under ``folder`` for the model with this fingerprint; nothing is read yet."""
        self._fingerprint = model_fingerprint
        super().__init__(
            folder / model_fingerprint,
            Synthesis,
            "synthesis",
            ("text_sha256", "language"),
            lambda synthesis: (synthesis.text_sha256, synthesis.language or ""),
        )
        self.audio = folder / "audio"
        """Folder of the audio of all models."""

    def add(self, records: Sequence[Synthesis]) -> None:
        """Write one shard of this model; see `ShardStore.add`."""
        assert all(record.model_fingerprint == self._fingerprint for record in records)
        super().add(records)
