"""Every metric over everything and over every slice: a slice's numbers are those of evaluating it alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from pipelines.measure import REGISTRY, Draft, metric, quantile, ratio
from pipelines.metrics import TIMED, metrics_of
from pipelines.scores import ScoreTable, UtteranceScore
from pipelines.stats.bootstrap import bootstrap_interval
from pipelines.summarize import MAX_SLICE_VALUES, NOTHING_FRESH, slice_values, summarize
from pipelines.types import MetricResult
from tests.pipelines.factories import make_score

Summary = tuple[dict[str, MetricResult], dict[str, dict[str, MetricResult]]]
WORDS = 10


def make_scores(n: int = 120, seed: int = 5, fresh: bool = True) -> list[UtteranceScore]:
    """Utterances of a dozen speakers and three domains, some with errors, some non-speech."""
    rng = np.random.default_rng(seed)
    scores = []
    for number in range(n):
        reference = [f"w{i}" for i in range(WORDS)]
        silent = number % 12 == 11
        errors = 0 if silent else int(rng.binomial(WORDS, 0.15))
        heard = ["x"] * errors + reference[errors:]
        scores.append(
            make_score(
                "" if silent else " ".join(reference),
                ("thank you" if number % 24 == 11 else "") if silent else " ".join(heard),
                id=f"u{number}",
                speaker="none" if silent else f"s{number % 9}",
                # On the non-speech of the far room nothing is ever invented: nothing there varies.
                tags={
                    "domain": "nonspeech" if silent else ("read", "crowd")[number % 2],
                    "room": ("near", "far")[number % 24 // 12],
                    **({"rare": "x"} if number < 2 else {}),
                },
                audio_s=1 + number % 5,
                inference_s=float(rng.uniform(0.1, 0.5)) if fresh else None,
            )
        )
    return scores


def run(scores: list[UtteranceScore], **options: float) -> Summary:
    return summarize(ScoreTable.build(scores), metrics_of("asr"), **{"level": 0.95, "resamples": 300, "seed": 11, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scores() -> list[UtteranceScore]:
    return make_scores()


@pytest.fixture(scope="module")
def summary(scores: list[UtteranceScore]) -> Summary:
    return run(scores)


@pytest.fixture
def temporary() -> Iterator[None]:
    """Take metrics that a test registers out again."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def test_every_metric_is_there_and_the_values_are_ratios_of_sums(scores: list[UtteranceScore], summary: Summary) -> None:
    overall, _ = summary
    assert set(overall) == set(metrics_of("asr"))
    speech = [score for score in scores if score.is_speech]
    wer = overall["wer"]
    assert wer.value == pytest.approx(sum(s.words.errors for s in speech) / (WORDS * len(speech)))
    assert (wer.n, wer.unit, wer.higher_is_better, wer.level) == (len(speech), "ratio", False, 0.95)
    assert wer.blocks == 9, "speakers of the rows it is about, not of non-speech"
    assert wer.ci_low is not None and wer.ci_high is not None and wer.ci_low < wer.value < wer.ci_high
    assert wer.counts["errors"] == sum(s.words.errors for s in speech)


def test_the_interval_is_the_bootstraps(scores: list[UtteranceScore], summary: Summary) -> None:
    table = ScoreTable.build(scores)
    speech = table.is_speech
    columns = np.stack([table.word_errors[speech], table.word_reference[speech]], axis=1)
    found = bootstrap_interval(
        columns, table.blocks[speech], lambda sums: sums[..., 0] / sums[..., 1], level=0.95, resamples=300, seed=11
    )
    assert (summary[0]["wer"].ci_low, summary[0]["wer"].ci_high) == pytest.approx((found.low, found.high))


def test_level_resamples_and_seed_reach_the_interval(scores: list[UtteranceScore], summary: Summary) -> None:
    wide = run(scores, level=0.99)[0]["wer"]
    wer = summary[0]["wer"]
    assert wide.ci_low < wer.ci_low and wide.ci_high > wer.ci_high and wide.level == 0.99
    assert run(scores)[0] == summary[0], "equal inputs give equal numbers"
    assert run(scores, seed=12)[0]["wer"].ci_high != wer.ci_high
    assert run(scores, resamples=400)[0]["wer"].ci_high != wer.ci_high


def test_slices_are_every_value_of_every_key_that_tells_apart(summary: Summary) -> None:
    _, slices = summary
    wanted = {f"speaker=s{number}" for number in range(9)} | {"speaker=none"}
    wanted |= {"domain=read", "domain=crowd", "domain=nonspeech", "room=near", "room=far"}
    wanted.add("rare=x")
    assert set(slices) == wanted, "not language=en: all share it"
    assert list(slices) == sorted(slices)


@pytest.mark.parametrize("name", ["domain=read", "domain=nonspeech", "speaker=s3", "speaker=none", "room=near", "room=far"])
def test_a_slices_numbers_are_those_of_evaluating_it_alone(
    scores: list[UtteranceScore], summary: Summary, name: str
) -> None:
    key, value = name.split("=")
    alone, _ = run([score for score in scores if score.facets.get(key) == value])
    within = summary[1][name]
    assert set(within) == {metric for metric, result in alone.items() if result.value is not None}
    for metric_name, result in within.items():
        expected = alone[metric_name]
        assert (result.value, result.n, result.blocks) == (pytest.approx(expected.value), expected.n, expected.blocks)
        assert result.counts == pytest.approx(expected.counts)
        assert (result.ci_low, result.ci_high) == (pytest.approx(expected.ci_low), pytest.approx(expected.ci_high)), (
            metric_name
        )
        assert (result.note, result.unit, result.level) == (expected.note, expected.unit, expected.level)


