"""What a corpus can show: the smallest difference it can detect, and how much more data a margin needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.types import Record, Task
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
from pipelines.prompts import Prompt, PromptCorpus
from pipelines.scores import ScoreTable, UtteranceScore, block_codes
from pipelines.witnesses import newest_evaluations, read_scores

METRIC: Mapping[Task, str] = {"asr": "wer", "tts": "roundtrip_wer"}
"""Task → the error rate that is planned for."""
ASSUMPTIONS = (
    f"assumptions, for no model has been evaluated on it: word error rate {100 * ASSUMED_WER:.0f}%, varying by "
    f"{100 * ASSUMED_SPEAKER_CV:.0f}% of itself between {{blocks}}, errors {ASSUMED_OVERDISPERSION:g} times as uneven as "
    "independent ones, two models half correlated"
)


class PowerRow(Record):
    """How much data one margin needs."""

    slice: str
    """``all`` or ``key=value``: the recordings or prompts that the margin is for."""
    margin: float
    """Largest allowed difference in word error rate, as a ratio."""
    speakers: int
    """Speakers there are; of prompts, groups, and each prompt that is in none."""
    enough: bool
    """Whether the corpus is large enough for it."""
    speakers_needed: int | None
    """None where nothing can be planned."""
    recordings_needed: int | None
    """At the corpus's recordings per speaker, or prompts per group."""


class PowerReport(Record):
    """What one corpus can detect in word error rate. `corpus power --json` prints it."""

    corpus: str
    task: Task
    """``tts`` for prompts, whose word error rate is that of what a recogniser hears."""
    metric: str
    basis: str
    """What the plan rests on: two models' evaluations, one model's, or stated assumptions."""
    alpha: float
    """One-sided level of the policy."""
    power: float
    """Chance with which a difference of the detectable size is found."""
    speakers: int
    recordings: int
    """Of speech; of prompts, those with words."""
    detectable: float | None
    """Smallest difference in word error rate, as a ratio; None where nothing can be planned."""
    rows: tuple[PowerRow, ...]
    """For each margin asked for."""


@dataclass(frozen=True)
class _Data:
    """A corpus of recordings or of prompts, as a plan sees it."""

    name: str
    task: Task
    texts: Mapping[str, str]
    """Id → reference."""
    words: Mapping[str, int]
    """Id → words of the reference after the normalizer, of those with any."""
    speakers: Mapping[str, str]
    facets: Mapping[str, Mapping[str, str]]

    @property
    def metric(self) -> str:
        return METRIC[self.task]


def _data(corpus: Corpus | PromptCorpus) -> _Data:
    prompts = isinstance(corpus, PromptCorpus)
    rows = corpus.prompts if isinstance(corpus, PromptCorpus) else corpus.utterances
    texts = {row.id: row.reference if isinstance(row, Prompt) else row.text for row in rows}
    spoken = [row for row in rows if texts[row.id].strip()]
    return _Data(
        name=corpus.name,
        task="tts" if prompts else "asr",
        texts=texts,
        words={r.id: len(find_normalizer(corpus.config.normalizers.of(r))(texts[r.id]).split()) for r in spoken},
        speakers={row.id: row.speaker for row in rows},
        facets={row.id: slice_facets(row) for row in rows},
    )


def corpus_power(corpus: Corpus | PromptCorpus, home: Home, policy: Policy, margins: Sequence[float] = ()) -> PowerReport:
    """Plan for a corpus from the best evidence there is.

    Two models' evaluations of it show how much their difference varies over speakers; one model's shows how much it varies
    itself; without any, stated assumptions stand in (`pipelines.planning`).

    Args:
        corpus: The corpus, of recordings or of prompts.
        home: Where evaluations are kept.
        policy: Gives the level, and the margins if none are named.
        margins: Differences in word error rate that someone wants to rule out.
    """
    alpha = (1 - policy.level) / 2
    data = _data(corpus)
    evaluated = _evaluated(data, home)
    plain, basis = _plan(data, evaluated, EVERYTHING, None, alpha)
    wanted = [(EVERYTHING, margin) for margin in margins] or _policy_margins(policy, data)
    rows = []
    for name, margin in wanted:
        plan, _ = _plan(data, evaluated, name, margin, alpha)
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
        corpus=data.name,
        task=data.task,
        metric=data.metric,
        basis=basis,
        alpha=alpha,
        power=POWER,
        speakers=plain.blocks,
        recordings=plain.utterances,
        detectable=finite(plain.detectable),
        rows=tuple(rows),
    )


def _policy_margins(policy: Policy, data: _Data) -> list[tuple[str, float]]:
    """The margins of the policy's rules about word errors, each with its slice."""
    wanted: list[tuple[str, float]] = []
    for rule in policy.rules:
        if not isinstance(rule, NonInferiorityRule) or rule.metric != data.metric:
            continue
        key, _, value = rule.slice.partition("=")
        speech = [data.facets[name] for name in data.words]
        values = sorted({facets[key] for facets in speech if key in facets})
        names = [f"{key}={found}" for found in values] if value == ANY_VALUE else [rule.slice]
        wanted.extend((name, rule.margin) for name in names)
    return list(dict.fromkeys(wanted))


def _evaluated(data: _Data, home: Home) -> list[tuple[str, list[UtteranceScore]]]:
    """The two newest models' scores of the corpus as it is now: same ids, same references."""
    texts = {f"{data.name}/{name}": text for name, text in data.texts.items()}
    found: list[tuple[str, list[UtteranceScore]]] = []
    for evaluation in newest_evaluations(home):
        complete = evaluation.task == data.task and not evaluation.selection and data.name in evaluation.corpora
        if not complete or evaluation.model in dict(found) or not Path(evaluation.predictions).is_file():
            continue
        scores = [score for score in read_scores(Path(evaluation.predictions)) if score.id in texts]
        if scores and all(score.reference == texts[score.id] for score in scores):
            found.append((evaluation.model, scores))
        if len(found) == 2:
            break
    return found


def _plan(
    data: _Data, evaluated: Sequence[tuple[str, list[UtteranceScore]]], name: str, margin: float | None, alpha: float
) -> tuple[Plan, str]:
    """Plan for one slice; gives the plan and what it rests on."""
    if not evaluated:
        blocks_named = "prompts" if data.task == "tts" else "speakers"
        return _plan_from_assumptions(data, name, margin, alpha), ASSUMPTIONS.format(blocks=blocks_named)
    shared = set.intersection(*({score.id for score in scores} for _, scores in evaluated))
    tables = [
        ScoreTable.build(sorted((s for s in scores if s.id in shared), key=lambda score: score.id))
        for _, scores in evaluated
    ]
    tables = [table.select(slice_mask(table, name)) for table in tables]
    metric = METRICS[data.metric]
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


def _plan_from_assumptions(data: _Data, name: str, margin: float | None, alpha: float) -> Plan:
    key, _, value = name.partition("=")
    speech = [i for i in data.words if name == EVERYTHING or data.facets[i].get(key) == value]
    codes, _ = block_codes(speech, [data.speakers[i] for i in speech])
    return plan_without_models([data.words[i] for i in speech], codes, margin, alpha=alpha)
