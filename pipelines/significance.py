"""The field's own significance tests, beside the gate's intervals: reported, never deciding.

They ask whether two models differ, and take pieces of one speaker as independent; the gate asks whether the new one is no
worse, over speakers.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.decision import SignificanceTest
from pipelines.scores import UtteranceScore
from pipelines.stats.matched_pairs import ErrorSlots, MatchedPairs, mapsswe, utterance_pairs


def error_slots(score: UtteranceScore) -> ErrorSlots:
    """Lay out where an alignment errs: at which reference words, and before which of them words were inserted."""
    count = score.words.reference_length
    wrong = [False] * count
    insertions = [0] * (count + 1)
    for chunk in score.alignment:
        if chunk.operation == "insert":
            insertions[chunk.ref_start] += chunk.hyp_end - chunk.hyp_start
        elif chunk.operation != "equal":
            wrong[chunk.ref_start : chunk.ref_end] = [True] * (chunk.ref_end - chunk.ref_start)
    return ErrorSlots.of(wrong, insertions)


def significance_tests(
    candidate: Sequence[UtteranceScore], baseline: Sequence[UtteranceScore]
) -> tuple[SignificanceTest, ...]:
    """Run the matched-pairs tests on the speech both models transcribed, in one order.

    Degraded variants are left out, for what one says of a recording and of its variant are not two independent things.
    Where neither made an error there is nothing to test.
    """
    pairs = [
        (error_slots(ours), error_slots(theirs))
        for ours, theirs in zip(candidate, baseline, strict=True)
        if ours.is_speech and theirs.is_speech and not ours.variant_of
    ]
    if not pairs:
        return ()
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    tests = (
        _record("MAPSSWE", "segments between words that both got right (NIST sc_stats)", mapsswe(ours, theirs)),
        _record("matched utterances", "whole utterances", utterance_pairs(ours, theirs)),
    )
    return tuple(test for test in tests if test.candidate_errors or test.baseline_errors)


def _record(name: str, unit: str, found: MatchedPairs) -> SignificanceTest:
    return SignificanceTest(
        test=name,
        over=unit,
        n=found.segments,
        candidate_errors=found.errors_a,
        baseline_errors=found.errors_b,
        mean=found.mean,
        std_dev=found.std_dev,
        z=found.z,
        p_value=found.p_value,
    )
