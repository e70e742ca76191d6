"""The gap between groups: named groups only, enough utterances, and an honest interval."""

from __future__ import annotations

import math

import pytest

from pipelines.gaps import gap_metrics, slice_gap
from pipelines.gate.absolute import judge_gap
from pipelines.metrics import find_metric
from pipelines.policy import GapRule, Policy
from pipelines.scores import ScoreTable
from tests.pipelines.factories import make_score

LETTERS = list("abcdefghijklmnopqrst")

WORDS = 10


def groups(errors: dict[str, int], n: int = 30, key: str = "accent") -> ScoreTable:
    """Groups of n utterances of 10 words by 6 speakers, with so many wrong words each; speakers differ a little."""
    return ScoreTable.build(
        [
            make_score(
                " ".join(LETTERS[:WORDS]),
                " ".join(["x"] * (wrong + i % 2) + LETTERS[wrong + i % 2 : WORDS]),
                id=f"{group}-{i}",
                speaker=f"{group}-{i % 6}",
                tags={key: group},
            )
            for group, wrong in errors.items()
            for i in range(n)
        ]
    )


def test_the_gap_is_between_the_best_and_the_worst_group() -> None:
    found = slice_gap(find_metric("wer"), groups({"de": 3, "us": 1, "fr": 2}), "accent", level=0.95)
    assert (found.worst, found.best) == ("accent=de", "accent=us")
    assert found.gap.value == pytest.approx(0.2)
    assert found.gap.low <= found.gap.value <= found.gap.high
    assert found.n == 90


def test_values_that_name_no_group_are_left_out() -> None:
    found = slice_gap(find_metric("wer"), groups({"us": 1, "unknown": 9, "none": 8, "de": 1}), "accent", level=0.95)
    assert found.gap.value == pytest.approx(0.0)


def test_small_groups_are_left_out_and_named() -> None:
    table = ScoreTable.build([*groups({"us": 1, "de": 2}).scores, *groups({"fr": 9}, n=3).scores])
    found = slice_gap(find_metric("wer"), table, "accent", level=0.95, min_n=10)
    assert found.worst == "accent=de" and "fr (3)" in found.note and found.unmeasured == ("fr",)


def test_no_gap_rule_passes_beside_a_group_that_is_too_small() -> None:
    table = ScoreTable.build([*groups({"us": 1, "de": 1}).scores, *groups({"fr": 9}, n=3).scores])
    rule = GapRule(name="fair", kind="gap", metric="wer", key="accent", max=0.9)
    result = judge_gap(rule, Policy(rules=(rule,)), table)
    assert result.verdict == "inconclusive" and "fr (3)" in result.reason
    without = ScoreTable.build(list(groups({"us": 1, "de": 1}).scores))
    assert judge_gap(rule, Policy(rules=(rule,)), without).verdict == "pass"


@pytest.mark.parametrize("errors", [{"us": 1}, {}, {"unknown": 1, "none": 2}])
def test_fewer_than_two_groups_have_no_gap(errors: dict[str, int]) -> None:
    found = slice_gap(find_metric("wer"), groups(errors), "accent", level=0.95)
    assert math.isnan(found.gap.value) and "can be compared" in found.note


def test_gaps_are_reported_for_the_keys_that_have_groups() -> None:
    assert set(gap_metrics(groups({"us": 1, "de": 2}), level=0.95)) == {"wer_gap_accent"}
    result = gap_metrics(groups({"f": 1, "m": 4}, key="gender"), level=0.95)["wer_gap_gender"]
    assert result.value == pytest.approx(0.3) and result.ci_low is not None and result.note is not None
    assert "gender=m against gender=f" in result.note


def test_a_group_of_one_speaker_is_named_and_no_gap_rule_passes_over_it() -> None:
    lone = [make_score("a b c d", "x y z w", id=f"fr-{i}", speaker="one", tags={"accent": "fr"}) for i in range(30)]
    table = ScoreTable.build([*groups({"us": 1, "de": 1}).scores, *lone])
    found = slice_gap(find_metric("wer"), table, "accent", level=0.95)
    assert found.unmeasured == ("fr",) and "fr (1)" in found.note and found.n == 60
    rule = GapRule(name="fair", kind="gap", metric="wer", key="accent", max=0.9)
    policy = Policy(rules=(rule,))
    assert judge_gap(rule, policy, table).verdict == "inconclusive"
    assert judge_gap(rule, policy, groups({"us": 1, "de": 1})).verdict == "pass"
    assert judge_gap(rule.model_copy(update={"max": 0.1}), policy, groups({"us": 0, "de": 8})).verdict == "fail"
