# ruff: noqa: RUF001 - characters that look alike are what is tested here
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import CorpusError
from pipelines.normalize import find_normalizer, normalizer_names


@pytest.mark.parametrize(
    ("preset", "text", "expected"),
    [
        # Trap: the normalizer must not hide how words were split; variants are reported instead.
        ("basic", "Fire fox", "fire fox"),
        ("whisper-english", "Fire fox", "fire fox"),
        ("basic", "Firefox.", "firefox"),
        # Trap: digits joined make one wrong digit spoil a string of seven.
        ("digits", "three one one", "three one one"),
        ("digits", "311", "three one one"),
        ("digits", "3113339", "three one one three three three nine"),
        ("digits", "3-1-1, 3.", "three one one three"),
        ("digits", "Three, ONE; one!", "three one one"),
        ("digits", "one oh 4 O", "one zero four zero"),
        ("digits", "３１١", "three one one"),
        ("digits", "0'7", "zero seven"),
        ("digits", "", ""),
        ("whisper-english", "three one one", "311"),
        ("whisper-english", "fourteen fifty-five", "1455"),
        ("whisper-english", "Mr. Colour can't, um, go [laughs]", "mister color can not go"),
        ("whisper-english", "hmm", ""),
        # Trap: umlauts and accents are letters.
        ("basic", "Über Köln, Äpfel", "über köln äpfel"),
        ("basic", "Straße STRASSE", "strasse strasse"),
        ("basic", "¿Qué pasó, señor?", "qué pasó señor"),
        ("basic", "“don’t” ‘quote’ rock'n'roll dogs'", "don't quote rock'n'roll dogs"),
        ("basic", "it´s", "it's"),
        ("basic", "well-known  e-mail\n\ttab", "well known e mail tab"),
        ("basic", "1,455 and 3.5", "1 455 and 3 5"),
        ("basic", "ＡＢＣ１", "abc1"),
        ("basic", "so\u00adft می\u200cخواهم", "soft میخواهم"),
        ("basic", "हिन्दी में", "हिन्दी में"),
        ("basic", "你好，世界", "你 好 世 界"),
        ("basic", "用Python写", "用 python 写"),
        ("basic", "ทั้ง", "ทั้ ง"),
        ("basic", "안녕하세요 여러분", "안녕하세요 여러분"),
        ("basic", " ... !", ""),
        ("de", "50 % der, ähm, Straßen & 3€", "50 prozent der strassen und 3 euro"),
        ("es", "El 5% eh de ％", "el 5 por ciento de por ciento"),
        ("none", "As  It, is ", "As  It, is "),
    ],
)
def test_presets(preset: str, text: str, expected: str) -> None:
    assert find_normalizer(preset)(text) == expected


@pytest.mark.parametrize("preset", ["basic", "digits", "de", "es", "none"])
@given(text=st.text(max_size=30))
def test_normalizing_twice_changes_nothing(preset: str, text: str) -> None:
    normalize = find_normalizer(preset)
    assert normalize(normalize(text)) == normalize(text)


def test_whisper_english_is_applied_once_because_it_is_not_idempotent() -> None:
    normalize = find_normalizer("whisper-english")
    assert normalize("zero five") == "05"
    assert normalize("05") == "5"


PIECES = ("one", "oh", "5", "05", "$", "2", "¢", "and", "a", "half", "point", "%", "'s", ".", "é")


@pytest.mark.parametrize("preset", sorted(set(normalizer_names()) - {"none"}))
@given(text=st.text(max_size=30) | st.lists(st.sampled_from(PIECES)).map(" ".join))
def test_words_are_joined_by_single_spaces(preset: str, text: str) -> None:
    normalized = find_normalizer(preset)(text)
    assert normalized == " ".join(normalized.split())


def test_unknown_normalizer_says_what_is_meant_and_what_there_is() -> None:
    with pytest.raises(CorpusError, match=r"Did you mean 'whisper-english'\? Available: basic, de, digits, es, none"):
        find_normalizer("whisper-englsh")


def test_version_names_the_library_only_where_one_is_used() -> None:
    assert find_normalizer("basic").version == "1"
    assert find_normalizer("whisper-english").version.startswith("1+openai-whisper-2")


def test_every_preset_is_described() -> None:
    assert all(find_normalizer(name).description for name in normalizer_names())


def test_whisper_english_does_not_import_torch() -> None:
    program = (
        "import sys; from pipelines.normalize import find_normalizer;"
        "print(find_normalizer('whisper-english')('Two!'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
