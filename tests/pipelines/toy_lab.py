"""A project of toys: cards, corpora and what is said to have been heard, without starting a process."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile
import yaml

from models.types import Transcript
from pipelines.evaluate import Gathered, conclude, fingerprint_of, gather, score
from pipelines.inference import Job, ShardResult, WorkerReport
from pipelines.lab import Lab, Layout
from pipelines.policy import Policy
from pipelines.prepare import EvaluationRequest, Prepared, prepare
from pipelines.types import Evaluation, EvaluationFingerprint, Prediction, Timing
from tests.pipelines.toy_engine import toy_card, write_corpus

POLICY = Policy.model_validate({"resamples": 200, "rules": [{"name": "r", "kind": "absolute", "metric": "wer", "max": 1}]})
CONFIG = "name: calls\nnormalizer: {default: whisper-english, rules: [{when: {domain: digits}, use: digits}]}"


class Desk:
    """A project with the toy's card and a corpus, and what the toy is said to have heard."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lab = Lab(
            project=root,
            home_folder=root / "home",
            card_folders=(root / "cards",),
            layout=Layout(workers=1, threads=1),
        )
        self.card()
        (root / "params.yaml").write_text(yaml.safe_dump({"gate": POLICY.model_dump(mode="json")}))

    def card(self, name: str = "toy", **changes: Any) -> None:
        """Write a card, with a scratch folder of its own; the toy's again if it is not named."""
        card = toy_card(self.root / name, name=name, **changes)
        (self.root / "cards").mkdir(exist_ok=True)
        (self.root / "cards" / f"{name}.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json")))

    def corpus(self, rows: Sequence[Mapping[str, Any]], config: str | None = CONFIG, name: str = "calls") -> Path:
        """Write a corpus anew."""
        shutil.rmtree(self.root / "data" / name, ignore_errors=True)
        return write_corpus(self.root / "data" / name, rows, config)

    def prepare(self, model: str = "toy", **request: Any) -> Prepared:
        return prepare(self.lab, EvaluationRequest(model=model, **request), lambda line: None)

    def heard(
        self, prepared: Prepared, texts: Mapping[str, str] = {}, failing: Sequence[str] = (), **worker: Any
    ) -> ShardResult:
        """A shard with everything planned; a recording not named is heard as its reference."""
        references = {item.path: item.utterance.text for item in prepared.selection.items}
        jobs = [job for shard in prepared.plan.shards for job in shard]
        good = [job for job in jobs if job.path.stem not in failing]
        predictions = [self.prediction(prepared, job, texts.get(job.path.stem, references[job.path])) for job in good]
        failures = [(job.audio_sha256, f"{job.path.name} is bad.") for job in jobs if job not in good]
        report = {"pid": 1, "load_s": 1.0, "peak_mib": 100.0, **worker}
        return ShardResult(tuple(predictions), tuple(failures), (WorkerReport(**report),))

    @staticmethod
    def prediction(prepared: Prepared, job: Job, text: str) -> Prediction:
        return Prediction(
            audio_sha256=job.audio_sha256,
            model_fingerprint=prepared.fingerprint.digest,
            task=prepared.task,
            language=job.language,
            audio_s=soundfile.info(job.path).duration,
            transcript=Transcript(text=text),
            timing=Timing(inference_s=0.25, decode_s=0.01),
        )

    def gather(
        self, texts: Mapping[str, str] = {}, failing: Sequence[str] = (), **request: Any
    ) -> tuple[Prepared, Gathered]:
        prepared = self.prepare(**request)
        return prepared, gather(prepared, [self.heard(prepared, texts, failing)])

    def fingerprint(self, failing: Sequence[str] = (), version: str = "v1", **request: Any) -> EvaluationFingerprint:
        return fingerprint_of(*self.gather(failing=failing, **request), version)

    def conclude(self, prepared: Prepared, results: Sequence[ShardResult]) -> Evaluation:
        gathered = gather(prepared, results)
        return conclude(
            self.lab,
            prepared,
            gathered,
            score(gathered),
            results,
            POLICY,
            fingerprint=fingerprint_of(prepared, gathered, "v1"),
            more_metrics={},
            suspects=(),
            unsupported=[item.utterance.language for item in prepared.selection.unsupported],
            run_id="run",
            folder=self.root / "run",
            wall_s=2.0,
        )
