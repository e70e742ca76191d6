"""From predictions to an evaluation: check, score, measure, and write the result down."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.audio import duration_fault
from pipelines.align import score_all, scorer_version
from pipelines.corpus import corpus_digest
from pipelines.degrade.steps import ORIGINAL, VARIANT
from pipelines.environment import environment
from pipelines.gaps import gap_metrics
from pipelines.inference import ShardResult
from pipelines.lab import Lab
from pipelines.losses import variant_losses
from pipelines.metrics import metrics_of
from pipelines.normalize import find_normalizer
from pipelines.policy import Policy
from pipelines.prepare import Prepared, Resolved, describe_model
from pipelines.scores import ScoreTable, UtteranceScore
from pipelines.store import PredictionKey, prediction_key
from pipelines.summarize import NOTHING_FRESH, summarize
from pipelines.transcribe import Item, key_of
from pipelines.types import Evaluation, EvaluationFingerprint, MetricResult, Prediction, Quarantined, Suspect, Timings


@dataclass(frozen=True)
class Gathered:
    """Predictions of an evaluation after the recordings that cannot be used were taken out."""

    predictions: Mapping[str, Prediction]
    """Item's id → its prediction."""
    items: tuple[Item, ...]
    """Those with a prediction."""
    quarantined: tuple[Quarantined, ...]
    """The rest, each with its reason."""
    fresh: frozenset[str]
    """Ids whose prediction was computed in this run."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Id of a prompt that the voice refused → why."""


@dataclass(frozen=True)
class Evaluated:
    """A model, evaluated: what a comparison goes on with."""

    evaluation: Evaluation
    scores: Sequence[UtteranceScore]
    prepared: Resolved
    gathered: Gathered


def item_id(item: Item) -> str:
    """Unique id of an item in an evaluation of several corpora."""
    return f"{item.corpus}/{item.utterance.id}"


def gather(prepared: Prepared, results: Sequence[ShardResult[Prediction]]) -> Gathered:
    """Join stored and fresh predictions, and quarantine what failed or is not as long as its manifest says."""
    fresh = {prediction_key(p.audio_sha256, p.task, p.language): p for result in results for p in result.records}
    failures = {sha: reason for result in results for sha, reason in result.failures}
    known: Mapping[PredictionKey, Prediction] = {**prepared.plan.known, **fresh}
    kept: list[Item] = []
    bad = list(prepared.selection.missing)
    for item in prepared.selection.items:
        prediction = known.get(key_of(item, prepared.task))
        reason: str | None
        if prediction is None:
            reason = failures[item.audio_sha256]
        else:
            reason = duration_fault(item.path.name, item.utterance.duration, prediction.audio_s)
        if reason:
            utterance = item.utterance
            bad.append(Quarantined(id=utterance.id, audio_filepath=utterance.audio_filepath, reason=reason))
        else:
            kept.append(item)
    # A recording listed twice was inferred once: its time counts for the first line, or it would count twice.
    first = {key_of(item, prepared.task): item_id(item) for item in reversed(kept)}
    return Gathered(
        predictions={item_id(item): known[key_of(item, prepared.task)] for item in kept},
        items=tuple(kept),
        quarantined=tuple(bad),
        fresh=frozenset(name for key, name in first.items() if key in fresh),
    )


def score(gathered: Gathered) -> list[UtteranceScore]:
    """Normalise, align and count every utterance by its own normalizer, in the items' order."""
    by_preset: dict[str, list[Item]] = {}
    items = mark_originals(gathered.items)
    for item in items:
        by_preset.setdefault(item.normalizer, []).append(item)
    scores: dict[str, UtteranceScore] = {}
    for preset, chosen in by_preset.items():
        pairs = [
            (item.utterance.model_copy(update={"id": item_id(item)}), gathered.predictions[item_id(item)]) for item in chosen
        ]
        scores |= {scored.id: scored for scored in score_all(pairs, preset, fresh=gathered.fresh)}
    return [scores[item_id(item)] for item in gathered.items]


def mark_originals(items: Sequence[Item]) -> Sequence[Item]:
    """Where degraded variants are evaluated too, make the others a slice beside them: ``variant=original``."""
    if not any(item.utterance.variant_of for item in items):
        return items
    return [
        item
        if VARIANT in item.utterance.tags
        else replace(item, utterance=item.utterance.model_copy(update={"tags": {**item.utterance.tags, VARIANT: ORIGINAL}}))
        for item in items
    ]


def fingerprint_of(prepared: Prepared, gathered: Gathered, version: str) -> EvaluationFingerprint:
    """Say what another evaluation must share to be compared with this one."""
    # Utterances the model does not claim belong to the data all the same: leaving them out must show in a
    # comparison as what the model cannot do, not as other data.
    items = (*prepared.selection.items, *prepared.selection.unsupported)
    corpora = {name: _corpus_digest([item for item in items if item.corpus == name]) for name in prepared.corpora}
    return fingerprint_from(
        model=prepared.fingerprint.digest,
        corpora=corpora,
        data_version=version,
        normalizers=applied_normalizers((item_id(item), item.normalizer) for item in items),
        quarantined=gathered.quarantined,
    )


