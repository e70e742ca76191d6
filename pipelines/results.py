"""Small result files for DVC: metrics, plots and decisions that two revisions can be compared by.

Only what the data and the model decide goes in; times and run ids would differ on every run.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from pipelines.decision import Comparison
from pipelines.gate import overall
from pipelines.home import write_atomically
from pipelines.metrics import METRICS, TIMED
from pipelines.types import Evaluation, MetricResult

SLICE_COLUMNS = ("slice", "n", "wer", "ci_low", "ci_high", "cer")


def write_evaluation_results(evaluation: Evaluation, folder: Path) -> None:
    """Write ``metrics.json`` and ``slices.csv``."""
    metrics: dict[str, Any] = {
        name: {"value": result.value, "ci_low": result.ci_low, "ci_high": result.ci_high, "n": result.n}
        for name, result in evaluation.metrics.items()
        if name in METRICS and name not in TIMED
    }
    document = {
        "model": evaluation.model,
        "data_version": evaluation.data_version,
        "quarantined": len(evaluation.quarantined),
        "metrics": metrics,
    }
    write_atomically(folder / "metrics.json", json.dumps(document, indent=2) + "\n")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, SLICE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    words, characters = ("roundtrip_wer", "roundtrip_cer") if evaluation.task == "tts" else ("wer", "cer")
    for name, per_slice in evaluation.slices.items():
        if (wer := per_slice.get(words)) is not None:
            writer.writerow({"slice": name, "n": wer.n, **_row(wer), "cer": _value(per_slice.get(characters))})
    write_atomically(folder / "slices.csv", buffer.getvalue())


def write_comparison_results(comparison: Comparison, folder: Path) -> None:
    """Write ``decision.json``: each rule's verdict and theirs together, without the rules about what was timed."""
    judged = [rule for rule in comparison.rules if rule.kind != "ratio"]
    rules = [{"rule": rule.rule, "slice": rule.slice, "metric": rule.metric, "verdict": rule.verdict} for rule in judged]
    document = {
        "candidate": comparison.candidate,
        "baseline": comparison.baseline,
        "verdict": overall(judged),
        "rules": rules,
    }
    write_atomically(folder / "decision.json", json.dumps(document, indent=2) + "\n")


def _row(result: MetricResult) -> dict[str, float | None]:
    return {"wer": result.value, "ci_low": result.ci_low, "ci_high": result.ci_high}


def _value(result: MetricResult | None) -> float | None:
    return None if result is None else result.value
