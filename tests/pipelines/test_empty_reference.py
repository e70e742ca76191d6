"""An empty text on either side: each case has its rule, and none is a silent zero."""

import jiwer
import pytest

from pipelines.align import align
from pipelines.metrics import METRICS, ScoringNothing, evaluate_metric, find_metric
from pipelines.scores import ErrorCounts, ScoreTable
from tests.pipelines.factories import make_score, make_table

ERROR_RATES = [
    "wer",
    "cer",
    "mer",
    "wil",
    "sentence_error_rate",
    "substitution_rate",
    "deletion_rate",
    "insertion_rate",
    "wer_variants_forgiven",
    "repetition_share",
    "length_ratio_outliers",
    "early_stop_share",
]
INVENTION = ["invented_words_per_minute", "invention_share"]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "characters"),
    [
        ("", "", ErrorCounts(0, 0, 0, 0), ErrorCounts(0, 0, 0, 0)),
        ("", "a bc", ErrorCounts(0, 0, 0, 2), ErrorCounts(0, 0, 0, 4)),
        ("a bc", "", ErrorCounts(0, 0, 2, 0), ErrorCounts(0, 0, 4, 0)),
        ("  ", "\t", ErrorCounts(0, 0, 0, 0), ErrorCounts(0, 0, 0, 0)),
    ],
)
def test_counts_of_empty_texts(reference: str, hypothesis: str, words: ErrorCounts, characters: ErrorCounts) -> None:
    aligned = align(reference, hypothesis)
    assert aligned.words == words
    assert aligned.characters == characters


@pytest.mark.parametrize(("reference", "hypothesis"), [("", ""), ("", "a bc"), ("a bc", "")])
def test_counts_of_empty_texts_are_jiwers(reference: str, hypothesis: str) -> None:
    theirs = jiwer.process_words(reference, hypothesis)
    assert align(reference, hypothesis).words == ErrorCounts(
        theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions
    )


@pytest.mark.parametrize("name", ERROR_RATES)
def test_error_rates_of_nothing_but_non_speech_raise(name: str) -> None:
    with pytest.raises(ScoringNothing, match=f"{name} cannot be measured: 0 of 2 utterances"):
        evaluate_metric(find_metric(name), make_table(("", "invented words"), ("", "")))


@pytest.mark.parametrize("name", INVENTION)
def test_invention_without_non_speech_raises(name: str) -> None:
    with pytest.raises(ScoringNothing, match=f"{name} cannot be measured: 0 of 1 utterances"):
        evaluate_metric(find_metric(name), make_table(("said", "said")))


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_of_an_empty_table_raises(name: str) -> None:
    with pytest.raises(ScoringNothing, match=name):
        evaluate_metric(find_metric(name), ScoreTable.build([]))


@pytest.mark.parametrize("name", ERROR_RATES)
def test_non_speech_changes_no_error_rate(name: str) -> None:
    pairs = [("one two three four five", "one two too"), ("a b c d e f", "a b c d e f")]
    without = evaluate_metric(find_metric(name), make_table(*pairs))
    assert evaluate_metric(find_metric(name), make_table(*pairs, ("", "ten words " * 5))) == without


def test_invented_words_are_counted_on_non_speech_only() -> None:
    table = make_table(("", "I am not sure"), ("", ""), ("said", "said and more"), audio_s=15.0)
    rate = evaluate_metric(find_metric("invented_words_per_minute"), table)
    assert rate.value == pytest.approx(8.0)
    assert rate.counts == {"words": 4.0, "minutes": 0.5}
    assert rate.n == 2
    assert evaluate_metric(find_metric("invention_share"), table).value == 0.5


def test_a_reference_that_normalises_to_nothing_is_non_speech() -> None:
    score = make_score("Hmm.", "", normalizer="whisper-english")
    assert not score.is_speech


def test_an_empty_hypothesis_loses_everything() -> None:
    table = make_table(("a b c", ""))
    assert {name: evaluate_metric(find_metric(name), table).value for name in ("wer", "cer", "mer", "wil")} == {
        "wer": 1.0,
        "cer": 1.0,
        "mer": 1.0,
        "wil": 1.0,
    }
