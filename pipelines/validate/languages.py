"""Which letters a language is written with, so that a text in another alphabet is seen before it ruins a word error rate.

Scripts of languages are those of the Unicode CLDR (supplemental data, ``languageData``). Letters beyond a to z are CLDR's
main and auxiliary exemplar characters, for languages written in the Latin alphabet that are often met in test corpora;
for other languages only the script is checked.
"""

from __future__ import annotations

import contextlib
import unicodedata
from functools import cache

_LATIN = (
    "en de fr es it pt nl sv no nb nn da fi is pl cs sk sl hr bs hu ro tr et lv lt ca gl eu cy ga mt sq af sw id ms vi tl "
    "az uz so yo ha ig zu xh lb la eo"
)
"""Languages written in the Latin alphabet alone."""
_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "kk", "ky", "mn", "tg"), ("CYRILLIC",)),
    "sr": ("CYRILLIC", "LATIN"),
    "el": ("GREEK",),
    "he": ("HEBREW",),
    "yi": ("HEBREW",),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "ckb", "ug", "sd"), ("ARABIC",)),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), ("DEVANAGARI",)),
    "bn": ("BENGALI",),
    "as": ("BENGALI",),
    "pa": ("GURMUKHI", "ARABIC"),
    "gu": ("GUJARATI",),
    "or": ("ORIYA",),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "kn": ("KANNADA",),
    "ml": ("MALAYALAM",),
    "si": ("SINHALA",),
    "th": ("THAI",),
    "lo": ("LAO",),
    "my": ("MYANMAR",),
    "km": ("KHMER",),
    "ka": ("GEORGIAN",),
    "hy": ("ARMENIAN",),
    "am": ("ETHIOPIC",),
    "bo": ("TIBETAN",),
    # Written with Latin letters among their own, in names and abbreviations.
    "ja": ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "CJK", "IDEOGRAPHIC", "LATIN", "FULLWIDTH", "HALFWIDTH"),
    "zh": ("CJK", "IDEOGRAPHIC", "LATIN", "FULLWIDTH", "BOPOMOFO"),
    "yue": ("CJK", "IDEOGRAPHIC", "LATIN", "FULLWIDTH"),
    "ko": ("HANGUL", "CJK", "LATIN"),
    **dict.fromkeys(_LATIN.split(), ("LATIN",)),
}
_BEYOND_A_TO_Z = {
    "en": "áàăâåäãāæçéèĕêëēíìĭîïīñóòŏôöøōœúùŭûüūÿ",
    "de": "äöüßáàăâåãāæçéèĕêëēíìĭîïīñóòŏôøōœúùŭûūÿ",
    "fr": "àâæçéèêëîïôœùûüÿáåäãāēíìīñóòöøōúǔ",
    "es": "áéíñóúüªàăâåäãāæçèĕêëēìĭîïīºòŏôöøōœùŭûūÿ",
    "it": "àéèìóòùáâåäãæçêëíîïñôöøœßúûüÿªº",
    "pt": "áàâãçéêíóòôõúªăåäāæèĕëēìĭîïīñºŏöøōœùŭûüūÿ",
    "nl": "áäâàåãæçéëêèíïìîñóöôòøœúüûùÿĳ",
    "sv": "åäöàáâãāæçéèêëíîïīñóøœßúüÿ",
    "da": "æøåáàâäãéèêëíïóôöúüýñçœ",
    "nb": "æøåàéóòôáâäãçèêëíñöúüœ",
    "no": "æøåàéóòôáâäãçèêëíñöúüœ",
    "fi": "åäöšžáàâãæçéèêëíñóøœúüß",
    "pl": "ąćęłńóśźżàâåäæçéèêëîïôöœßùûüÿ",
    "cs": "áčďéěíňóřšťúůýžàâäöüëôĺľŕ",
    "tr": "çğ\u0131iöşüâîûàéñ",
}


def script_of(char: str) -> str:
    """Script of a letter: the first word of its name in Unicode."""
    return unicodedata.name(char, "UNNAMED").split(" ", 1)[0]


@cache
def _verdict(char: str, language: str) -> str:
    """``""`` for a character that belongs, ``script`` or ``letter`` for one that does not."""
    category = unicodedata.category(char)
    # What an encoding error leaves: the replacement character, controls, private use, unassigned code points.
    if char == "\ufffd" or (category in ("Cc", "Co", "Cn") and char not in "\t\n\r"):
        return "script"
    if category[0] != "L" or (scripts := _SCRIPTS.get(language)) is None:
        return ""
    if category == "Lm" or script_of(char) in ("MODIFIER", "FEMININE", "MASCULINE"):
        return ""
    if script_of(char) not in scripts:
        return "script"
    letters = _BEYOND_A_TO_Z.get(language)
    # The lower case of one letter may be two: the Turkish İ gives i and a dot.
    belongs = letters is None or all(part.isascii() or part in letters or part == "\u0307" for part in char.lower())
    return "" if belongs else "letter"


def foreign_characters(text: str, language: str) -> tuple[str, str]:
    """Find the characters of a text that its language is not written with.

    Args:
        text: As in the manifest; it is composed first (NFC).
        language: ISO 639-1 code; what follows a hyphen is passed over. One that is not known here finds only what is
            no text at all.

    Returns:
        Characters of other scripts or of broken encodings, and letters of its script that it does not have; each once,
        in their order.
    """
    if text.isascii() and text.isprintable():
        return _latin_in(text, language)
    if _is_misread(text):
        return "".join(dict.fromkeys(char for char in text if not char.isascii())), ""
    found: dict[str, dict[str, None]] = {"script": {}, "letter": {}}
    base = language.lower().partition("-")[0]
    for char in unicodedata.normalize("NFC", text):
        if verdict := _verdict(char, base):
            found[verdict][char] = None
    return "".join(found["script"]), "".join(found["letter"])


def _is_misread(text: str) -> bool:
    """Whether a text is UTF-8 that was read as Latin-1 or Windows-1252: no other text decodes so by chance."""
    for encoding in ("latin-1", "cp1252"):
        with contextlib.suppress(UnicodeError):
            text.encode(encoding).decode("utf-8")
            return True
    return False


def _latin_in(text: str, language: str) -> tuple[str, str]:
    """The same for plain ASCII, which is foreign only where Latin letters are."""
    scripts = _SCRIPTS.get(language.lower().partition("-")[0], ("LATIN",))
    if "LATIN" in scripts:
        return "", ""
    return "".join(dict.fromkeys(char for char in text if char.isalpha())), ""
