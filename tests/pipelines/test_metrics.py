from dataclasses import replace

import jiwer
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.errors import CorpusError
from pipelines.align import align
from pipelines.measure import Quantile, Sums, metric, ratio
from pipelines.metrics import METRICS, ScoringNothing, evaluate_metric, find_metric
from pipelines.scores import ScoreTable
from pipelines.stats.bootstrap import bootstrap_interval
from pipelines.variants import Variant, read_number, variant_notes
from tests.pipelines.factories import make_score, make_table

TEXT = st.lists(st.sampled_from(["a", "b", "c", "ab", "bc", "fire", "fox", "firefox"]), max_size=9).map(" ".join)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6)


def value(name: str, table: ScoreTable) -> float:
    found = evaluate_metric(find_metric(name), table).value
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wer", 3 / 6),
        ("cer", 4 / 9),
        ("mer", 3 / 7),
        ("wil", 1 - 16 / (6 * 6)),
        ("sentence_error_rate", 2 / 3),
        ("substitution_rate", 1 / 6),
        ("deletion_rate", 1 / 6),
        ("insertion_rate", 1 / 6),
    ],
)
def test_values(name: str, expected: float) -> None:
    # One substitution; a deletion and an insertion far apart (three characters replaced); no error.
    table = make_table(("a", "x"), ("b c d", "c d e"), ("f g", "f g"))
    assert table.word_errors.tolist() == [1, 2, 0]
    assert value(name, table) == pytest.approx(expected)


@given(PAIRS)
def test_corpus_values_are_jiwers_pooled(pairs: list[tuple[str, str]]) -> None:
    spoken = [(reference, hypothesis) for reference, hypothesis in pairs if reference]
    assume(spoken)
    table = make_table(*pairs)
    theirs = jiwer.process_words([reference for reference, _ in spoken], [hypothesis for _, hypothesis in spoken])
    assert value("wer", table) == pytest.approx(theirs.wer)
    assert value("mer", table) == pytest.approx(theirs.mer)
    assert value("wil", table) == pytest.approx(theirs.wil)


@given(PAIRS)
def test_parts_of_the_word_error_rate_add_up(pairs: list[tuple[str, str]]) -> None:
    assume(any(reference for reference, _ in pairs))
    table = make_table(*pairs)
    parts = sum(value(name, table) for name in ("substitution_rate", "deletion_rate", "insertion_rate"))
    assert parts == pytest.approx(value("wer", table))


@given(st.lists(TEXT.filter(bool), min_size=1, max_size=6))
def test_perfect_recognition_has_no_errors(texts: list[str]) -> None:
    table = make_table(*[(text, text) for text in texts])
    assert all(value(name, table) == 0.0 for name in ("wer", "cer", "mer", "wil", "sentence_error_rate"))


@given(PAIRS, st.data())
def test_slices_of_a_measurement_are_measurements_of_slices(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    table = make_table(*pairs)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs))), dtype=np.bool_)
    for made in METRICS.values():
        np.testing.assert_equal(made.measure(table).select(mask).point(), made.measure(table.select(mask)).point())


class Every(dict[str, float]):
    """A synthesis of which every measure is known."""

    def get(self, key: str, default: object = None) -> float:  # type: ignore[override]
        return 2.0


@pytest.mark.parametrize("name", [name for name, made in METRICS.items() if isinstance(made.measure(make_table()), Sums)])
def test_values_are_vectorised_and_free_of_scale_and_nan_without_sums(name: str) -> None:
    scores = make_table(("a b c d e f", "a x c"), ("", "words"), inference_s=0.5).scores
    table = ScoreTable.build([replace(score, measures=Every()) for score in scores])
    measured = find_metric(name).measure(table)
    assert isinstance(measured, Sums)
    total = measured.columns.sum(axis=0)
    values = measured.value(np.stack([total, 7 * total, 0 * total])[None])
    assert values.shape == (1, 3)
    assert values[0, 0] == pytest.approx(values[0, 1]) == pytest.approx(measured.point())
    assert np.isnan(values[0, 2])


def test_sums_go_into_the_bootstrap_as_they_are() -> None:
    scores = [make_score("a b c d", "a b c x" if i % 3 else "a b c d", id=f"u{i}", speaker=f"s{i % 8}") for i in range(64)]
    table = ScoreTable.build(scores)
    for name in ("wer", "wil"):
        measured = find_metric(name).measure(table)
        assert isinstance(measured, Sums)
        interval = bootstrap_interval(measured.columns[measured.rows], table.blocks[measured.rows], measured.value)
        assert interval.value == pytest.approx(measured.point())
        assert interval.low < interval.value < interval.high


