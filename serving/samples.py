"""What a parity check asks for: a sample of the evaluations of exactly this model, from the stores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.audio import file_sha256
from models.errors import CorpusError, StateError
from models.types import Task
from pipelines.decision import Comparison
from pipelines.home import Home
from pipelines.lab import Lab
from pipelines.prompts import Prompt, find_prompts
from pipelines.speech_store import SpeechStore, audio_path, text_sha256
from pipelines.store import PredictionStore, prediction_key
from pipelines.types import Evaluation
from serving.parity import HeardSample, Sample, SpokenSample

SAMPLE = 12
"""Items a check asks for, unless told otherwise."""


def evaluations_of(home: Home, fingerprint: str) -> Iterator[Evaluation]:
    """Read the evaluations of one version of a model, the newest first."""
    for path in sorted(home.evaluations.glob("*/evaluation.json"), key=lambda p: p.stat().st_mtime, reverse=True):
        text = path.read_text(encoding="utf-8")
        if fingerprint not in text:  # most are of other models, and parsing them takes longer
            continue
        try:
            evaluation = Evaluation.model_validate_json(text)
        except ValidationError:  # written by another version of modellab
            continue
        if evaluation.fingerprint.model == fingerprint:
            yield evaluation


def newest_comparison(home: Home, fingerprint: str) -> Comparison | None:
    """Find the newest comparison, on all data, in which this version of a model was the candidate."""
    runs = {evaluation.run_id for evaluation in evaluations_of(home, fingerprint) if not evaluation.selection}
    found = []
    for path in home.comparisons.glob("*/comparison.json") if runs else ():
        try:
            comparison = Comparison.model_validate_json(path.read_bytes())
        except ValidationError:  # as above
            continue
        if comparison.evaluations.get("candidate") in runs:
            found.append(comparison)
    return max(found, key=lambda comparison: comparison.created_at, default=None)


def parity_samples(lab: Lab, model: str, fingerprint: str, task: Task, count: int = SAMPLE) -> list[Sample]:
    """Choose items of the newest evaluation, and of earlier ones where it has too few; always the same ones of the same.

    Args:
        lab: Whose stores to use.
        model: The card's name, for messages.
        fingerprint: Of the model.
        task: ``asr`` or ``tts``.
        count: Items at most.

    Raises:
        StateError: This version of the model was not evaluated, or none of what was evaluated is here any more.
    """
    samples: dict[str, Sample] = {}
    for evaluation in evaluations_of(lab.home, fingerprint):
        rows = _rows(lab.home.evaluations / evaluation.run_id / "predictions.parquet")
        left = count - len(samples)
        found = _heard(lab, fingerprint, rows, left) if task == "asr" else _spoken(lab, fingerprint, rows, left)
        samples |= {sample.id: sample for sample in found}
        if len(samples) >= count:
            break
    if samples:
        return list(samples.values())
    raise StateError(
        f"Nothing is here of what {model} answered in an evaluation of exactly this version ({fingerprint[:12]}), or the "
        "data is gone, so parity cannot be checked.",
        f"Run: modellab evaluate {model}",
    )


def _rows(path: Path) -> Sequence[dict[str, Any]]:
    import pyarrow.parquet as pq

    if not path.is_file():
        return ()
    rows = pq.read_table(path, columns=["id", "corpus", "audio_filepath", "audio_sha256", "language"]).to_pylist()
    return sorted(rows, key=lambda row: hashlib.sha256(f"{row['corpus']}/{row['id']}".encode()).hexdigest())


def _heard(lab: Lab, fingerprint: str, rows: Sequence[dict[str, Any]], count: int) -> list[Sample]:
    store = PredictionStore(lab.home.predictions, fingerprint)
    keys = [prediction_key(row["audio_sha256"], "asr", row["language"]) for row in rows]
    known = store.load(keys)
    samples: list[Sample] = []
    for row, key in zip(rows, keys, strict=True):
        within = lab.data if (lab.data / row["corpus"]).is_dir() else lab.derived
        path = within / row["corpus"] / row["audio_filepath"]
        prediction = known.get(key)
        if prediction is None or not path.is_file() or file_sha256(path) != row["audio_sha256"]:
            continue
        name = f"{row['corpus']}/{row['id']}"
        samples.append(HeardSample(name, path, prediction.language, prediction.transcript.text))
        if len(samples) == count:
            break
    return samples


def _spoken(lab: Lab, fingerprint: str, rows: Sequence[dict[str, Any]], count: int) -> list[Sample]:
    texts: dict[tuple[str, str], Prompt] = {}
    for corpus in {row["corpus"] for row in rows}:
        with suppress(CorpusError):  # it is gone; the others are asked for
            texts |= {(corpus, prompt.id): prompt for prompt in find_prompts(corpus, lab.data).prompts}
    prompts = [(row["corpus"], texts[key]) for row in rows if (key := (row["corpus"], row["id"])) in texts]
    store = SpeechStore(lab.home.speech, fingerprint)
    known = store.load((text_sha256(prompt.text), prompt.language) for _, prompt in prompts)
    samples: list[Sample] = []
    for corpus, prompt in prompts:
        synthesis = known.get((text_sha256(prompt.text), prompt.language))
        if synthesis is None or synthesis.audio_sha256 is None:
            continue
        path = audio_path(store.audio, synthesis.audio_sha256)
        if path.is_file():
            samples.append(SpokenSample(f"{corpus}/{prompt.id}", prompt.text, path))
        if len(samples) == count:
            break
    return samples
