"""Text normalizers: named presets with a version, applied when scoring and never before storing.

A normalizer decides what counts as the same words, so it is part of what two evaluations must share: its name and
its `Normalizer.version` enter the evaluation's fingerprint. Choose it by corpus: ``whisper-english`` writes
"three one one" as "311", which is right for read speech and makes nonsense of connected digits, where one wrong
digit would spoil the whole string; ``digits`` is for those.

Every preset returns words joined by single spaces, without space around them, except ``none``.
"""

from __future__ import annotations

import importlib.util
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from models.errors import CorpusError, unknown_name
from pipelines.scripts import split_unspaced

TextFunction = Callable[[str], str]


@dataclass(frozen=True)
class Normalizer:
    """A named preset: a pure function from text to text, with the version that fingerprints record."""

    name: str
    """What a corpus writes in ``corpus.yaml``."""
    revision: str
    """Raised whenever the same text may come out differently."""
    function: TextFunction
    """The rule itself."""
    description: str
    """What it does, from the function's docstring."""
    library: str | None = None
    """Distribution that the rule comes from, where it is not ours."""

    @property
    def version(self) -> str:
        """The revision, and the library's version where one is used: ``1`` or ``1+openai-whisper-20250625``."""
        if self.library is None:
            return self.revision
        try:
            return f"{self.revision}+{self.library}-{metadata.version(self.library)}"
        except metadata.PackageNotFoundError:
            raise _missing_library(self.name, self.library) from None

    def __call__(self, text: str) -> str:
        """Normalise one text."""
        return self.function(text)


_REGISTRY: dict[str, Normalizer] = {}


def normalizer(name: str, *, version: str, library: str | None = None) -> Callable[[TextFunction], TextFunction]:
    """Register a function as a preset.

    Args:
        name: What users write.
        version: Raise it whenever the same text may come out differently.
        library: Distribution whose version belongs to the preset's, where the rule is not ours.
    """

    def register(function: TextFunction) -> TextFunction:
        assert name not in _REGISTRY, f"two normalizers are named {name}"
        _REGISTRY[name] = Normalizer(name, version, function, (function.__doc__ or "").strip(), library)
        return function

    return register


def normalizer_names() -> tuple[str, ...]:
    """Names of all presets, sorted."""
    return tuple(sorted(_REGISTRY))


def find_normalizer(name: str) -> Normalizer:
    """Find a preset by its name.

    Raises:
        CorpusError: When there is none of that name; the message lists what there is.
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        raise CorpusError(*unknown_name("normalizer", name, _REGISTRY)) from None


def _missing_library(name: str, library: str) -> CorpusError:
    return CorpusError(f"The normalizer {name!r} needs {library}, which is not installed.", f"pip install {library}")


@cache
def whisper_normalizers() -> ModuleType:
    """Load the folder ``whisper/normalizers`` alone.

    ``import whisper.normalizers`` would run ``whisper/__init__.py``, which imports torch (3 s); the folder itself
    needs only `regex` and `more_itertools`. So it is loaded under a name of its own, from where the package lies.

    Raises:
        CorpusError: When openai-whisper is not installed.
    """
    package = importlib.util.find_spec("whisper")
    if package is None or not package.submodule_search_locations:
        raise _missing_library("whisper-english", "openai-whisper")
    folder = Path(package.submodule_search_locations[0], "normalizers")
    alias = "_modellab_whisper_normalizers"
    spec = importlib.util.spec_from_file_location(alias, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module  # its relative imports look the package up by name
    spec.loader.exec_module(module)
    return module


@cache
def _english() -> Any:
    return whisper_normalizers().EnglishTextNormalizer()


@normalizer("none", version="1")
def none(text: str) -> str:
    """The text as it is; scoring still splits it at white space."""
    return text


@normalizer("whisper-english", version="1", library="openai-whisper")
def whisper_english(text: str) -> str:
    """OpenAI's English normalizer (Radford et al. 2022, appendix C), which published English WERs use.

    Lower case, no punctuation, fillers and bracketed text dropped, contractions spelled out, British spellings
    made American, numbers written as digits and joined: "three one one" becomes "311". It is not idempotent
    ("zero five" gives "05", and that gives "5"): apply it to raw text, once.
    """
    return " ".join(_english()(text).split())


# What keyboards and engines write for an apostrophe: quotation marks, the modifier letter, accents, the full width.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u02bc\u00b4`\uff07", "'"))


class _CharacterTable(dict[int, str]):
    """`str.translate` table, filled as characters are met: what `basic` does with each of them."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character == "'" or code in _APOSTROPHES:
            kept = "'"
        elif category == "Cf":  # soft hyphens, joiners and direction marks: invisible, and written at random
            kept = ""
        elif category[0] in "PSZC":
            kept = " "
        else:  # letters, digits and combining marks, without which Hindi or Arabic fall apart
            kept = character
        self[code] = kept
        return kept


_CHARACTERS = _CharacterTable()


@normalizer("basic", version="1")
def basic(text: str) -> str:
    """For any language: NFKC, case folded, punctuation and symbols replaced by spaces.

    Apostrophes inside words stay ("don't"), as do accents, umlauts and combining marks; ß folds to ss. Numbers
    stay as written: "1,455" gives "1 455", reported as a variant of "1455" (`pipelines.variants`). Scripts written
    without spaces (Chinese, Japanese kana, Thai, Lao, Khmer, Burmese) are split into characters, so that their
    word error rate is over characters. Brackets are not special: what a reader of the transcript sees is scored.
    """
    folded = text.translate(_APOSTROPHES)
    while folded != (again := unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())):
        folded = again  # one pass is not always enough: folding can make what NFKC composes anew
    spaced = split_unspaced(folded.translate(_CHARACTERS))
    return " ".join(word for piece in spaced.split() if (word := piece.strip("'")))


_DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@normalizer("digits", version="1")
def digits(text: str) -> str:
    """For connected English digits: every digit is one word, so "311" and "three one one" agree.

    On top of `basic`, digits are written as words and never joined. "oh" and "o" become "zero": engines write 0 for
    both, and the string of digits is the same. Number words ("fourteen", "double") stay as they are.
    """
    spelled = "".join(
        f" {_DIGIT_WORDS[unicodedata.decimal(character)]} " if character.isdecimal() else character
        for character in basic(text)
    )
    words = (word for piece in spelled.split() if (word := piece.strip("'")))
    return " ".join("zero" if word in ("oh", "o") else word for word in words)


def _localised(text: str, symbols: dict[str, str], fillers: frozenset[str]) -> str:
    """`basic`, with symbols that are read aloud spelled out and hesitations dropped."""
    compatible = unicodedata.normalize("NFKC", text)  # full-width signs are signs too
    for symbol, word in symbols.items():
        compatible = compatible.replace(symbol, f" {word} ")
    return " ".join(word for word in basic(compatible).split() if word not in fillers)


@normalizer("de", version="1")
def german(text: str) -> str:
    """For German: `basic`, with %, €, $ and & spelled out and the hesitations äh, ähm, hm dropped."""
    symbols = {"%": "Prozent", "€": "Euro", "$": "Dollar", "&": "und"}
    return _localised(text, symbols, frozenset({"äh", "ähm", "öh", "hm", "hmm"}))


@normalizer("es", version="1")
def spanish(text: str) -> str:
    """For Spanish: `basic`, with %, €, $ and & spelled out and the hesitations eh, em, mm dropped."""
    symbols = {"%": "por ciento", "€": "euros", "$": "dólares", "&": "y"}
    return _localised(text, symbols, frozenset({"eh", "em", "mm", "mmm"}))
