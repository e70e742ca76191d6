import pytest

from pipelines.scores import UtteranceScore
from pipelines.suspects import suspect_references
from pipelines.types import Suspect
from tests.pipelines.factories import make_score

RIGHT = "the birch canoe slid on the smooth planks"
WRONG = "glue the sheet to the dark blue background"


def suspects(
    reference: str, answers: dict[str, str], groups: dict[str, str] | None = None, min_score: float = 0.5
) -> list[Suspect]:
    scores: dict[str, list[UtteranceScore]] = {model: [make_score(reference, text)] for model, text in answers.items()}
    return suspect_references(scores, groups or {model: model for model in answers}, min_score=min_score)


def test_a_transcript_of_another_sentence_is_found() -> None:
    (found,) = suspects(WRONG, {"a": RIGHT.capitalize() + ".", "b": RIGHT})
    assert found.id == "u1"
    assert found.reference == WRONG
    assert found.likely in (RIGHT, RIGHT.capitalize() + ".")
    assert found.models == ("a", "b")
    assert 0.5 < found.score <= 1.0


@pytest.mark.parametrize(
    ("reference", "answers"),
    [
        (RIGHT, {"a": RIGHT, "b": RIGHT}),
        (RIGHT, {"a": WRONG, "b": RIGHT}),  # they do not agree
        (RIGHT, {"a": RIGHT + "s", "b": RIGHT + "s"}),  # they agree, and hardly differ from the reference
        ("fire fox", {"a": "firefox", "b": "firefox"}),  # a spelling accuses nobody
        (WRONG, {"a": RIGHT}),  # one voice
        ("", {"a": "you", "b": "you"}),  # what many models write on noise
        ("", {"a": "", "b": ""}),
    ],
)
def test_what_is_not_suspect(reference: str, answers: dict[str, str]) -> None:
    assert suspects(reference, answers) == []


def test_the_agreement_of_equal_weights_means_nothing() -> None:
    answers = {"whisper-a": RIGHT, "whisper-b": RIGHT}
    assert suspects(WRONG, answers, {"whisper-a": "w", "whisper-b": "w"}) == []
    (found,) = suspects(WRONG, answers | {"other": RIGHT}, {"whisper-a": "w", "whisper-b": "w", "other": "o"})
    assert found.models == ("other", "whisper-a")


def test_an_engine_that_hears_the_reference_lowers_the_score() -> None:
    (two,) = suspects(WRONG, {"a": RIGHT, "b": RIGHT})
    (three,) = suspects(WRONG, {"a": RIGHT, "b": RIGHT, "c": WRONG}, min_score=0.0)
    assert three.models == ("a", "b")
    assert three.score < two.score


def test_speech_in_a_recording_declared_silent_is_found() -> None:
    (found,) = suspects("", {"a": RIGHT, "b": RIGHT})
    assert found.score == 1.0


def test_silence_in_a_recording_declared_speech_is_found() -> None:
    (found,) = suspects(RIGHT, {"a": "", "b": ""})
    assert found.likely == ""


def test_most_suspect_first() -> None:
    scores = {
        model: [
            make_score(WRONG, RIGHT, id="wrong"),
            make_score(RIGHT, RIGHT, id="right"),
            make_score("", RIGHT, id="quiet"),
        ]
        for model in ("a", "b")
    }
    found = suspect_references(scores, {"a": "a", "b": "b"})
    assert [suspect.id for suspect in found] == ["quiet", "wrong"]
    assert suspect_references(scores, {"a": "a", "b": "b"}, min_score=0.99)[0].id == "quiet"
