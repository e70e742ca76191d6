"""A lab whose models were evaluated: real engines on a few recordings and prompts, written as an evaluation writes them.

And the package of its recogniser, which several tests share.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.audio import decode, file_sha256
from models.card import read_cards
from models.engine import build_engine, placement_of
from models.fingerprint import model_fingerprint
from models.weights import fetch
from pipelines.confidence import map_path
from pipelines.lab import Lab, Layout
from pipelines.speech_store import SpeechStore, SpeechTiming, Synthesis, keep_audio, text_sha256
from pipelines.store import PredictionStore
from pipelines.types import Evaluation, EvaluationFingerprint, Prediction, Timing, Timings
from serving.package import Packaged, package
from serving.parity import Sample
from serving.samples import parity_samples
from serving.store import Bento, Store
from tests.report.factory import make_comparison

RECOGNISER, VOICE = "faster-whisper-tiny.en", "hibari"
PROMPTS = {"short": "The kettle is on.", "long": "It rained all night. In the morning, the river was up to the third step."}


CALIBRATION_MAP = {"x": [0.1, 0.9], "y": [0.2, 0.8], "n": 100, "fitted_on": "ab"}


def quiet(line: str) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Shipped:
    """A lab and the package of its recogniser."""

    lab: Lab
    store: Store
    packaged: Packaged
    bento: Bento
    samples: list[Sample]


def ship_recogniser(root: Path, weights: Path, starter: Path, ids: Sequence[str]) -> Shipped:
    """Evaluate the recogniser, pass it, and package it."""
    lab = make_lab(root, weights)
    fingerprint = evaluate_recogniser(lab, starter, ids)
    comparison = make_comparison("pass").model_copy(
        update={"evaluations": {"candidate": f"run-{RECOGNISER}", "baseline": "x"}, "run_id": "run-c"}
    )
    for name, content in {
        lab.home.comparisons / "run-c" / "comparison.json": comparison.model_dump_json(),
        map_path(lab.home, fingerprint): json.dumps(CALIBRATION_MAP),
    }.items():
        name.parent.mkdir(parents=True)
        name.write_text(content)
    store = Store(lab.home.root / "bentoml")
    packaged = package(lab, store, RECOGNISER, quiet)
    assert packaged.parity.passed, packaged.parity
    samples = parity_samples(lab, RECOGNISER, fingerprint, "asr")
    return Shipped(lab, store, packaged, store.get(packaged.tag), samples)


def make_lab(root: Path, weights: Path) -> Lab:
    """Make an empty lab with the shared weights."""
    (root / "home").mkdir(parents=True)
    (root / "home" / "weights").symlink_to(weights)
    return Lab(project=root, home_folder=root / "home", layout=Layout(workers=1, threads=1))


def evaluate_recogniser(lab: Lab, starter: Path, ids: Sequence[str], texts: Mapping[str, str] | None = None) -> str:
    """Transcribe recordings of the starter corpus and store it; gives the fingerprint.

    Args:
        lab: Where to.
        starter: The corpus.
        ids: Of the recordings.
        texts: Id → what to store in place of what was heard.
    """
    known = {row["id"]: row for row in map(json.loads, (starter / "manifest.jsonl").read_text().splitlines())}
    folder = lab.data / "mini"
    for name in ids:
        target = folder / known[name]["audio_filepath"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(starter / known[name]["audio_filepath"], target)
    (folder / "manifest.jsonl").write_text("".join(json.dumps(known[name]) + "\n" for name in ids))
    card = read_cards()[RECOGNISER]
    located = fetch(card, read_cards(), lab.home.weights, lambda line: None)
    placement = placement_of(card, threads=1)
    fingerprint = model_fingerprint(card, placement, located.sha256).digest
    engine = build_engine(card, located.folder, placement)
    predictions, rows = [], []
    for name in ids:
        path = folder / known[name]["audio_filepath"]
        transcript = engine.transcribe(decode(path).samples, language="en")
        if texts and name in texts:
            transcript = transcript.model_copy(update={"text": texts[name]})
        digest = file_sha256(path)
        predictions.append(
            Prediction(
                audio_sha256=digest,
                model_fingerprint=fingerprint,
                task="asr",
                language="en",
                audio_s=1.0,
                transcript=transcript,
                timing=Timing(inference_s=1.0, decode_s=0.1),
            )
        )
        rows.append({"id": name, "audio_filepath": known[name]["audio_filepath"], "audio_sha256": digest})
    PredictionStore(lab.home.predictions, fingerprint).add(predictions)
    write_evaluation(lab, RECOGNISER, "asr", fingerprint, [row | {"corpus": "mini", "language": "en"} for row in rows])
    return fingerprint


def evaluate_voice(lab: Lab) -> str:
    """Speak the prompts and store it; gives the fingerprint."""
    folder = lab.data / "prompts"
    folder.mkdir(parents=True)
    (folder / "corpus.yaml").write_text(
        "name: prompts\ntasks: [tts]\nnormalizer: whisper-english\nlicence: CC0-1.0\ndescription: Two.\n"
    )
    (folder / "manifest.jsonl").write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in PROMPTS.items()))
    card = read_cards()[VOICE]
    located = fetch(card, read_cards(), lab.home.weights, lambda line: None)
    placement = placement_of(card, threads=1)
    fingerprint = model_fingerprint(card, placement, located.sha256).digest
    engine = build_engine(card, located.folder, placement, "tts")
    store = SpeechStore(lab.home.speech, fingerprint)
    syntheses = []
    for text in PROMPTS.values():
        speech = engine.synthesize(text, language="en")
        syntheses.append(
            Synthesis(
                text_sha256=text_sha256(text),
                model_fingerprint=fingerprint,
                language="en",
                audio_sha256=keep_audio(speech, store.audio),
                audio_s=speech.duration_s,
                sample_rate_hz=speech.sample_rate_hz,
                timing=SpeechTiming(inference_s=1.0, first_audio_s=0.5),
            )
        )
    store.add(syntheses)
    rows = [{"id": i, "corpus": "prompts", "audio_filepath": "", "audio_sha256": "", "language": "en"} for i in PROMPTS]
    write_evaluation(lab, VOICE, "tts", fingerprint, rows)
    return fingerprint


def write_evaluation(lab: Lab, model: str, task: str, fingerprint: str, rows: Sequence[dict[str, str]]) -> None:
    """Write what packaging reads of an evaluation."""
    folder = lab.home.evaluations / f"run-{model}"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "predictions.parquet")
    evaluation = Evaluation(
        run_id=folder.name,
        model=model,
        task=task,
        corpora=(rows[0]["corpus"],),
        selection={},
        data_version="c0ffee",
        fingerprint=EvaluationFingerprint(
            model=fingerprint, corpora={}, data_version="c0ffee", normalizers={}, scorer="1", quarantined="", digest="ef"
        ),
        model_fingerprint={},
        environment={},
        metrics={},
        slices={},
        suspect_references=(),
        quarantined=(),
        unsupported={},
        predictions="",
        report="",
        timings=Timings(inferred=1, reused=0, wall_s=1.0, audio_s=1.0, inference_s=1.0, workers=1, threads=1),
        created_at="2026-11-23T00:00:00+00:00",
    )
    (folder / "evaluation.json").write_text(evaluation.model_dump_json())
