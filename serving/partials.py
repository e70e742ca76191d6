"""What can be told of a text that is still being spoken.

A recogniser hears the beginning of a turn again and again, and changes its mind about the end. What two hearings in a row
agree on is told: LocalAgreement-2 (Liu et al. 2020, Interspeech; Macháček et al. 2023, arXiv:2307.14743). What was told is
not taken back: where the final text differs from it, the final text holds.
"""

from __future__ import annotations

from itertools import takewhile


class Agreement:
    """The partial text of one turn."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self._previous: str | None = None
        self.told = ""
        """What was told so far."""

    def add(self, text: str) -> str:
        """Take what was heard so far; gives what is new and can be told, perhaps nothing."""
        previous, self._previous = self._previous, text
        if previous is None:
            return ""
        agreed = whole_words(previous, text)
        if not agreed.startswith(self.told):
            return ""
        new = agreed[len(self.told) :]
        self.told = agreed
        return new

    def finish(self, text: str) -> str:
        """Take the final text; gives what was not told of it, or nothing where it differs from what was told."""
        return text[len(self.told) :] if text.startswith(self.told) else ""


def whole_words(previous: str, text: str) -> str:
    """Give the common beginning of two texts as far as its words are whole; in writing without spaces, all of it."""
    common = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(previous, text, strict=False)))
    if all(len(one) == len(common) or one[len(common)].isspace() for one in (previous, text)):
        return common.rstrip()
    spaced = any(letter.isspace() for letter in (previous + text).strip())
    if not spaced and not text.isascii():
        return common
    return common[: max(common.rfind(" "), 0)].rstrip()
