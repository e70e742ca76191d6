"""What a model loses on a variant is a paired difference over the recordings that have both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.gate import Evidence, decide
from pipelines.losses import pairs_of, variant_losses
from pipelines.policy import LossRule, Policy
from pipelines.report.rules import KINDS
from pipelines.scores import ScoreTable, UtteranceScore
from pipelines.significance import significance_tests
from tests.pipelines.factories import make_score

WORDS = 20
CLEAN = [0, 1, 0, 2, 1, 0, 1, 0, 3, 1, 0, 2] * 3
REFERENCE = [f"w{i}" for i in range(WORDS)]


def scored(errors: Sequence[int], variant: str = "", speaker: str | None = None) -> list[UtteranceScore]:
    """A recording for each number of substitutions, or its variant."""
    from dataclasses import replace

    return [
        replace(
            make_score(
                " ".join(REFERENCE),
                " ".join(["x"] * wrong + REFERENCE[wrong:]),
                id=f"{variant or 'calls'}/{i}",
                speaker=speaker or f"s{i}",
                tags={"variant": variant or "original"},
            ),
            variant_of=f"calls/{i}" if variant else "",
        )
        for i, wrong in enumerate(errors)
    ]


def policy(**rule: Any) -> Policy:
    rules = [{"name": "r", "kind": "loss", "metric": "wer", "max": 0.1, **rule}]
    return Policy.model_validate({"resamples": 400, "rules": rules})


def table(noisy: Sequence[int], **more: Sequence[int]) -> ScoreTable:
    scores = [*scored(CLEAN), *scored(noisy, "noise")]
    for name, errors in more.items():
        scores += scored(errors, name)
    return ScoreTable.build(scores)


HARMED = [errors + (3, 4, 5)[i % 3] for i, errors in enumerate(CLEAN)]
HARDLY = [errors + (i % 6 == 0) for i, errors in enumerate(CLEAN)]


def test_the_loss_is_the_difference_over_the_same_recordings() -> None:
    losses = {loss.metric: loss for loss in variant_losses(table(HARMED), policy())}
    wer = losses["wer"]
    assert wer.original == pytest.approx(sum(CLEAN) / len(CLEAN) / WORDS)
    assert wer.degraded == pytest.approx(sum(HARMED) / len(CLEAN) / WORDS)
    assert wer.delta == pytest.approx(4 / WORDS) and wer.n == len(CLEAN) == wer.blocks
    assert wer.ci_low is not None and wer.ci_high is not None and 0.18 < wer.ci_low < 0.2 < wer.ci_high < 0.22
    assert "invented_words_per_minute" not in losses, "nothing without speech is there"


def test_what_has_no_partner_is_left_out() -> None:
    scores = [*scored(CLEAN)[:10], *scored(HARMED, "noise")[5:], *scored(HARMED, "room")[20:]]
    losses = variant_losses(ScoreTable.build(scores), policy())
    assert {(loss.variant, loss.n) for loss in losses} == {("noise", 5)}
    assert variant_losses(ScoreTable.build(scored(CLEAN)), policy()) == ()


def test_a_recording_without_a_speaker_is_one_block_with_its_variants() -> None:
    scores = [*scored(CLEAN, speaker="unknown"), *scored(HARMED, "noise", "unknown")]
    built = ScoreTable.build(scores)
    assert len(set(built.blocks.tolist())) == len(CLEAN)
    for original, variant in pairs_of(built)["noise"]:
        assert built.blocks[original] == built.blocks[variant]


def rule_results(scores: ScoreTable, **rule: Any) -> dict[str, Any]:
    return {found.slice: found for found in decide(policy(**rule), Evidence(scores, scores, scores, (), None)).rules}


def test_a_rule_holds_a_loss_against_its_limit() -> None:
    found = rule_results(table(HARMED, room=HARDLY, narrow=[*HARMED[:18], *HARDLY[18:]]))
    assert {name: result.verdict for name, result in found.items()} == {
        "variant=noise": "fail", "variant=room": "pass", "variant=narrow": "inconclusive",
    }  # fmt: skip
    noise = found["variant=noise"]
    assert noise.delta == pytest.approx(0.2) and noise.candidate == pytest.approx(sum(HARMED) / len(CLEAN) / WORDS)
    assert "more is lost than the 10 points allowed" in noise.reason and noise.kind in KINDS


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"slice": "variant=wind"}, "evaluate the variant beside its corpus"),
        ({"slice": "variant=noise", "min_n": 99}, "36 utterances, and the rule asks for 99"),
        ({"slice": "variant=noise", "min_blocks": 99}, "36 speakers"),
    ],
)
def test_what_cannot_be_compared_is_never_a_pass(rule: dict[str, Any], told: str) -> None:
    (found,) = rule_results(table(HARDLY), **rule).values()
    assert found.verdict == "inconclusive" and told in found.reason


def test_without_variants_a_rule_about_them_decides_nothing() -> None:
    (found,) = rule_results(ScoreTable.build(scored(CLEAN))).values()
    assert found.verdict == "inconclusive" and "no variant was evaluated" in found.reason.lower()


@pytest.mark.parametrize("slice_", ["all", "domain=read", "variant=original"])
def test_a_loss_is_about_variants(slice_: str) -> None:
    with pytest.raises(ValidationError, match="variant=NAME"):
        LossRule(name="r", kind="loss", metric="wer", max=0.1, slice=slice_)


def test_significance_tests_are_about_originals() -> None:
    """What a model says of a recording and of its variant are not two independent things."""
    tests = significance_tests([*scored(CLEAN), *scored(HARMED, "n")], [*scored(HARDLY), *scored(CLEAN, "n")])
    assert tests == significance_tests(scored(CLEAN), scored(HARDLY)) != ()
