"""A candidate against a baseline: what makes them comparable, what is paired, and that speed is measured but once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.errors import CardError, CorpusError, PolicyError
from pipelines.compare import (
    ComparisonRequest,
    check_comparison,
    measure_speed,
    notes,
    pair_scores,
    preconditions,
    timed_entries,
    without_baseline,
)
from pipelines.decision import RuleResult, SignificanceTest
from pipelines.duel import Duel, duel_entries, duel_path, load_duel
from pipelines.environment import hardware_digest
from pipelines.evaluate import Evaluated, gather, score
from pipelines.gate import overall
from pipelines.prepare import EvaluationRequest
from pipelines.types import Evaluation, Quarantined
from tests.pipelines.factories import make_score
from tests.pipelines.toy_engine import notes as toy_notes
from tests.pipelines.toy_lab import POLICY, Desk
from tests.report.factory import make_evaluation, make_scores

ROWS: list[dict[str, Any]] = [{"id": name, "text": f"word {name}", "seconds": 0.1 + i / 10} for i, name in enumerate("abcd")]
SCORES = make_scores(20)
TIMED_RECORDINGS = 16


def make(model: str = "toy", fingerprint: dict[str, Any] | None = None, **changes: Any) -> Evaluation:
    evaluation = make_evaluation(SCORES, model, **{"unsupported": {}, "quarantined": (), **changes})
    return evaluation.model_copy(update={"fingerprint": evaluation.fingerprint.model_copy(update=fingerprint or {})})


def bad(name: str) -> Quarantined:
    return Quarantined(id=name, audio_filepath=f"{name}.wav", reason="It is bad.")


# Whether it can be made at all


def test_two_models_on_the_same_data_meet_every_precondition() -> None:
    found = preconditions(make("toy", {"model": "m1", "digest": "d1"}), make("rival", {"model": "m2", "digest": "d2"}), 20)
    assert [(result.rule, result.verdict) for result in found] == [
        ("same data and scoring", "pass"),
        ("nothing left out", "pass"),
        ("languages covered", "pass"),
    ]
    assert all(result.kind == "precondition" and result.n == 20 and result.reason for result in found)


BROKEN: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("same data and scoring", {"fingerprint": {"corpora": {"demo": "x"}}}, {}, "differ in corpora,"),
    ("same data and scoring", {"fingerprint": {"corpora": {"demo": "cd34", "more": "x"}}}, {}, "differ in corpora,"),
    ("same data and scoring", {"fingerprint": {"normalizers": {"english": "2"}}}, {}, "differ in normalizers,"),
    ("same data and scoring", {"fingerprint": {"scorer": "2"}}, {}, "differ in scorer,"),
    ("same data and scoring", {"fingerprint": {"quarantined": "x"}}, {}, "differ in quarantined,"),
    ("same data and scoring", {"fingerprint": {"scorer": "2", "corpora": {}}}, {}, "differ in corpora, scorer,"),
    (
        "nothing left out",
        {"quarantined": (bad("a"), bad("b"))},
        {"quarantined": (bad("a"), bad("b"))},
        "2 item(s) were",
    ),
    ("languages covered", {"unsupported": {"de": 3, "es": 1}}, {}, "does not take de (3), es (1), which the baseline does"),
    ("languages covered", {"unsupported": {"de": 3, "es": 1}}, {"unsupported": {"de": 3}}, "does not take es (1), which"),
]


@pytest.mark.parametrize(
    ("rule", "candidate", "baseline", "told"), BROKEN, ids=[f"{rule}: {told}" for rule, _, _, told in BROKEN]
)
def test_what_does_not_match_is_inconclusive_and_named(
    rule: str, candidate: dict[str, Any], baseline: dict[str, Any], told: str
) -> None:
    found = preconditions(make("toy", **candidate), make("rival", **baseline), 20)
    (broken,) = [result for result in found if result.verdict != "pass"]
    assert (broken.rule, broken.verdict) == (rule, "inconclusive")
    assert told in broken.reason
    assert overall(found) == "inconclusive"


def test_the_baselines_data_counts_as_much_as_the_candidates() -> None:
    found = preconditions(make(), make("rival", {"corpora": {"demo": "other"}}), 20)
    assert found[0].verdict == "inconclusive"


def test_a_language_that_only_the_baseline_lacks_stands_in_nobodys_way() -> None:
    found = preconditions(make(), make("rival", unsupported={"de": 3}), 20)
    assert overall(found) == "pass"


def test_another_version_of_other_data_is_no_difference() -> None:
    """data/ holds corpora beside those evaluated; what these hold is compared, by their own digests."""
    assert overall(preconditions(make(), make("rival", {"data_version": "later"}), 20)) == "pass"


# Pairing


def test_pairs_are_the_shared_utterances_in_the_candidates_order() -> None:
    ours = [make_score("x", id=name) for name in ("c", "a", "d", "b")]
    theirs = [make_score("x", "y", id=name) for name in ("a", "b", "e", "c")]
    first, second = pair_scores(ours, theirs)
    assert [row.id for row in first] == [row.id for row in second] == ["c", "a", "b"]
    assert all(row.words.errors == 0 for row in first) and all(row.words.errors == 1 for row in second)
    assert pair_scores(ours, []) == ([], [])


# Without a baseline


def test_nothing_to_compare_with_is_inconclusive() -> None:
    found = without_baseline(ComparisonRequest(candidate="toy"), POLICY, "No model is in production for asr.")
    assert found.verdict == "inconclusive" == overall(found.rules)
    (rule,) = found.rules
    assert isinstance(rule, RuleResult) and (rule.rule, rule.reason) == ("a baseline", "No model is in production for asr.")
    assert (found.candidate, found.baseline, found.policy_digest) == ("toy", "production", POLICY.digest)
    assert not found.evaluations and not found.report


# Notes


def test_notes_say_what_was_paired_left_out_tested_and_timed() -> None:
    duel = make_duel().model_copy(update={"threads": 2})
    test = SignificanceTest(
        test="MAPSSWE",
        over="segments",
        n=30,
        candidate_errors=12,
        baseline_errors=9,
        mean=0.1,
        std_dev=0.3,
        z=1.23,
        p_value=0.219,
    )
    told = notes(make(unsupported={"de": 2}), make("rival", unsupported={"es": 1}), 17, duel, [test])
    assert told[0] == "17 recordings are compared pair by pair."
    assert "candidate does not take de: 2 recordings" in told[1] and "baseline does not take es: 1 recordings" in told[2]
    assert "MAPSSWE, over segments: 12 errors against 9 in 30" in told[3] and "p = 0.219" in told[3]
    assert "side by side on 2025-01-01" in told[4] and "2 threads" in told[4] and "0 timings each" in told[4]
    assert len(notes(make(), make("rival"), 17, None, [])) == 1


# The request


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.card("rival", decoding={"pause_s": 0.01})
    desk.corpus(ROWS)
    return desk


@pytest.mark.parametrize(
    ("request_", "kind", "told"),
    [
        ({"candidate": "toy", "baseline": "toy"}, CardError, "toy would be compared with itself"),
        ({"candidate": "toi", "baseline": "rival"}, CardError, "Did you mean 'toy'"),
        ({"candidate": "toy", "baseline": "rivals"}, CardError, "Did you mean 'rival'"),
        ({"candidate": "toy", "corpora": ("call",)}, CorpusError, "Did you mean 'calls'"),
        ({"candidate": "toy", "baseline": "rival", "slices": ("language=de",)}, CorpusError, "Available: en"),
        ({"candidate": "toy", "baseline": "rival", "device": "cuda"}, Exception, "cuda"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused_before_anything_starts(
    desk: Desk, request_: dict[str, Any], kind: type[Exception], told: str
) -> None:
    check_comparison(desk.lab, ComparisonRequest(candidate="toy", baseline="rival"))
    with pytest.raises(kind, match=told):
        check_comparison(desk.lab, ComparisonRequest(**request_))
    assert not (desk.root / "home").exists()


def test_a_wrong_policy_is_refused_before_anything_starts(desk: Desk) -> None:
    (desk.root / "params.yaml").write_text("gate: {rules: []}")
    with pytest.raises(PolicyError):
        check_comparison(desk.lab, ComparisonRequest(candidate="toy", baseline="rival"))


def test_both_sides_are_evaluated_as_the_comparison_was_asked_for() -> None:
    asked: dict[str, Any] = {"corpora": ("calls",), "slices": ("domain=read",), "limit": 3, "device": "cpu"}
    request = ComparisonRequest(candidate="toy", baseline="rival", **asked)
    for model in ("toy", "rival"):
        assert request.evaluation_of(model) == EvaluationRequest(model=model, **asked)


# Speed


def make_duel() -> Duel:
    return Duel(
        candidate="c",
        baseline="b",
        hardware="h",
        threads=1,
        timings=(),
        load_s=(1, 1),
        peak_mib=(1, 1),
        measured_at="2025-01-01T00:00:00+00:00",
    )


def side(desk: Desk, model: str, failing: tuple[str, ...] = ()) -> Evaluated:
    prepared = desk.prepare(model)
    result = desk.heard(prepared, failing=failing)
    gathered = gather(prepared, [result])
    return Evaluated(desk.conclude(prepared, [result]), score(gathered), prepared, gathered)


def kept_at(desk: Desk, candidate: Evaluated, baseline: Evaluated, threads: int = 1) -> Path:
    entries = duel_entries(timed_entries(candidate, baseline), TIMED_RECORDINGS)
    fingerprints = candidate.prepared.spec.fingerprint, baseline.prepared.spec.fingerprint
    return duel_path(desk.lab.home.duels, *fingerprints, hardware_digest(), threads, entries)


def test_speed_is_measured_once_for_a_pair_and_then_kept(desk: Desk) -> None:
    candidate, baseline = side(desk, "toy"), side(desk, "rival")
    assert candidate.prepared.spec.fingerprint != baseline.prepared.spec.fingerprint
    first = measure_speed(desk.lab, candidate, baseline, TIMED_RECORDINGS)
    assert first is not None and len(first.timings) == 2 * len(ROWS)
    assert load_duel(kept_at(desk, candidate, baseline)) == first
    calls = len(toy_notes(desk.root / "toy", "call"))
    assert measure_speed(desk.lab, candidate, baseline, TIMED_RECORDINGS) == first
    assert len(toy_notes(desk.root / "toy", "call")) == calls == 2 * len(ROWS) + 1, "nothing was timed again"


def test_only_recordings_that_both_could_use_are_timed_by_all_threads(desk: Desk) -> None:
    lab = desk.lab.model_copy(update={"layout": desk.lab.layout.model_copy(update={"workers": 2, "threads": 3})})
    candidate, baseline = side(desk, "toy", failing=("a",)), side(desk, "rival", failing=("c",))
    found = measure_speed(lab, candidate, baseline, TIMED_RECORDINGS)
    assert found is not None
    shared = {item.audio_sha256 for item in candidate.gathered.items if item.utterance.id in "bd"}
    assert {timed.audio_sha256 for timed in found.timings} == shared
    assert found.threads == 6 and {note["threads"] for note in toy_notes(desk.root / "toy", "load")} == {6}
    assert kept_at(desk, candidate, baseline, threads=6).is_file()


def test_models_that_share_no_recording_cannot_be_timed(desk: Desk) -> None:
    candidate, baseline = side(desk, "toy", failing=("a", "b")), side(desk, "rival", failing=("c", "d"))
    assert measure_speed(desk.lab, candidate, baseline, TIMED_RECORDINGS) is None
    assert not desk.lab.home.duels.exists()
