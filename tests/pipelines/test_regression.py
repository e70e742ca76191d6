"""What a regression is: a model against its own past, on the same recordings, by the gate's rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from models.errors import PolicyError
from pipelines.decision import RuleResult, Verdict
from pipelines.evaluate import Evaluated, gather, score
from pipelines.policy import Policy
from pipelines.regression import (
    KnownGood,
    becomes_known_good,
    conclude,
    judge_against,
    known_good_of,
    rules_against_itself,
    same_data,
)
from tests.pipelines.toy_lab import Desk

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet"
COUNT = 24
POLICY = Policy.model_validate(
    {
        "resamples": 400,
        "rules": [
            {"name": "usable", "kind": "absolute", "metric": "wer", "max": 0.5, "judge": "value"},
            {"name": "no worse", "kind": "non_inferiority", "metric": "wer", "margin": 0.02},
            {"name": "better", "kind": "superiority", "metric": "wer"},
            {"name": "fast", "kind": "ratio", "metric": "rtf", "max": 1.2},
        ],
    }
)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.corpus([{"id": f"u{i}", "text": WORDS, "speaker": f"s{i}"} for i in range(COUNT)])
    return desk


def evaluated(desk: Desk, wrong: dict[int, int] | None = None, failing: list[str] | None = None) -> Evaluated:
    """The toy's evaluation, with so many words wrong in the recordings of these numbers."""
    prepared = desk.prepare()
    texts = {f"u{i}": " ".join(["x"] * count + WORDS.split()[count:]) for i, count in (wrong or {}).items()}
    results = [desk.heard(prepared, texts, failing or [])]
    gathered = gather(prepared, results)
    return Evaluated(desk.conclude(prepared, results), score(gathered), prepared, gathered)


SOME = dict.fromkeys(range(0, COUNT, 2), 1)
MUCH = {i: 2 + i % 3 for i in range(COUNT)}
MOST = {i: 6 + i % 3 for i in range(COUNT)}


def judged(desk: Desk, now: dict[int, int], before: dict[int, int]) -> Any:
    known, newest = evaluated(desk, before), evaluated(desk, now)
    good = known_good_of(known.evaluation)
    against = judge_against(newest, known.evaluation, known.scores, POLICY)
    return conclude("production", newest, good, against, POLICY), against


@pytest.mark.parametrize(
    ("now", "before", "verdict", "reason"),
    [
        ({}, {}, "pass", "It says what it said"),
        (SOME, SOME, "pass", "It says what it said"),
        (SOME, MUCH, "pass", "No worse than"),
        (MUCH, SOME, "fail", r"It got worse since .*no worse \(all\)"),
        ({**SOME, 1: 3}, SOME, "inconclusive", "neither shown nor ruled out"),
        (MOST, SOME, "fail", "On the newest data it breaks usable"),
    ],
)
def test_a_model_against_its_past(
    desk: Desk, now: dict[int, int], before: dict[int, int], verdict: Verdict, reason: str
) -> None:
    found, against = judged(desk, now, before)
    assert found.verdict == verdict
    assert re.search(reason, found.reason), found.reason
    assert becomes_known_good(found, against) is (verdict == "pass")
    assert {rule.kind for rule in found.rules} <= {"precondition", "non_inferiority", "absolute"}, "costs cannot be timed"


def test_a_recording_that_cannot_be_used_any_more_is_no_pass(desk: Desk) -> None:
    known, newest = evaluated(desk), evaluated(desk, failing=["u3"])
    against = judge_against(newest, known.evaluation, known.scores, POLICY)
    found = conclude("production", newest, known_good_of(known.evaluation), against, POLICY)
    assert found.verdict == "inconclusive" and not becomes_known_good(found, against)
    assert any("quarantined" in rule.reason for rule in found.rules)


def test_the_first_evaluation_is_known_good_unless_it_breaks_a_rule(desk: Desk) -> None:
    first = conclude("production", evaluated(desk, SOME), None, (), POLICY)
    assert first.verdict == "pass" and becomes_known_good(first, ())
    bad = conclude("production", evaluated(desk, MOST), None, (), POLICY)
    assert bad.verdict == "fail" and not becomes_known_good(bad, ())


def test_lost_data_starts_anew(desk: Desk) -> None:
    """What cannot be compared is no pass; but it must not stop every comparison after it."""
    newest = evaluated(desk, SOME)
    found = conclude("production", newest, known_good_of(newest.evaluation), None, POLICY)
    assert found.verdict == "inconclusive" and "cannot be read again" in found.reason
    assert becomes_known_good(found, None)


@pytest.mark.parametrize(
    ("version", "environment", "commit"),
    [
        ("a.dir", {"git_commit": "c1"}, "c1"),
        ("a.dir", {"git_commit": "c1", "data_revision": "c0"}, "c0"),
        ("a.dir+modified", {"git_commit": "c1"}, None),
        ("untracked", {"git_commit": "c1"}, None),
        ("a.dir", {}, None),
    ],
)
def test_only_committed_data_can_be_read_again(
    desk: Desk, version: str, environment: dict[str, str], commit: str | None
) -> None:
    evaluation = evaluated(desk).evaluation.model_copy(update={"data_version": version, "environment": environment})
    assert known_good_of(evaluation).data_commit == commit


def test_other_recordings_are_other_data(desk: Desk) -> None:
    known: KnownGood = known_good_of(evaluated(desk).evaluation)
    assert same_data(evaluated(desk, SOME).evaluation, known), "what was heard is not the data"
    desk.corpus([{"id": f"u{i}", "text": WORDS, "speaker": f"s{i}"} for i in range(COUNT + 1)])
    assert not same_data(evaluated(desk).evaluation, known)


def test_a_policy_that_knows_no_harm_is_refused() -> None:
    with pytest.raises(PolicyError, match="non_inferiority"):
        rules_against_itself(POLICY.model_copy(update={"rules": POLICY.rules[:1]}))
    kept: list[RuleResult | Any] = list(rules_against_itself(POLICY).rules)
    assert [rule.name for rule in kept] == ["no worse"]
