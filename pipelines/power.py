"""What a corpus can show: the smallest difference it can detect, and how much more data a margin needs."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.types import Record, Task
from pipelines.corpus import corpus_tasks, parse_line, read_config, slice_facets
from pipelines.gate.evidence import slice_mask
from pipelines.gate.finding import finite
from pipelines.home import Home
from pipelines.manifest import MANIFEST, read_lines
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
from pipelines.prompts import Prompt, parse_prompt
from pipelines.scores import NO_SPEAKER, ScoreTable, UtteranceScore
from pipelines.stats.resampling import IntArray
from pipelines.types import Utterance
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
    """A corpus of recordings or of prompts, as a plan sees it: a few numbers a line, so that a large one fits."""

    folder: Path
    task: Task
    words: IntArray
    """Words of each reference after the normalizer, (n,), of the lines with any."""
    blocks: IntArray
    """Codes of the blocks of the same lines, (n,)."""
    facets: Mapping[str, Sequence[str | None]]
    """Key of a slice that the policy asks for → its value on each of these lines."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def metric(self) -> str:
        return METRIC[self.task]

    def rows(self, of: Sequence[int]) -> _Data:
        """Some of the lines."""
        at = np.array(of, dtype=np.int64)
        facets = {key: [values[i] for i in of] for key, values in self.facets.items()}
        return _Data(self.folder, self.task, self.words[at], self.blocks[at], facets)


def _read(folder: Path, policy: Policy) -> _Data:
    task: Task = "tts" if corpus_tasks(folder) == ("tts",) else "asr"
    normalizers = read_config(folder).normalizers
    facets: dict[str, list[str | None]] = {key: [] for key in _slice_keys(policy, METRIC[task])}
    words, blocks = array("q"), list[str]()

    def see(row: Utterance | Prompt, reference: str) -> None:
        if not reference.strip():
            return
        words.append(len(find_normalizer(normalizers.of(row))(reference).split()))
        blocks.append(row.id if row.speaker in NO_SPEAKER else sys.intern(row.speaker))
        found = slice_facets(row)
        for key, values in facets.items():
            value = found.get(key)
            values.append(None if value is None else sys.intern(value))

    _each_line(folder, task, see)
    order = {name: code for code, name in enumerate(sorted(set(blocks)))}
    codes = np.fromiter((order[name] for name in blocks), np.int64, len(blocks))
    return _Data(folder, task, np.array(words, dtype=np.int64), codes, facets)


def _each_line(folder: Path, task: Task, see: Callable[[Utterance | Prompt, str], None]) -> None:
    """Show each line with its reference, and keep none."""

    def shown(row: Utterance | Prompt) -> bool:
        see(row, row.reference if isinstance(row, Prompt) else row.text)
        return False

    parse: Callable[[str], Utterance | Prompt] = parse_prompt if task == "tts" else parse_line
    read_lines(folder / MANIFEST, parse, shown)


def _slice_keys(policy: Policy, metric: str) -> list[str]:
    return sorted({rule.slice.partition("=")[0] for rule in _margin_rules(policy, metric)} - {EVERYTHING})


def _margin_rules(policy: Policy, metric: str) -> list[NonInferiorityRule]:
    return [rule for rule in policy.rules if isinstance(rule, NonInferiorityRule) and rule.metric == metric]


def corpus_power(folder: Path, home: Home, policy: Policy, margins: Sequence[float] = ()) -> PowerReport:
    """Plan for a corpus from the best evidence there is.

    Two models' evaluations of it show how much their difference varies over speakers; one model's shows how much it varies
    itself; without any, stated assumptions stand in (`pipelines.planning`).

    Args:
        folder: The corpus, of recordings or of prompts. Its manifest is read line by line and not kept.
        home: Where evaluations are kept.
        policy: Gives the level, and the margins if none are named.
        margins: Differences in word error rate that someone wants to rule out.

    Raises:
        CorpusError: Its settings or its manifest are broken.
    """
    alpha = (1 - policy.level) / 2
    data = _read(folder, policy)
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
    for rule in _margin_rules(policy, data.metric):
        key, _, value = rule.slice.partition("=")
        values = sorted({found for found in data.facets.get(key, ()) if found is not None})
        names = [f"{key}={found}" for found in values] if value == ANY_VALUE else [rule.slice]
        wanted.extend((name, rule.margin) for name in names)
    return list(dict.fromkeys(wanted))


def _evaluated(data: _Data, home: Home) -> list[tuple[str, list[UtteranceScore]]]:
    """The two newest models' scores of the corpus as it is now: same ids, same references."""
    found: list[tuple[str, list[UtteranceScore]]] = []
    for evaluation in newest_evaluations(home):
        complete = evaluation.task == data.task and not evaluation.selection and data.name in evaluation.corpora
        if not complete or evaluation.model in dict(found) or not Path(evaluation.predictions).is_file():
            continue
        if scores := _scores_of_now(data, Path(evaluation.predictions)):
            found.append((evaluation.model, scores))
        if len(found) == 2:
            break
    return found


def _scores_of_now(data: _Data, predictions: Path) -> list[UtteranceScore]:
    """The scores of lines that are there; none at all where a reference has changed since."""
    scores = {score.id: score for score in read_scores(predictions)}
    references: dict[str, str] = {}

    def see(row: Utterance | Prompt, reference: str) -> None:
        if (name := f"{data.name}/{row.id}") in scores:
            references[name] = reference

    _each_line(data.folder, data.task, see)
    same = all(scores[name].reference == text for name, text in references.items())
    return [scores[name] for name in references] if same else []


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
    if name != EVERYTHING:
        data = data.rows([i for i, found in enumerate(data.facets.get(key, ())) if found == value])
    return plan_without_models(data.words, data.blocks, margin, alpha=alpha)
