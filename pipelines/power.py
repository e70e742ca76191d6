"""What a corpus can show: the smallest difference it can detect, and how much more data a margin needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.types import Record
from pipelines.corpus import Corpus, slice_facets
from pipelines.gate.evidence import slice_mask
from pipelines.gate.finding import finite
from pipelines.home import Home
from pipelines.measure import Sums
from pipelines.metrics import METRICS
from pipelines.normalize import find_normalizer
from pipelines.planning import (
    ASSUMED_OVERDISPERSION,
    ASSUMED_SPEAKER_CV,
    ASSUMED_WER,
    POWER,
    Plan,
    plan_of_one,
    plan_of_pair,
    plan_without_models,
)
from pipelines.policy import ANY_VALUE, EVERYTHING, NonInferiorityRule, Policy
from pipelines.scores import ScoreTable, UtteranceScore, block_codes
from pipelines.witnesses import newest_evaluations, read_scores

METRIC = "wer"
ASSUMPTIONS = (
    f"assumptions, for no model has been evaluated on it: word error rate {100 * ASSUMED_WER:.0f}%, varying by "
    f"{100 * ASSUMED_SPEAKER_CV:.0f}% of itself between speakers, errors {ASSUMED_OVERDISPERSION:g} times as uneven as "
    "independent ones, two models half correlated"
)


class PowerRow(Record):
    """How much data one margin needs."""

    slice: str
    """``all`` or ``key=value``: the recordings the margin is for."""
    margin: float
    """Largest allowed difference in word error rate, as a ratio."""
    speakers: int
    """Speakers there are."""
    enough: bool
    """Whether the corpus is large enough for it."""
    speakers_needed: int | None
    """None where nothing can be planned."""
    recordings_needed: int | None
    """At the corpus's recordings per speaker."""


class PowerReport(Record):
    """What one corpus can detect in word error rate. `corpus power --json` prints it."""

    corpus: str
    basis: str
    """What the plan rests on: two models' evaluations, one model's, or stated assumptions."""
    alpha: float
    """One-sided level of the policy."""
    power: float
    """Chance with which a difference of the detectable size is found."""
    speakers: int
    recordings: int
    """Of speech."""
    detectable: float | None
    """Smallest difference in word error rate, as a ratio; None where nothing can be planned."""
    rows: tuple[PowerRow, ...]
    """For each margin asked for."""


def corpus_power(corpus: Corpus, home: Home, policy: Policy, margins: Sequence[float] = ()) -> PowerReport:
    """Plan for a corpus from the best evidence there is.

    Two models' evaluations of it show how much their difference varies over speakers; one model's shows how much it varies
    itself; without any, stated assumptions stand in (`pipelines.planning`).

    Args:
        corpus: The corpus.
        home: Where evaluations are kept.
        policy: Gives the level, and the margins if none are named.
        margins: Differences in word error rate that someone wants to rule out.
    """
    alpha = (1 - policy.level) / 2
    evaluated = _evaluated(corpus, home)
    plain, basis = _plan(corpus, evaluated, EVERYTHING, None, alpha)
    wanted = [(EVERYTHING, margin) for margin in margins] or _policy_margins(policy, corpus)
    rows = []
    for name, margin in wanted:
        plan, _ = _plan(corpus, evaluated, name, margin, alpha)
        rows.append(
            PowerRow(
                slice=name,
                margin=margin,
                speakers=plan.blocks,
                enough=plan.blocks_needed is not None and plan.blocks_needed <= plan.blocks,
                speakers_needed=plan.blocks_needed,
                recordings_needed=plan.utterances_needed,
            )
        )
    return PowerReport(
        corpus=corpus.name,
        basis=basis,
        alpha=alpha,
        power=POWER,
        speakers=plain.blocks,
        recordings=plain.utterances,
        detectable=finite(plain.detectable),
        rows=tuple(rows),
    )


def _policy_margins(policy: Policy, corpus: Corpus) -> list[tuple[str, float]]:
    """The margins of the policy's rules about word errors, each with its slice."""
    wanted: list[tuple[str, float]] = []
    for rule in policy.rules:
        if not isinstance(rule, NonInferiorityRule) or rule.metric != METRIC:
            continue
        key, _, value = rule.slice.partition("=")
        speech = [slice_facets(utterance) for utterance in corpus.utterances if utterance.text.strip()]
        values = sorted({facets[key] for facets in speech if key in facets})
        names = [f"{key}={found}" for found in values] if value == ANY_VALUE else [rule.slice]
        wanted.extend((name, rule.margin) for name in names)
    return list(dict.fromkeys(wanted))


def _evaluated(corpus: Corpus, home: Home) -> list[tuple[str, list[UtteranceScore]]]:
    """The two newest models' scores of the corpus as it is now: same ids, same references."""
    texts = {f"{corpus.name}/{utterance.id}": utterance.text for utterance in corpus.utterances}
    found: list[tuple[str, list[UtteranceScore]]] = []
    for evaluation in newest_evaluations(home):
        complete = not evaluation.selection and corpus.name in evaluation.corpora
        if not complete or evaluation.model in dict(found) or not Path(evaluation.predictions).is_file():
            continue
        scores = [score for score in read_scores(Path(evaluation.predictions)) if score.id in texts]
        if scores and all(score.reference == texts[score.id] for score in scores):
            found.append((evaluation.model, scores))
        if len(found) == 2:
            break
    return found


def _plan(
    corpus: Corpus, evaluated: Sequence[tuple[str, list[UtteranceScore]]], name: str, margin: float | None, alpha: float
) -> tuple[Plan, str]:
    """Plan for one slice; gives the plan and what it rests on."""
    if not evaluated:
        return _plan_from_assumptions(corpus, name, margin, alpha), ASSUMPTIONS
    shared = set.intersection(*({score.id for score in scores} for _, scores in evaluated))
    tables = [
        ScoreTable.build(sorted((s for s in scores if s.id in shared), key=lambda score: score.id))
        for _, scores in evaluated
    ]
    tables = [table.select(slice_mask(table, name)) for table in tables]
    metric = METRICS[METRIC]
    measured = [metric.measure(table) for table in tables]
    columns = [m.columns[m.rows] for m in measured if isinstance(m, Sums)]
    first = measured[0]
    assert isinstance(first, Sums)
    blocks = tables[0].blocks[first.rows]
    if len(columns) == 2:
        plan = plan_of_pair(columns[0], columns[1], blocks, first.value, margin, alpha=alpha)
        # Two models that answer alike on every speaker show no spread to plan from.
        if np.isfinite(plan.detectable):
            return plan, f"the evaluations of {evaluated[0][0]} and {evaluated[1][0]}"
    plan = plan_of_one(columns[0], blocks, first.value, margin, alpha=alpha)
    return plan, f"the evaluation of {evaluated[0][0]}, taking another model as half correlated with it"


def _plan_from_assumptions(corpus: Corpus, name: str, margin: float | None, alpha: float) -> Plan:
    key, _, value = name.partition("=")
    speech = [
        utterance
        for utterance in corpus.utterances
        if utterance.text.strip() and (name == EVERYTHING or slice_facets(utterance).get(key) == value)
    ]
    words = [len(find_normalizer(corpus.config.normalizers.of(u))(u.text).split()) for u in speech]
    codes, _ = block_codes([utterance.id for utterance in speech], [utterance.speaker for utterance in speech])
    return plan_without_models(words, codes, margin, alpha=alpha)