def test_speed_counts_fresh_inference_only() -> None:
    scores = [make_score(id=str(i), audio_s=10.0, inference_s=seconds) for i, seconds in enumerate([1.0, 3.0, None])]
    table = ScoreTable.build(scores)
    assert value("rtf", table) == pytest.approx(4.0 / 20.0)
    assert value("latency_p50", table) == pytest.approx(2.0)
    assert value("latency_p95", table) == pytest.approx(2.9)
    assert isinstance(find_metric("latency_p95").measure(table), Quantile)
    with pytest.raises(ScoringNothing, match="rtf cannot be measured: 0 of 1 utterances"):
        evaluate_metric(find_metric("rtf"), table.select(np.array([False, False, True])))


def test_a_result_says_what_it_was_computed_from() -> None:
    result = evaluate_metric(find_metric("wer"), make_table(("a b", "a x"), ("", "y")))
    assert result.unit == "ratio"
    assert not result.higher_is_better
    assert result.n == 1
    assert result.counts["errors"] == 1.0
    assert result.counts["reference_words"] == 2.0


def test_every_metric_is_described() -> None:
    assert all(made.description and made.unit for made in METRICS.values())


def test_unknown_metric_says_what_is_meant() -> None:
    with pytest.raises(CorpusError, match="Did you mean 'wer'"):
        find_metric("wr")


def test_a_new_metric_is_one_decorated_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import measure

    monkeypatch.setattr(measure, "REGISTRY", {})

    @metric(unit="ratio", higher_is_better=True)
    def word_hits(table: ScoreTable):
        """Share of reference words that were recognised."""
        return ratio(hits=table.word_hits, reference_words=table.word_reference)

    assert measure.REGISTRY["word_hits"] is word_hits
    assert evaluate_metric(word_hits, make_table(("a b", "a"))).value == 0.5


# Variants: counted as errors, and reported.


@pytest.mark.parametrize(
    ("reference", "hypothesis", "kinds", "errors", "forgiven"),
    [
        ("fire fox", "firefox", ["compound"], 2, 2),
        ("firefox", "fire fox", ["compound"], 2, 2),
        ("the fire fox runs", "a firefox ran", ["compound"], 4, 2),
        ("about fourteen fifty five", "about 1455", ["number"], 3, 3),
        ("1455", "one thousand four hundred and fifty five", ["number"], 7, 7),
        ("three one one", "311", ["number"], 3, 3),
        ("zero seven", "07", ["number"], 2, 2),
        ("7", "07", [], 1, 0),
        ("three one one", "three one", [], 1, 0),
        ("one", "two", [], 1, 0),
        ("fire fox", "fox fire", [], 2, 0),
        ("a b", "a b", [], 0, 0),
        ("1 455", "1455", ["compound"], 2, 2),
        ("", "1455", [], 1, 0),
    ],
)
def test_variants(reference: str, hypothesis: str, kinds: list[str], errors: int, forgiven: int) -> None:
    aligned = align(reference, hypothesis)
    notes = variant_notes(reference.split(), hypothesis.split(), aligned.alignment)
    assert aligned.words.errors == errors
    assert notes.forgiven_errors == forgiven
    assert [variant.kind for variant in notes.variants] == kinds


def test_a_variant_names_both_spellings() -> None:
    aligned = align("a fire fox", "a firefox")
    notes = variant_notes(["a", "fire", "fox"], ["a", "firefox"], aligned.alignment)
    assert notes.variants == (Variant("compound", "fire fox", "firefox"),)


def test_numbers_are_read_in_english_only() -> None:
    alignment = align("one one", "11").alignment
    assert variant_notes(["one", "one"], ["11"], alignment, "de").variants == ()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fourteen fifty five", "1455"),
        ("1 455", "1455"),
        ("one", "1"),
        ("07", "07"),
        ("hundred", "100"),
        ("fox", None),
        ("and", None),
        ("", None),
    ],
)
def test_read_number(words: str, expected: str | None) -> None:
    assert read_number(words.split()) == expected


def test_variants_are_errors_in_wer_and_none_in_its_forgiving_twin() -> None:
    table = make_table(("fire fox", "firefox"), ("a b", "a x"))
    assert value("wer", table) == 3 / 4
    forgiving = evaluate_metric(find_metric("wer_variants_forgiven"), table)
    assert forgiving.value == 1 / 4
    assert forgiving.counts["compound_variants"] == 1.0
    assert forgiving.counts["number_variants"] == 0.0


@given(PAIRS)
def test_forgiving_variants_never_adds_errors_nor_takes_more_than_there_are(pairs: list[tuple[str, str]]) -> None:
    assume(any(reference for reference, _ in pairs))
    table = make_table(*pairs)
    assert 0.0 <= value("wer_variants_forgiven", table) <= value("wer", table)
