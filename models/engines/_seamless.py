"""What the SeamlessM4T engine knows without its library: languages, what a checkpoint must have, words from tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import EngineError

# SeamlessM4T's codes are those of its own table (docs/m4t/README.md of github.com/facebookresearch/seamless_communication),
# ISO 639-3. Where ISO 639-1 names a macrolanguage (ISO 639-3, scope M), they name the member that was trained on:
# ar:arb az:azj fa:pes ff:fuv lv:lvs mn:khk ms:zsm ne:npi no:nob om:gaz or:ory ps:pbt sw:swh uz:uzn zh:cmn.
_TABLE = """
af:afr am:amh ar:arb as:asm az:azj be:bel bg:bul bn:ben bs:bos ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng es:spa et:est
eu:eus fa:pes ff:fuv fi:fin fr:fra ga:gle gl:glg gu:guj he:heb hi:hin hr:hrv hu:hun hy:hye id:ind ig:ibo is:isl it:ita ja:jpn
jv:jav ka:kat kk:kaz km:khm kn:kan ko:kor ky:kir lb:ltz lg:lug lo:lao lt:lit lv:lvs mk:mkd ml:mal mn:khk mr:mar ms:zsm mt:mlt
my:mya nb:nob ne:npi nl:nld nn:nno no:nob ny:nya oc:oci om:gaz or:ory pa:pan pl:pol ps:pbt pt:por ro:ron ru:rus sd:snd sk:slk
sl:slv sn:sna so:som sr:srp sv:swe sw:swh ta:tam te:tel tg:tgk th:tha tl:tgl tr:tur uk:ukr ur:urd uz:uzn vi:vie xh:xho yo:yor
zh:cmn zu:zul
"""
CODES: Mapping[str, str] = dict(pair.split(":") for pair in _TABLE.split())
"""ISO 639-1 → SeamlessM4T's code."""
OTHER_NAMES: Mapping[str, str] = {"zsm": "zlm"}
"""Code → another name that a checkpoint may give it: transformers' conversion calls Malay by its colloquial form."""
HEARD_ONLY = ("ast", "kam", "kea", "lb", "oc", "xh")
"""Languages that the table above has as source speech alone: understood, never written."""
UNSPACED = frozenset({"cmn", "cmn_Hant", "jpn", "khm", "lao", "mya", "tha", "yue"})
"""Codes of languages that are written without spaces between words."""

WRITES, *SPEAKS = "text_decoder_lang_to_code_id", "t2u_lang_code_to_id", "vocoder_lang_code_to_id"
SPELLING = ("id_to_text", "char_to_id")
"""Entries of ``generation_config.json``: the languages of each part, and the characters that speech is made from."""
SPACE = "▁"
"""What begins a token that begins a word, in SentencePiece's vocabularies."""


class Table(dict[str, Any]):
    """A table that is not copied: each call copies its settings, and with them the spelling of 256,000 tokens (0.2 s)."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Table:
        return self


def check_generation(weights: Path, generation: Any, tokenizer: Any) -> None:
    """Hold a checkpoint to what the library would miss in the middle of a call, and to its own tokenizer.

    Args:
        weights: Folder of the checkpoint, for the message.
        generation: Its ``GenerationConfig``.
        tokenizer: Its tokenizer.

    Raises:
        EngineError: A table is missing, or a language has another token in the tokenizer.
    """
    for name in (WRITES, *SPEAKS, *SPELLING):
        if not getattr(generation, name, None):
            raise EngineError(f"generation_config.json in {weights} has no {name}.", "Use the one of the checkpoint.")
    for code, token in getattr(generation, WRITES).items():
        if (found := tokenizer.convert_tokens_to_ids(f"__{code}__")) != token:
            raise EngineError(
                f"In {weights} the language {code} is token {token} of the model, but {found} of the tokenizer.",
                "Use the tokenizer of the checkpoint.",
            )


def known_languages(codes: Collection[str]) -> dict[str, str]:
    """Name a checkpoint's languages as the lab does.

    Args:
        codes: Of the checkpoint.

    Returns:
        ISO 639-1 code → the checkpoint's code; those that ISO 639-1 does not have go by the checkpoint's own (``yue``).
    """
    named = {short: code if code in codes else OTHER_NAMES.get(code, code) for short, code in CODES.items()}
    known = {short: code for short, code in named.items() if code in codes}
    return known | {code: code for code in codes if code not in known.values()}


def words_of(pieces: Sequence[str], probabilities: Sequence[float]) -> list[tuple[str, float]]:
    """Join tokens to words.

    A word is what stands between two spaces. Its probability is the mean of its tokens' probabilities, as in Whisper.

    Args:
        pieces: Tokens as the vocabulary spells them.
        probabilities: One a token.

    Returns:
        (word, probability) in order.
    """
    words: list[tuple[str, list[float]]] = []
    for piece, probability in zip(pieces, probabilities, strict=True):
        if piece.startswith(SPACE) or not words:
            words.append(("", []))
        text, of_tokens = words[-1]
        words[-1] = (text + piece.removeprefix(SPACE), [*of_tokens, probability])
    return [(text, sum(of_tokens) / len(of_tokens)) for text, of_tokens in words if text]