def test_error_rates_and_inventions_share_no_slice(summary: Summary) -> None:
    _, slices = summary
    assert "wer" not in slices["domain=nonspeech"] and "invented_words_per_minute" in slices["domain=nonspeech"]
    assert "wer" in slices["domain=read"] and "invented_words_per_minute" not in slices["domain=read"]


def test_a_metric_with_nothing_to_measure_has_no_value_and_a_note() -> None:
    overall, slices = run([make_score(id=f"u{i}", speaker=f"s{i % 2}") for i in range(6)])
    invented = overall["invented_words_per_minute"]
    assert (invented.value, invented.ci_low, invented.ci_high, invented.n) == (None, None, None, 0)
    assert "cannot be measured: 0 of 6 utterances" in (invented.note or "")
    assert (invented.unit, invented.higher_is_better) == ("1/min", False)
    for name in set(TIMED) & set(overall):
        assert overall[name].value is None and overall[name].note == NOTHING_FRESH
        assert all(name not in metrics for metrics in slices.values())


def test_speed_is_of_the_fresh_rows_alone() -> None:
    stored = [make_score(id=f"old{i}", speaker="a", audio_s=100) for i in range(5)]
    fresh = [make_score(id=f"new{i}", speaker=f"s{i}", audio_s=2, inference_s=1.0 + i / 10) for i in range(4)]
    overall, slices = run([*stored, *fresh])
    assert overall["rtf"].value == pytest.approx(4.6 / 8) and overall["rtf"].n == 4
    assert overall["latency_p50"].value == pytest.approx(1.15)
    assert overall["wer"].n == 9
    assert "rtf" not in slices["speaker=a"] and "wer" in slices["speaker=a"]


def test_few_speakers_are_noted_and_one_has_no_interval() -> None:
    def of(speakers: int) -> MetricResult:
        return run(
            [
                make_score("a b c d", "a b c d" if i % 3 else "a b x", id=f"u{i}", speaker=f"s{i % speakers}")
                for i in range(60)
            ]
        )[0]["wer"]

    assert of(12).note is None
    assert "6 speakers: few" in (of(6).note or "") and of(6).ci_low is not None
    assert "3 speakers: too few to resample" in (of(3).note or "") and of(3).ci_low is not None
    lonely = of(1)
    assert lonely.value is not None and (lonely.ci_low, lonely.ci_high) == (None, None)
    assert "1 speaker" in (lonely.note or "")


def test_no_error_at_all_is_no_certainty() -> None:
    found = run([make_score(id=f"u{i}", speaker=f"s{i % 20}") for i in range(100)])[0]["wer"]
    assert found.value == 0 and found.ci_low == 0
    assert found.ci_high == pytest.approx(1 - 0.05 ** (1 / 100)) and "rule of three" in (found.note or "")


def test_utterances_without_a_tag_are_in_none_of_its_slices() -> None:
    tags = [{"accent": "a"}, {"accent": "b"}, {}, {}]
    scores = [make_score("x y", "x", id=f"u{i}", tags=tag) for i, tag in enumerate(tags)]
    _, slices = run(scores)
    assert slices["accent=a"]["wer"].n == slices["accent=b"]["wer"].n == 1
    keys = slice_values(ScoreTable.build(scores))
    assert keys["accent"][0] == ["a", "b"] and keys["accent"][1].tolist() == [0, 1, -1, -1]
    assert set(keys) == {"accent"}


@pytest.mark.parametrize(
    ("values", "kept"), [(1, False), (2, True), (MAX_SLICE_VALUES, True), (MAX_SLICE_VALUES + 1, False)]
)
def test_a_key_of_one_or_of_too_many_values_is_no_slice(values: int, kept: bool) -> None:
    scores = [make_score(id=f"u{i}", tags={"call": str(i % values)}) for i in range(2 * MAX_SLICE_VALUES)]
    assert ("call" in slice_values(ScoreTable.build(scores))) == kept


@pytest.mark.usefixtures("temporary")
def test_any_metric_can_be_summarised() -> None:
    @metric(unit="ratio", higher_is_better=True, limits=(0.0, 1.0))
    def toy_accuracy(table: ScoreTable) -> Draft:
        """Share of words that are right."""
        return ratio(hits=table.word_hits, words=table.word_reference)

    @metric(unit="s", higher_is_better=False)
    def toy_longest(table: ScoreTable) -> Draft:
        """A high quantile of the recordings' lengths."""
        return quantile(table.audio_s, 0.9)

    overall, slices = run(make_scores(60))
    wer, accuracy = overall["wer"], overall["toy_accuracy"]
    assert accuracy.value == pytest.approx(1 - (wer.value or math.nan)), "there are only substitutions"
    assert accuracy.higher_is_better and accuracy.ci_low == pytest.approx(1 - (wer.ci_high or math.nan), abs=0.02)
    assert overall["toy_longest"].value == 5 and "toy_longest" in slices["domain=read"]
