import dataclasses

import pytest

from pipelines.report.alignment import KEPT_WORDS, LONG_RUN_WORDS, AlignedWord, aligned_words, alignment_markup
from pipelines.scores import AlignmentChunk
from tests.report.factory import make_score
from tests.report.html_page import Page

MARK = {"equal": "w hit", "substitute": "w sub", "delete": "w del", "insert": "w ins"}


def words(reference: str, hypothesis: str) -> list[AlignedWord]:
    return list(aligned_words(make_score("a", reference, hypothesis)))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "operations"),
    [
        ("one two three", "one two three", ["equal", "equal", "equal"]),
        ("one two three", "one too three", ["equal", "substitute", "equal"]),
        ("one two three", "one three", ["equal", "delete", "equal"]),
        ("one three", "one two three", ["equal", "insert", "equal"]),
        ("one two", "", ["delete", "delete"]),
        ("", "thank you", ["insert", "insert"]),
        ("", "", []),
        ("a b", "c d", ["substitute", "substitute"]),
    ],
)
def test_every_word_has_the_mark_of_its_chunk(reference: str, hypothesis: str, operations: list[str]) -> None:
    columns = words(reference, hypothesis)
    assert [column.operation for column in columns] == operations
    assert " ".join(c.reference for c in columns if c.reference) == reference
    assert " ".join(c.hypothesis for c in columns if c.hypothesis) == hypothesis

    page = Page(f"<body>{alignment_markup(make_score('a', reference, hypothesis))}</body>")
    marks = [e.attributes["class"] for e in page.all("span") if e.attributes.get("class", "").startswith("w ")]
    assert marks == [MARK[operation] for operation in operations]


def test_each_error_has_a_cue_beside_its_colour() -> None:
    page = Page(f"<body>{alignment_markup(make_score('a', 'one two', 'one two four'))}</body>")
    assert [e.text for e in page.all("ins")] == ["+four"]
    assert "invented +four" in page.text
    page = Page(f"<body>{alignment_markup(make_score('a', 'one two three', 'one three'))}</body>")
    assert [e.text for e in page.all("del")] == ["two"]
    assert "two missed" in page.text
    page = Page(f"<body>{alignment_markup(make_score('a', 'one two', 'one too'))}</body>")
    assert "two heard as too" in page.text


def test_words_are_escaped() -> None:
    markup = alignment_markup(make_score("a", "<b>bold</b> ok", "{evil} <script>alert(1)</script>"))
    assert "<script" not in markup
    assert "<b>" not in markup
    assert "&lt;script&gt;" in markup
    assert "{evil}" in markup


def test_a_long_run_of_right_words_is_folded_and_loses_none() -> None:
    said = " ".join(f"w{i}" for i in range(LONG_RUN_WORDS + 1))
    page = Page(f"<body>{alignment_markup(make_score('a', said, said))}</body>")
    (fold,) = page.all("details")
    assert f"{LONG_RUN_WORDS + 1 - 2 * KEPT_WORDS} more words, all right" in fold.text
    assert [e.text for e in page.all("span", class_="w hit")] == said.split()


def test_a_run_at_the_limit_is_not_folded() -> None:
    said = " ".join(f"w{i}" for i in range(LONG_RUN_WORDS))
    assert "<details" not in alignment_markup(make_score("a", said, said))


def test_a_broken_alignment_is_an_error_and_no_shorter_text() -> None:
    broken = dataclasses.replace(make_score("a", "one two", "one two"), alignment=(AlignmentChunk("equal", 0, 2, 0, 1),))
    with pytest.raises(ValueError, match="shorter"):
        alignment_markup(broken)
