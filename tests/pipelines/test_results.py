"""Result files for DVC: small, the same for the same result, and without anything that a second run would change."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.metrics import METRICS, TIMED
from pipelines.results import SLICE_COLUMNS, write_comparison_results, write_evaluation_results
from pipelines.types import Quarantined
from tests.report.factory import make_comparison, make_evaluation, make_metric, make_rule, make_scores

SCORES = make_scores(30)


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "slices.csv").read_text().splitlines()))


def test_metrics_are_those_of_the_data_and_the_model(tmp_path: Path) -> None:
    evaluation = make_evaluation(SCORES)
    assert {"rtf", "latency_p95", "peak_memory", "load_time"} <= set(evaluation.metrics), "what must be left out is there"
    write_evaluation_results(evaluation, tmp_path / "new" / "folder")
    written = json.loads((tmp_path / "new" / "folder" / "metrics.json").read_text())
    assert {key: written[key] for key in ("model", "data_version", "quarantined")} == {
        "model": "whisper-tiny-en",
        "data_version": "c0ffee",
        "quarantined": 1,
    }
    assert set(written["metrics"]) == {"wer", "invented_words_per_minute"} <= set(METRICS)
    wer = evaluation.metrics["wer"]
    assert written["metrics"]["wer"] == {"value": wer.value, "ci_low": wer.ci_low, "ci_high": wer.ci_high, "n": wer.n}


@pytest.mark.parametrize("name", TIMED)
def test_times_stay_out(tmp_path: Path, name: str) -> None:
    evaluation = make_evaluation(SCORES, metrics={"wer": make_metric(0.1), name: make_metric(0.5)})
    write_evaluation_results(evaluation, tmp_path)
    assert set(json.loads((tmp_path / "metrics.json").read_text())["metrics"]) == {"wer"}


def test_slices_are_rows_with_word_error_rate_and_interval(tmp_path: Path) -> None:
    slices: dict[str, dict[str, Any]] = {
        "domain=crowd, shouted": {"wer": make_metric(0.3, n=7), "cer": make_metric(0.15)},
        "domain=nonspeech": {"invention_share": make_metric(0.5)},
        "speaker=bo": {"wer": make_metric(0.1, ci_low=None, ci_high=None)},
    }
    write_evaluation_results(make_evaluation(SCORES, slices=slices), tmp_path)
    assert (tmp_path / "slices.csv").read_text().splitlines()[0] == ",".join(SLICE_COLUMNS)
    crowd, bo = rows_of(tmp_path)
    assert (crowd["slice"], crowd["n"], crowd["wer"], crowd["cer"]) == ("domain=crowd, shouted", "7", "0.3", "0.15")
    assert float(crowd["ci_low"]) == pytest.approx(0.2) and float(crowd["ci_high"]) == pytest.approx(0.4)
    assert (bo["slice"], bo["wer"], bo["ci_low"], bo["cer"]) == ("speaker=bo", "0.1", "", "")


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    first = make_evaluation(SCORES)
    later = first.model_copy(
        update={
            "run_id": "another",
            "created_at": "2031-01-01T00:00:00+00:00",
            "report": "/elsewhere",
            "environment": {"cpu": "another"},
            "timings": first.timings.model_copy(update={"wall_s": 99.0, "inferred": 0}),
            "metrics": {
                **first.metrics,
                "rtf": make_metric(None),
                "latency_p95": make_metric(9.0),
                "peak_memory": make_metric(9),
            },
        }
    )
    comparison = make_comparison()
    compared = comparison.model_copy(
        update={
            "run_id": "x",
            "created_at": "y",
            "report": "z",
            "evaluations": {},
            "notes": ("timed on another day",),
            "rules": tuple(
                rule.model_copy(update={"delta": 0.5, "candidate": 9.9, "reason": "Other times."})
                for rule in comparison.rules
            ),
        }
    )
    for folder, evaluation, decision in ((tmp_path / "1", first, comparison), (tmp_path / "2", later, compared)):
        write_evaluation_results(evaluation, folder)
        write_comparison_results(decision, folder)
    for name in ("metrics.json", "slices.csv", "decision.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"wer": make_metric(0.5)}},
        {"data_version": "later"},
        {"model": "another"},
        {
            "quarantined": (
                Quarantined(id="a", audio_filepath="a", reason="b"),
                Quarantined(id="c", audio_filepath="c", reason="b"),
            )
        },
    ],
    ids=["metric", "data", "model", "quarantined"],
)
def test_another_result_writes_other_bytes(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_evaluation_results(make_evaluation(SCORES), tmp_path / "1")
    write_evaluation_results(make_evaluation(SCORES).model_copy(update=changes), tmp_path / "2")
    assert (tmp_path / "1" / "metrics.json").read_bytes() != (tmp_path / "2" / "metrics.json").read_bytes()


def test_a_metric_without_a_value_is_null_and_no_nan(tmp_path: Path) -> None:
    write_evaluation_results(make_evaluation(SCORES, metrics={"wer": make_metric(None)}), tmp_path)
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["metrics"]["wer"] == {"value": None, "ci_low": None, "ci_high": None, "n": 0}


def test_a_decision_has_the_verdict_of_each_rule_that_was_not_timed(tmp_path: Path) -> None:
    """What was timed depends on the machine and the hour, and would differ between two revisions for nothing."""
    rules = [
        make_rule("pass", "usable", "Fine."),
        make_rule("inconclusive", "narrow", "Few.", slice="bandwidth=narrow"),
        make_rule("fail", "fast", "Slow.", metric="rtf", slice="all", kind="ratio"),
    ]
    write_comparison_results(make_comparison("fail", rules), tmp_path)
    assert json.loads((tmp_path / "decision.json").read_text()) == {
        "candidate": "whisper-base",
        "baseline": "whisper-tiny-en",
        "verdict": "inconclusive",
        "rules": [
            {"rule": "usable", "slice": "all", "metric": "wer", "verdict": "pass"},
            {"rule": "narrow", "slice": "bandwidth=narrow", "metric": "wer", "verdict": "inconclusive"},
        ],
    }