def applied_normalizers(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name each normalizer's version and the utterances it goes to, from pairs of an utterance's id and a normalizer."""
    applied: dict[str, list[str]] = {}
    for item, normalizer in names:
        applied.setdefault(normalizer, []).append(item)
    return {name: f"{find_normalizer(name).version} on {_digest(sorted(ids))[:8]}" for name, ids in sorted(applied.items())}


def fingerprint_from(
    *,
    model: str,
    corpora: Mapping[str, str],
    data_version: str,
    normalizers: Mapping[str, str],
    quarantined: Iterable[Quarantined],
    **more: str,
) -> EvaluationFingerprint:
    """Put a fingerprint together with its digest; see `EvaluationFingerprint` for the parts."""
    parts = {
        "model": model,
        "corpora": dict(corpora),
        "data_version": data_version,
        "normalizers": dict(normalizers),
        "scorer": scorer_version(),
        "quarantined": _digest(sorted(bad.id for bad in quarantined)),
        **more,
    }
    return EvaluationFingerprint.model_validate({**parts, "digest": _digest(parts)})


def conclude(
    lab: Lab,
    resolved: Resolved,
    gathered: Gathered,
    scores: Sequence[UtteranceScore],
    results: Sequence[ShardResult[Any]],
    policy: Policy,
    *,
    fingerprint: EvaluationFingerprint,
    more_metrics: Mapping[str, MetricResult],
    suspects: Sequence[Suspect],
    unsupported: Iterable[str],
    run_id: str,
    folder: Path,
    wall_s: float,
) -> Evaluation:
    """Measure everything and put the evaluation together; nothing is written.

    Args:
        lab: The project.
        resolved: The request, and the model it is about.
        gathered: Usable predictions.
        scores: Of them.
        results: Of the shards of the model computed in this run.
        policy: Gives level, resamples and seed of the intervals.
        fingerprint: Of the data and how it was scored.
        more_metrics: Measured elsewhere: calibration.
        suspects: References to look at.
        unsupported: The language of each utterance that the card does not claim.
        run_id: MLflow's run.
        folder: The run's folder.
        wall_s: Seconds since the evaluation began.
    """
    table = ScoreTable.build(list(scores))
    metrics, slices = summarize(
        table, metrics_of(resolved.task), level=policy.level, resamples=policy.resamples, seed=policy.seed
    )
    gaps = gap_metrics(table, level=policy.level) if resolved.task == "asr" else {}
    metrics = {**metrics, **gaps, **more_metrics, **machine_metrics(results)}
    return Evaluation(
        run_id=run_id,
        model=resolved.card.name,
        task=resolved.task,
        corpora=tuple(fingerprint.corpora),
        selection=resolved.request.selection,
        data_version=fingerprint.data_version,
        fingerprint=fingerprint,
        model_fingerprint=describe_model(resolved),
        environment=environment(lab.project) | ({"data_revision": lab.pinned.commit} if lab.pinned else {}),
        metrics=metrics,
        slices=slices,
        losses=variant_losses(table, policy) if resolved.task == "asr" else (),
        suspect_references=tuple(suspects),
        quarantined=gathered.quarantined,
        unsupported=dict(sorted(Counter(unsupported).items())),
        predictions=str(folder / "predictions.parquet"),
        report=str(folder / "report.html"),
        timings=Timings(
            inferred=len(gathered.fresh),
            reused=len(gathered.items) - len(gathered.fresh),
            wall_s=wall_s,
            audio_s=float(table.audio_s.sum()),
            inference_s=sum(p.timing.inference_s for result in results for p in result.records),
            cost=total_cost(results),
            workers=lab.layout.workers,
            threads=lab.layout.threads,
        ),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def total_cost(results: Sequence[ShardResult[Any]]) -> float | None:
    """Sum what the calls of this run cost; None where nothing has a price."""
    costs = [record.cost for result in results for record in result.records if record.cost is not None]
    return sum(costs) if costs else None


def machine_metrics(results: Sequence[ShardResult[Any]]) -> dict[str, MetricResult]:
    """Loading time and peak memory of the workers, the worst of them; unmeasured where nothing was inferred."""
    reports = [report for result in results for report in result.workers]
    workers = {report.pid: report for report in reports}
    note = None if workers else NOTHING_FRESH
    load_s = max((worker.load_s for worker in workers.values()), default=None)
    # The last report of a worker has its highest mark, but shards end in any order.
    peak = max((report.peak_mib for report in reports), default=None)
    return {
        "load_time": MetricResult(value=load_s, unit="s", higher_is_better=False, n=len(workers), note=note),
        "peak_memory": MetricResult(value=peak, unit="MiB", higher_is_better=False, n=len(workers), note=note),
    }


def _corpus_digest(items: Iterable[Item]) -> str:
    items = list(items)
    return corpus_digest([item.utterance for item in items], {item.utterance.id: item.audio_sha256 for item in items})


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()
