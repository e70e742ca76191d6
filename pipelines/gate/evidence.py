"""What a gate decides on, and how a rule's slices are found in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.decision import RuleResult
from pipelines.duel import Duel
from pipelines.policy import ANY_VALUE, EVERYTHING, Rule
from pipelines.scores import BoolArray, ScoreTable


@dataclass(frozen=True)
class Evidence:
    """What a gate decides on."""

    candidate: ScoreTable
    """Everything the candidate was evaluated on: for rules about it alone."""
    paired_candidate: ScoreTable
    """The utterances both models have, in one order."""
    paired_baseline: ScoreTable
    """The same utterances in the same order."""
    preconditions: tuple[RuleResult, ...]
    """Whether the comparison can be made at all, a result for each condition."""
    duel: Duel | None
    """Timings taken side by side; None if they could not be taken."""


def slice_names(rule: Rule, table: ScoreTable) -> list[str]:
    """The slices a rule is about: its own, or every value of its key."""
    key, _, value = rule.slice.partition("=")
    if value != ANY_VALUE:
        return [rule.slice]
    found = sorted({facets[key] for score in table.scores if key in (facets := score.facets)})
    # A key that nothing carries stays as it is, and is then reported as a slice without utterances.
    return [f"{key}={value}" for value in found] or [rule.slice]


def slice_mask(table: ScoreTable, name: str) -> BoolArray:
    """Rows of a slice, ``all`` or ``key=value``: shape (n,)."""
    if name == EVERYTHING:
        return np.ones(len(table), dtype=np.bool_)
    key, _, value = name.partition("=")
    return np.array([score.facets.get(key) == value for score in table.scores], dtype=np.bool_)


def shortage(rule: Rule, n: int, blocks: int) -> str:
    """Say what a rule lacks to be applied; empty if it has enough."""
    if n < rule.min_n:
        return f"{n} utterances, and the rule asks for {rule.min_n}"
    if blocks < rule.min_blocks:
        return f"{blocks} speakers, and the rule asks for {rule.min_blocks}"
    return ""
