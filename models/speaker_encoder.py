"""Where the speaker encoder's weights come from: inside a wheel, read once, kept as safetensors, checked at every use.

The wheel is Resemblyzer's (Apache-2.0), by Resemble AI. It is unpacked and never imported or installed: it asks for a
package without a wheel (webrtcvad), and for a backport of `typing` that breaks today's Python. Its weights are a pickle, so
they are held to their sha256 first, then read by torch's restricted reader (``weights_only``), which runs no code; what is
kept is a safetensors file with a sha256 of its own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from models.audio import file_sha256
from models.card import PackageSource
from models.errors import WeightsError
from models.sources.base import Order, Progress, Unavailable
from models.sources.package import deliver

NAME, FILE = "speaker-encoder", "model.safetensors"
SHA256 = "a5d4776b403b69593e4a10212aeacf7d35b56e9d0a2022058c6d4f888202e069"
"""Of the safetensors file: the same tensors always give the same bytes (`models.convert.write_safetensors`)."""
CHECKPOINT, CHECKPOINT_SHA256 = "pretrained.pt", "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
LOCAL = "MODELLAB_LOCAL_WEIGHTS"
"""Where the cards look first, too: the file may lie in ``speaker-encoder/`` there."""
WHEEL = PackageSource(kind="package", packages=("Resemblyzer==0.1.4",), members={CHECKPOINT: (f"resemblyzer/{CHECKPOINT}",)})


def fetch_speaker_encoder(cache: Path, say: Progress) -> Path:
    """Get the weights file, unless it is here already; safe to call from several processes at once.

    Args:
        cache: The weights cache of the home.
        say: Told in short lines what is going on.

    Returns:
        The safetensors file, verified.

    Raises:
        WeightsError: The wheel cannot be had, or is not the one that was tested.
    """
    from filelock import FileLock

    path = cache / NAME / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / NAME / ".lock"):
            here = path.is_file() and file_sha256(path) == SHA256
            if not here and not _take_local(path):
                say(f"{NAME}: from {WHEEL.packages[0]}")
                _make(path)
    except OSError as error:
        raise WeightsError(f"The weights folder {cache} cannot be written: {error}.", "Check MODELLAB_HOME.") from error
    return path


def _take_local(path: Path) -> bool:
    local = Path(os.environ.get(LOCAL, "")) / NAME / FILE
    if not os.environ.get(LOCAL) or not local.is_file() or file_sha256(local) != SHA256:
        return False
    partial = path.with_suffix(".partial")
    shutil.copyfile(local, partial)
    partial.replace(path)
    return True


def _make(path: Path) -> None:
    from models.convert import write_safetensors
    from models.engines.ge2e import checkpoint_tensors

    scratch = path.parent / ".partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        order = Order({CHECKPOINT: CHECKPOINT_SHA256}, scratch, scratch, lambda line: None, lambda name: scratch)
        deliver(WHEEL, order)
        _check(scratch / CHECKPOINT, CHECKPOINT_SHA256)
        write_safetensors(scratch / FILE, checkpoint_tensors(scratch / CHECKPOINT))
        _check(scratch / FILE, SHA256)
        (scratch / FILE).replace(path)
    except Unavailable as error:
        raise WeightsError(
            f"The speaker encoder cannot be fetched: {str(error).rstrip('.')}.",
            f"Make {WHEEL.packages[0]} reachable for pip, or take reference_audio_filepath out of the prompts.",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check(path: Path, expected: str) -> None:
    if (got := file_sha256(path)) != expected:
        raise Unavailable(f"{path.name}: expected sha256 {expected}, got {got}")
