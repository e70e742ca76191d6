"""Scripts that are written without spaces between words."""

from __future__ import annotations

import re
import unicodedata

# Blocks of the Unicode standard; Hangul and Ethiopic are absent because they are written with spaces.
UNSPACED_BLOCKS: tuple[tuple[int, int, str], ...] = (
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x1000, 0x109F, "Myanmar"),
    (0x1780, 0x17FF, "Khmer"),
    (0x3005, 0x3007, "ideographic iteration mark and zero"),
    (0x3040, 0x30FF, "Hiragana and Katakana"),
    (0x31F0, 0x31FF, "Katakana phonetic extensions"),
    (0x3400, 0x4DBF, "CJK extension A"),
    (0x4E00, 0x9FFF, "CJK unified ideographs"),
    (0xF900, 0xFAFF, "CJK compatibility ideographs"),
    (0x20000, 0x3FFFF, "CJK extensions B and later"),
)

_RUN = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last, _ in UNSPACED_BLOCKS) + "]+")


def split_unspaced(text: str) -> str:
    """Put spaces around each character of a script written without them; combining marks stay with their letter."""
    return _RUN.sub(lambda run: _spread(run.group()), text)


def _spread(run: str) -> str:
    return "".join(c if unicodedata.category(c)[0] == "M" else f" {c}" for c in run) + " "
