"""Telling pickles from files that hold only data: reading a pickle can run any code, so none is accepted from outside.

``torch.save`` and ``joblib`` write pickles. Safetensors, ONNX, GGUF and CTranslate2's files are none, though the last are
named ``model.bin`` like many a pickle. So names that can only be pickles are refused, and all files are looked into.
"""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

SUFFIXES = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"}
"""Names that promise a pickle."""
PROTOCOLS = range(2, 6)
"""Pickle protocols that begin with their number; 0 and 1 have no sign (https://docs.python.org/3/library/pickletools.html)."""
PROTO = 0x80
"""The opcode before that number."""


def is_pickle_name(name: str) -> bool:
    """Say whether a file of this name is a pickle by convention."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def is_pickle(path: Path) -> bool:
    """Say whether a file begins as a pickle does, or is a zip archive with one inside, as ``torch.save`` writes it.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(2)
    if len(head) == 2 and head[0] == PROTO and head[1] in PROTOCOLS:
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(is_pickle_name(name) for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
