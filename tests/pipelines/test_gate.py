"""The gate on synthetic evidence: every kind of rule, every verdict, and nothing that cannot be shown ever passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.decision import RuleResult, Verdict
from pipelines.duel import Duel, Timed
from pipelines.gate import Evidence, apply_rule, decide, overall, slice_mask, slice_names
from pipelines.measure import REGISTRY, Draft, metric, ratio
from pipelines.policy import Policy
from pipelines.scores import ScoreTable, UtteranceScore
from pipelines.stats.paired import PairedInterval
from tests.pipelines.factories import make_score

WORDS = 20
Errors = Sequence[int]


def make_scores(
    errors: Errors, speakers: int | None = None, tags: Sequence[dict[str, str]] | None = None
) -> list[UtteranceScore]:
    """One utterance of 20 words for each number of substitutions, and a speaker each unless told how many there are."""
    reference = [f"w{i}" for i in range(WORDS)]
    return [
        make_score(
            " ".join(reference),
            " ".join(["x"] * wrong + reference[wrong:]),
            id=f"u{i}",
            speaker=f"s{i % (speakers or len(errors))}",
            tags=tags[i] if tags else {"domain": ("read", "crowd")[i % 2]},
        )
        for i, wrong in enumerate(errors)
    ]


def draw(rate: float, n: int = 60, seed: int = 1) -> list[int]:
    """Errors of n utterances, unlike one another, that are exactly this rate of all words."""
    rng = np.random.default_rng(seed)
    errors = rng.binomial(WORDS, rate, n)
    while (missing := round(rate * WORDS * n) - errors.sum()) != 0:
        place = rng.integers(n)
        errors[place] = np.clip(errors[place] + np.sign(missing), 0, WORDS)
    return [int(k) for k in errors]


def make_evidence(candidate: Errors, baseline: Errors | None = None, duel: Duel | None = None, **options: Any) -> Evidence:
    ours = ScoreTable.build(make_scores(candidate, **options))
    theirs = ScoreTable.build(make_scores(candidate if baseline is None else baseline, **options))
    return Evidence(ours, ours, theirs, (), duel)


def make_policy(*rules: dict[str, Any], **top: Any) -> Policy:
    named = [{"name": f"rule {number}", "metric": "wer", **rule} for number, rule in enumerate(rules)]
    return Policy.model_validate({"resamples": 400, "timed_recordings": 80, **top, "rules": named})


def judge(evidence: Evidence, top: dict[str, Any] | None = None, **rule: Any) -> list[RuleResult]:
    policy = make_policy(rule, **(top or {}))
    return apply_rule(policy.rules[0], policy, evidence)


def verdict_of(evidence: Evidence, **rule: Any) -> Verdict:
    (result,) = judge(evidence, **rule)
    assert result.reason.endswith(".") and "nan" not in result.reason, "a reason is a sentence"
    return result.verdict


def make_duel(ratios: Sequence[float], **changes: Any) -> Duel:
    """One recording a ratio, timed in two rounds; the baseline takes a tenth of the audio."""
    timings = tuple(
        Timed(
            audio_sha256=f"{i:064x}",
            audio_s=1.0 + i % 5,
            baseline_s=0.1 * (1 + i % 5),
            candidate_s=0.1 * (1 + i % 5) * ratio,
        )
        for _ in range(2)
        for i, ratio in enumerate(ratios)
    )
    fields: dict[str, Any] = {
        "candidate": "c",
        "baseline": "b",
        "hardware": "h",
        "threads": 2,
        "timings": timings,
        "load_s": (2.0, 4.0),
        "peak_mib": (300.0, 200.0),
        "measured_at": "2025-01-01T00:00:00+00:00",
    }
    return Duel.model_validate({**fields, **changes})


@pytest.fixture
def word_accuracy() -> Iterator[str]:
    """A metric where higher is better, registered for one test."""

    @metric(unit="ratio", higher_is_better=True, limits=(0.0, 1.0))
    def word_accuracy(table: ScoreTable) -> Draft:
        """Share of reference words that are right."""
        return ratio(hits=table.word_hits, reference_words=table.word_reference)

    yield "word_accuracy"
    del REGISTRY["word_accuracy"]


# Absolute rules


@pytest.mark.parametrize(
    ("rate", "rule", "wanted"),
    [
        (0.10, {"max": 0.25}, "pass"),
        (0.40, {"max": 0.25}, "fail"),
        (0.25, {"max": 0.25}, "inconclusive"),
        (0.24, {"max": 0.25}, "inconclusive"),
        (0.24, {"max": 0.25, "judge": "value"}, "pass"),
        (0.27, {"max": 0.25, "judge": "value"}, "fail"),
        (0.40, {"min": 0.25}, "pass"),
        (0.10, {"min": 0.25}, "fail"),
        (0.25, {"min": 0.25}, "inconclusive"),
        (0.27, {"min": 0.25, "judge": "value"}, "pass"),
        (0.24, {"min": 0.25, "judge": "value"}, "fail"),
        (0.00, {"max": 0.25}, "pass"),
        (0.00, {"max": 0.01}, "inconclusive"),  # no error in 60 utterances does not rule out one in a hundred
    ],
)
def test_an_absolute_rule_holds_the_whole_interval_or_the_value_to_its_limit(
    rate: float, rule: dict[str, Any], wanted: Verdict
) -> None:
    (result,) = judge(make_evidence(draw(rate)), kind="absolute", **rule)
    assert result.verdict == wanted, result.reason
    assert result.candidate == pytest.approx(rate) and result.baseline is None and result.n == 60
    assert result.ci_low is not None and result.ci_low <= result.candidate <= result.ci_high
    assert f"{100 * result.candidate:.1f}%" in result.reason


def test_a_value_at_the_limit_is_within_it() -> None:
    evidence = make_evidence([5] * 60)
    assert verdict_of(evidence, kind="absolute", max=0.25, judge="value") == "pass"
    assert verdict_of(evidence, kind="absolute", min=0.25, judge="value") == "pass"
    assert verdict_of(evidence, kind="absolute", max=0.2499, judge="value") == "fail"


@pytest.mark.parametrize(
    ("rate", "rule", "wanted"),
    [
        (0.05, {"min": 0.8}, "pass"),
        (0.40, {"min": 0.8}, "fail"),
        (0.20, {"min": 0.8}, "inconclusive"),
        (0.05, {"min": 0.8, "judge": "value"}, "pass"),
        (0.40, {"min": 0.8, "judge": "value"}, "fail"),
    ],
)
def test_a_lower_limit_is_for_metrics_where_higher_is_better(
    word_accuracy: str, rate: float, rule: dict[str, Any], wanted: Verdict
) -> None:
    assert verdict_of(make_evidence(draw(rate)), kind="absolute", metric=word_accuracy, **rule) == wanted


def test_an_absolute_rule_is_about_everything_the_candidate_was_evaluated_on() -> None:
    """Not about the part that a weaker baseline shares with it."""
    alone = ScoreTable.build(make_scores(draw(0.4)))
    shared = ScoreTable.build(make_scores(draw(0.05)))
    assert verdict_of(Evidence(alone, shared, shared, (), None), kind="absolute", max=0.25) == "fail"


def test_an_absolute_rule_may_be_about_one_slice_or_each_value_of_a_key() -> None:
    tags = [{"domain": ("read", "crowd")[i % 2]} for i in range(80)]
    errors = [1 + i % 2 if i % 2 else 10 + i % 3 for i in range(80)]
    evidence = make_evidence(errors, tags=tags)
    assert verdict_of(evidence, kind="absolute", max=0.25, slice="domain=crowd") == "pass"
    assert verdict_of(evidence, kind="absolute", max=0.25, slice="domain=read") == "fail"
    both = judge(evidence, kind="absolute", max=0.25, slice="domain=*")
    assert [(result.slice, result.verdict, result.n) for result in both] == [
        ("domain=crowd", "pass", 40),
        ("domain=read", "fail", 40),
    ]


# What cannot be shown

LIMITS: dict[str, dict[str, Any]] = {
    "absolute": {"max": 0.9},
    "absolute by value": {"max": 0.9, "judge": "value"},
    "non_inferiority": {"margin": 0.5},
    "superiority": {},
}


def rule_of(name: str) -> dict[str, Any]:
    return {"kind": name.partition(" ")[0], **LIMITS[name]}


def better() -> Evidence:
    """Evidence on which all of `LIMITS` pass."""
    return make_evidence(draw(0.05), draw(0.3, seed=2))


@pytest.mark.parametrize("name", LIMITS)
def test_the_same_rule_passes_where_there_is_enough(name: str) -> None:
    assert verdict_of(better(), **rule_of(name)) == "pass"


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize(
    ("lack", "told"),
    [
        ({"slice": "domain=talks"}, "o utterance of domain=talks|0 of 0 utterances"),
        ({"slice": "accent=fr"}, "o utterance of accent=fr|0 of 0 utterances"),
        ({"slice": "accent=*"}, "o utterance of accent=|0 of 0 utterances"),
        ({"min_n": 61}, "60 utterances, and the rule asks for 61"),
        ({"slice": "domain=read", "min_n": 31}, "30 utterances, and the rule asks for 31"),
        ({"min_blocks": 61}, "60 speakers, and the rule asks for 61"),
        ({"metric": "invention_share"}, "nvention_share"),
    ],
    ids=[
        "missing value",
        "missing key",
        "missing key with a star",
        "low n",
        "low n in a slice",
        "few speakers",
        "no such rows",
    ],
)
def test_too_little_to_judge_is_inconclusive_and_says_what_is_lacking(name: str, lack: dict[str, Any], told: str) -> None:
    (result,) = judge(better(), **{**rule_of(name), **lack})
    assert result.verdict == "inconclusive"
    assert any(part in result.reason for part in told.split("|")), result.reason
    assert result.slice == lack.get("slice", "all")


@pytest.mark.parametrize("name", LIMITS)
def test_just_enough_is_enough(name: str) -> None:
    assert verdict_of(better(), **rule_of(name), min_n=60, min_blocks=60) == "pass"


@pytest.mark.parametrize("name", ["absolute", "non_inferiority", "superiority"])
def test_one_speaker_has_no_interval_and_so_no_verdict(name: str) -> None:
    evidence = make_evidence(draw(0.05), draw(0.3, seed=2), speakers=1)
    (result,) = judge(evidence, **rule_of(name))
    assert result.verdict == "inconclusive" and "1 speaker" in result.reason
    assert (result.ci_low, result.ci_high) == (None, None)


@pytest.mark.parametrize(
    ("low", "high"),
    [(math.nan, math.nan), (-1.0, math.nan), (math.nan, -1.0), (-math.inf, -1.0)],
    ids=["none", "no end", "no start", "infinite"],
)
@pytest.mark.parametrize("kind", ["non_inferiority", "superiority"])
def test_an_interval_without_an_end_is_never_a_pass(
    monkeypatch: pytest.MonkeyPatch, kind: str, low: float, high: float
) -> None:
    def found(*arguments: Any, margin: float, level: float, **options: Any) -> PairedInterval:
        return PairedInterval(-0.5, low, high, level, 60, 60, margin, math.nan, math.nan)

    monkeypatch.setattr("pipelines.gate.difference.paired_difference", found)
    assert verdict_of(better(), **rule_of(kind)) == "inconclusive"


# Non-inferiority


@pytest.mark.parametrize(
    ("candidate", "baseline", "margin", "wanted"),
    [
        (0.10, 0.10, 0.05, "pass"),
        (0.05, 0.30, 0.02, "pass"),  # better is no worse
        (0.30, 0.10, 0.05, "fail"),
        (0.12, 0.10, 0.02, "inconclusive"),
        (0.15, 0.10, 0.05, "inconclusive"),  # a harm of about the margin
        (0.13, 0.10, 0.005, "inconclusive"),
    ],
)
def test_no_worse_is_shown_refuted_or_open(candidate: float, baseline: float, margin: float, wanted: Verdict) -> None:
    ours, theirs = draw(candidate, seed=1), draw(baseline, seed=8)
    (result,) = judge(make_evidence(ours, theirs), kind="non_inferiority", margin=margin)
    assert result.verdict == wanted, result.reason
    assert result.delta == pytest.approx(candidate - baseline)
    assert (result.candidate, result.baseline) == pytest.approx((candidate, baseline))
    assert result.ci_low < result.delta < result.ci_high and result.margin == margin
    if wanted == "pass":
        assert result.ci_high < margin
    if wanted == "fail":
        assert result.ci_low > margin


def test_the_pairs_are_what_is_compared() -> None:
    """Hard recordings are hard for both: unpaired, the spread between recordings would hide so small a difference."""
    theirs = [1, 15] * 30
    ours = [k + (i % 10 == 0) for i, k in enumerate(theirs)]
    (result,) = judge(make_evidence(ours, theirs), kind="non_inferiority", margin=0.02)
    assert result.verdict == "pass" and result.ci_high - result.ci_low < 0.02


@pytest.mark.parametrize(
    ("n", "margin", "wanted"), [(60, 0.1, "pass"), (60, 0.02, "inconclusive"), (25, 0.1, "inconclusive")]
)
def test_equal_answers_are_no_proof_beyond_their_number(n: int, margin: float, wanted: Verdict) -> None:
    errors = draw(0.1, n)
    (result,) = judge(make_evidence(errors, errors), kind="non_inferiority", margin=margin)
    assert result.verdict == wanted and result.delta == 0 and "rule of three" in result.reason


@pytest.mark.parametrize(
    ("candidate", "baseline", "wanted"),
    [(0.05, 0.3, "pass"), (0.1, 0.1, "pass"), (0.4, 0.1, "fail"), (0.15, 0.1, "inconclusive")],
)
def test_no_worse_turns_with_the_metrics_direction(
    word_accuracy: str, candidate: float, baseline: float, wanted: Verdict
) -> None:
    evidence = make_evidence(draw(candidate, seed=1), draw(baseline, seed=8))
    (result,) = judge(evidence, kind="non_inferiority", metric=word_accuracy, margin=0.05)
    (errors,) = judge(evidence, kind="non_inferiority", margin=0.05)
    assert result.verdict == wanted == errors.verdict
    # The same differences seen from the other side: people read candidate minus baseline.
    assert result.delta == pytest.approx(-errors.delta)
    assert (result.ci_low, result.ci_high) == (pytest.approx(-errors.ci_high), pytest.approx(-errors.ci_low))


def test_a_rules_own_level_widens_its_interval() -> None:
    evidence = make_evidence(draw(0.12, seed=1), draw(0.1, seed=8))
    (usual,) = judge(evidence, kind="non_inferiority", margin=0.05)
    (strict,) = judge(evidence, kind="non_inferiority", margin=0.05, level=0.999)
    (policys,) = judge(evidence, {"level": 0.999}, kind="non_inferiority", margin=0.05)
    assert strict.ci_high > usual.ci_high and strict.ci_high == policys.ci_high
    assert (usual.verdict, strict.verdict) == ("pass", "inconclusive")


def test_a_claim_of_harm_is_made_at_the_rules_level() -> None:
    evidence = make_evidence(draw(0.16, seed=1), draw(0.1, seed=8))
    assert verdict_of(evidence, kind="non_inferiority", margin=0.02, level=0.8) == "fail"
    assert verdict_of(evidence, kind="non_inferiority", margin=0.02, level=0.9999) == "inconclusive"


# Superiority


@pytest.mark.parametrize(
    ("candidate", "baseline", "wanted"),
    [(0.05, 0.3, "pass"), (0.3, 0.05, "fail"), (0.1, 0.1, "inconclusive"), (0.09, 0.1, "inconclusive")],
)
def test_better_is_shown_refuted_or_open(word_accuracy: str, candidate: float, baseline: float, wanted: Verdict) -> None:
    evidence = make_evidence(draw(candidate, seed=1), draw(baseline, seed=8))
    assert verdict_of(evidence, kind="superiority") == wanted
    assert verdict_of(evidence, kind="superiority", metric=word_accuracy) == wanted


def test_equal_answers_are_not_better() -> None:
    assert verdict_of(make_evidence(draw(0.1)), kind="superiority") == "inconclusive"


# Ratios


@pytest.mark.parametrize("name", ["rtf", "latency_p50", "latency_p95"])
@pytest.mark.parametrize(
    ("ratios", "limit", "wanted"),
    [
        (np.linspace(0.5, 0.7, 80), 1.2, "pass"),
        (np.linspace(1.9, 2.2, 80), 1.2, "fail"),
    ],
)
def test_a_cost_is_held_to_its_ratio(name: str, ratios: Sequence[float], limit: float, wanted: Verdict) -> None:
    evidence = make_evidence([1] * 30, duel=make_duel(list(ratios)))
    (result,) = judge(evidence, kind="ratio", metric=name, max=limit)
    assert result.verdict == wanted, result.reason
    assert result.n == 80 and result.margin == limit
    assert result.delta == pytest.approx(result.candidate / result.baseline)
    assert result.ci_low < result.delta < result.ci_high


@pytest.mark.parametrize(
    ("name", "ratios"),
    [
        ("rtf", np.linspace(0.7, 1.7, 80)),
        ("latency_p50", np.linspace(0.7, 1.7, 80)),
        ("latency_p95", [3.0 if i in (4, 9, 14, 19) else 1.0 for i in range(80)]),
    ],
)
def test_a_cost_that_may_be_on_either_side_of_its_limit_decides_nothing(name: str, ratios: Sequence[float]) -> None:
    (result,) = judge(make_evidence([1] * 30, duel=make_duel(list(ratios))), kind="ratio", metric=name, max=1.2)
    assert result.verdict == "inconclusive" and "neither kept nor broken" in result.reason
    assert result.ci_low < 1.2 < result.ci_high


@pytest.mark.parametrize(
    ("name", "limit", "wanted"),
    [
        ("peak_memory", 1.6, "pass"),
        ("peak_memory", 1.5, "pass"),
        ("peak_memory", 1.4, "fail"),
        ("load_time", 0.5, "pass"),
        ("load_time", 0.4, "fail"),
    ],
)
def test_what_is_measured_once_is_held_by_its_value(name: str, limit: float, wanted: Verdict) -> None:
    evidence = make_evidence([1] * 30, duel=make_duel([1.0] * 16))
    (result,) = judge(evidence, kind="ratio", metric=name, max=limit)
    assert result.verdict == wanted and "measured once" in result.reason
    assert (result.ci_low, result.ci_high, result.n) == (None, None, 1)


@pytest.mark.parametrize("name", ["rtf", "latency_p95", "peak_memory", "load_time"])
def test_costs_that_were_not_timed_side_by_side_decide_nothing(name: str) -> None:
    (result,) = judge(make_evidence([1] * 30), kind="ratio", metric=name, max=100, min_n=1)
    assert result.verdict == "inconclusive" and "could not be timed side by side" in result.reason


@pytest.mark.parametrize(("n", "min_n", "wanted"), [(7, 8, "inconclusive"), (8, 8, "pass"), (8, 9, "inconclusive")])
def test_too_few_timed_recordings_decide_nothing(n: int, min_n: int, wanted: Verdict) -> None:
    evidence = make_evidence([1] * 30, duel=make_duel(list(np.linspace(0.5, 0.6, n))))
    assert verdict_of(evidence, kind="ratio", metric="rtf", max=1.2, min_n=min_n) == wanted


def test_a_ratio_rule_asks_for_eight_recordings_unless_told() -> None:
    evidence = make_evidence([1] * 30, duel=make_duel(list(np.linspace(0.5, 0.6, 7))))
    assert verdict_of(evidence, kind="ratio", metric="rtf", max=1.2) == "inconclusive"
    assert verdict_of(evidence, kind="ratio", metric="peak_memory", max=2) == "pass", "memory is measured once"


def test_a_tail_of_too_few_recordings_decides_nothing() -> None:
    """As when the policy asks for more than the data has: an interval that cannot be had is never a pass."""
    evidence = make_evidence([1] * 30, duel=make_duel(list(np.linspace(0.5, 0.6, 16))))
    (result,) = judge(evidence, kind="ratio", metric="latency_p95", max=100)
    assert result.verdict == "inconclusive" and "16 timed recordings are too few for latency_p95" in result.reason


@pytest.mark.parametrize("name", ["peak_memory", "load_time"])
def test_a_baseline_that_costs_nothing_decides_nothing(name: str) -> None:
    evidence = make_evidence([1] * 30, duel=make_duel([1.0] * 16, load_s=(1.0, 0.0), peak_mib=(1.0, 0.0)))
    (result,) = judge(evidence, kind="ratio", metric=name, max=100)
    assert result.verdict == "inconclusive" and f"baseline's {name} is 0" in result.reason and result.delta is None


# Gaps


@pytest.mark.parametrize(("near", "far", "wanted"), [(0.1, 0.1, "pass"), (0.1, 0.5, "fail"), (0.1, 0.22, "inconclusive")])
def test_a_gap_between_groups_is_held_to_its_limit(near: float, far: float, wanted: Verdict) -> None:
    tags = [{"accent": ("fr", "en")[i < 60]} for i in range(120)]
    evidence = make_evidence([*draw(near, seed=1), *draw(far, seed=8)], tags=tags)
    (result,) = judge(evidence, kind="gap", key="accent", max=0.12)
    assert result.verdict == wanted, result.reason
    assert result.slice == "accent=*" and result.n == 120
    assert verdict_of(evidence, kind="gap", key="gender", max=0.12) == "inconclusive"
    assert verdict_of(evidence, kind="gap", key="accent", max=0.12, min_n=61) == "inconclusive"


def test_no_gap_is_ruled_out_while_a_group_could_not_be_compared() -> None:
    """Plenty of utterances, but by one speaker: the group that nothing is known of may be the worst served."""
    tags = [{"accent": ("fr", "en", "ga")[i // 60]} for i in range(180)]
    scores = make_scores([*draw(0.1, seed=1), *draw(0.1, seed=8), *draw(0.1, seed=9)], tags=tags)
    told = [replace(score, speaker="alone") if score.tags["accent"] == "ga" else score for score in scores]
    table, whole = ScoreTable.build(told), ScoreTable.build(scores)
    assert verdict_of(Evidence(whole, whole, whole, (), None), kind="gap", key="accent", max=0.2) == "pass"
    (result,) = judge(Evidence(table, table, table, (), None), kind="gap", key="accent", max=0.2)
    assert result.verdict == "inconclusive" and "ga (1)" in result.reason
    assert (
        verdict_of(Evidence(whole, whole, whole, (), None), kind="gap", key="accent", max=0.2, min_blocks=61)
        == "inconclusive"
    )


# Many slices

SLICES = 20
PER_SLICE = 30


def many_slices(harms: dict[int, float], seed: int) -> Evidence:
    """Twenty slices of thirty utterances; the candidate has a higher rate in some."""
    rng = np.random.default_rng(seed)
    tags = [{"accent": f"a{number:02}"} for number in range(SLICES) for _ in range(PER_SLICE)]
    theirs = rng.binomial(WORDS, 0.15, SLICES * PER_SLICE)
    rates = np.repeat([0.15 + harms.get(number, 0.0) for number in range(SLICES)], PER_SLICE)
    ours = rng.binomial(WORDS, rates)
    return make_evidence(ours.tolist(), theirs.tolist(), tags=tags)


def test_one_badly_harmed_slice_of_twenty_fails_and_is_the_only_one() -> None:
    results = judge(many_slices({7: 0.4}, seed=1), kind="non_inferiority", margin=0.05, slice="accent=*")
    assert [result.slice for result in results] == [f"accent=a{number:02}" for number in range(SLICES)]
    assert [result.slice for result in results if result.verdict == "fail"] == ["accent=a07"]
    assert overall(results) == "fail"


def test_twenty_harmless_slices_do_not_fail_though_one_alone_would() -> None:
    """One claim in twenty is false by chance; Holm keeps the chance of any false one at the level."""
    evidence = many_slices({}, seed=2)
    rule = {"kind": "superiority", "level": 0.9}
    together = judge(evidence, **rule, slice="accent=*")
    alone = {result.slice: verdict_of(evidence, **rule, slice=result.slice) for result in together}
    assert "fail" in alone.values(), "the seed was chosen so that the test can fail"
    assert "fail" not in {result.verdict for result in together}


def test_passing_needs_no_correction_but_every_slice() -> None:
    """An intersection-union test: each slice is judged at the full level, and all must pass."""
    evidence = many_slices({}, seed=1)
    together = judge(evidence, kind="non_inferiority", margin=0.1, slice="accent=*")
    for result in together:
        assert result.verdict == verdict_of(evidence, kind="non_inferiority", margin=0.1, slice=result.slice)
    assert {result.verdict for result in together} == {"pass"}
    harmed = judge(many_slices({3: 0.07}, seed=1), kind="non_inferiority", margin=0.1, slice="accent=*")
    assert [result.slice for result in harmed if result.verdict != "pass"] == ["accent=a03"]
    assert overall(harmed) == "inconclusive"


def test_a_slice_that_cannot_be_judged_still_counts_as_asked_about() -> None:
    """Holm corrects for every slice of the rule, so that leaving data out makes no claim of harm easier."""
    tags = [{"accent": "big"}] * 60 + [{"accent": f"small{number}"} for number in range(40)]
    ours, theirs = draw(0.16, 100, seed=1), draw(0.1, 100, seed=8)
    results = judge(make_evidence(ours, theirs, tags=tags), kind="non_inferiority", margin=0.02, slice="accent=*", level=0.8)
    assert len(results) == 41 and {result.verdict for result in results} == {"inconclusive"}
    (alone,) = judge(
        make_evidence(ours, theirs, tags=tags), kind="non_inferiority", margin=0.02, slice="accent=big", level=0.8
    )
    assert alone.verdict == "fail"


def test_a_star_takes_every_value_in_order_also_of_language_and_speaker() -> None:
    rule = make_policy({"kind": "superiority", "slice": "domain=*"}).rules[0]
    table = ScoreTable.build(make_scores([1, 2, 3], tags=[{"domain": "b"}, {}, {"domain": "a"}]))
    assert slice_names(rule, table) == ["domain=a", "domain=b"]
    assert slice_names(rule.model_copy(update={"slice": "speaker=*"}), table) == ["speaker=s0", "speaker=s1", "speaker=s2"]
    assert slice_names(rule.model_copy(update={"slice": "language=*"}), table) == ["language=en"]
    assert slice_names(rule.model_copy(update={"slice": "accent=*"}), table) == ["accent=*"]
    assert slice_names(rule.model_copy(update={"slice": "all"}), table) == ["all"]
    assert slice_mask(table, "all").tolist() == [True, True, True]
    assert slice_mask(table, "domain=a").tolist() == [False, False, True]


# The decision


def result_of(verdict: Verdict) -> RuleResult:
    (result,) = judge(better(), kind="absolute", max=0.9)
    return result.model_copy(update={"verdict": verdict})


@pytest.mark.parametrize(
    ("verdicts", "wanted"),
    [
        ([], "inconclusive"),
        (["pass"], "pass"),
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["inconclusive"], "inconclusive"),
        (["pass", "fail"], "fail"),
        (["inconclusive", "fail", "pass"], "fail"),
    ],
)
def test_all_rules_must_pass_and_one_failure_fails(verdicts: list[Verdict], wanted: Verdict) -> None:
    assert overall([result_of(verdict) for verdict in verdicts]) == wanted


def test_a_decision_has_every_rule_with_its_reason_and_the_policys_digest() -> None:
    policy = make_policy(
        {"kind": "absolute", "max": 0.9},
        {"kind": "superiority", "slice": "domain=*"},
        {"kind": "ratio", "metric": "rtf", "max": 2},
    )
    decision = decide(policy, replace(better(), duel=make_duel(list(np.linspace(0.5, 0.7, 16)))))
    assert [(r.rule, r.kind, r.slice) for r in decision.rules] == [
        ("rule 0", "absolute", "all"),
        ("rule 1", "superiority", "domain=crowd"),
        ("rule 1", "superiority", "domain=read"),
        ("rule 2", "ratio", "all"),
    ]
    assert decision.verdict == "pass" and decision.policy_digest == policy.digest
    assert all(r.reason for r in decision.rules)


@pytest.mark.parametrize(("condition", "wanted"), [("pass", "pass"), ("inconclusive", "inconclusive")])
def test_a_broken_precondition_is_never_a_pass(condition: Verdict, wanted: Verdict) -> None:
    evidence = replace(better(), preconditions=(result_of(condition).model_copy(update={"kind": "precondition"}),))
    decision = decide(make_policy({"kind": "absolute", "max": 0.9}), evidence)
    assert decision.verdict == wanted and decision.rules[0].kind == "precondition"


def test_a_decision_can_be_made_again() -> None:
    policy = make_policy({"kind": "absolute", "max": 0.2}, {"kind": "non_inferiority", "margin": 0.02, "slice": "domain=*"})
    evidence = make_evidence(draw(0.12), draw(0.1, seed=8))
    assert decide(policy, evidence) == decide(policy, evidence)
