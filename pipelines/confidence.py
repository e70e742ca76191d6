"""Calibration in an evaluation: how far the engine's probabilities can be trusted, and the map that a service carries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.calibration import CalibrationReport, calibration_report
from pipelines.evaluate import Gathered
from pipelines.home import Home, write_atomically
from pipelines.outcomes import word_outcomes
from pipelines.scores import ScoreTable, UtteranceScore
from pipelines.types import MetricResult


def calibrate(gathered: Gathered, scores: Sequence[UtteranceScore]) -> CalibrationReport:
    """Hold every word's probability against whether it was right, on speech.

    Words invented on non-speech are left to the metrics of invention: they come in loops of hundreds from a few recordings,
    and a map fitted on a loop would be wrong about speech (on the starter corpus it made the error larger, not smaller).
    """
    speech = [score for score in scores if score.is_speech]
    transcripts = [gathered.predictions[score.id].transcript for score in speech]
    return calibration_report(word_outcomes(speech, transcripts, ScoreTable.build(speech).blocks))


def calibration_metrics(report: CalibrationReport) -> dict[str, MetricResult]:
    """Expected calibration error, as the engine gives it and after the map."""
    told = f"{report.words} words; {report.skipped} utterances could not be matched word by word"
    return {
        name: MetricResult(
            value=value,
            unit="ratio",
            higher_is_better=False,
            n=report.utterances,
            counts={"words": float(report.words), "skipped_utterances": float(report.skipped)},
            note=told if value is not None else report.note,
        )
        for name, value in (("ece", report.ece), ("ece_calibrated", report.ece_calibrated))
    }


def map_path(home: Home, model_fingerprint: str) -> Path:
    """Where the calibration of a model version is kept."""
    return home.calibrations / f"{model_fingerprint}.json"


def keep_map(home: Home, model_fingerprint: str, report: CalibrationReport) -> None:
    """Keep the map of a model version, so that packaging and serving find it; the newest evaluation's wins.

    A map that does not help on speakers it was not fitted on is not kept.
    """
    helps = report.ece is not None and report.ece_calibrated is not None and report.ece_calibrated < report.ece
    if report.map is not None and helps:
        write_atomically(map_path(home, model_fingerprint), report.map.model_dump_json(indent=1))
