"""Writing the evaluation of a voice down; the counterpart of `pipelines.record`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines import tracking
from pipelines.dataversion import version_of
from pipelines.evaluate import Evaluated, Gathered, applied_normalizers, conclude, fingerprint_from, item_id
from pipelines.home import write_atomically
from pipelines.inference import ShardResult
from pipelines.lab import Lab
from pipelines.listen import Spoken, score_speech
from pipelines.policy import Policy
from pipelines.prepare import Prepared
from pipelines.prompts import prompt_digest
from pipelines.record import write_plots, write_predictions
from pipelines.report.side import Prompted, Side
from pipelines.scores import UtteranceScore
from pipelines.speech_store import Synthesis
from pipelines.synthesize import PreparedSpeech
from pipelines.takes import take_spread
from pipelines.types import EvaluationFingerprint
from pipelines.validate.attach import with_validations


def record_speech(
    lab: Lab,
    prepared: PreparedSpeech,
    spoken: Spoken,
    listening: Prepared,
    gathered: Gathered,
    measures: Mapping[str, Mapping[str, float]],
    results: Sequence[ShardResult[Synthesis]],
    policy: Policy,
    started: float,
    takes: Sequence[Sequence[UtteranceScore]] = (),
) -> Evaluated:
    """Score, and write everything into the run's folder and MLflow.

    Args:
        lab: Where to write.
        prepared: The request, resolved.
        spoken: The syntheses.
        listening: Who heard them.
        gathered: What was heard.
        measures: Item's id → measures of its audio.
        results: Of the shards synthesised in this run.
        policy: Gives level, resamples and seed of the intervals.
        started: ``time.perf_counter()`` when the evaluation began.
        takes: Scores of each take, of a voice that draws at random.

    Raises:
        StateError: MLflow or the home cannot be written.
    """
    from pipelines.report.evaluation import render_evaluation
    from pipelines.report.plots import evaluation_plots

    scores = score_speech(gathered, spoken, measures)
    fingerprint = speech_fingerprint(prepared, listening, gathered, version_of(lab))
    client = tracking.connect(lab)
    with tracking.tracked_run(client, lab, tracking.EVALUATIONS, prepared.card.name) as run_id:
        folder = lab.home.evaluations / run_id
        evaluation = conclude(
            lab,
            prepared,
            gathered,
            scores,
            results,
            policy,
            fingerprint=fingerprint,
            more_metrics={},
            suspects=(),
            unsupported=[item.prompt.language for item in prepared.unsupported],
            run_id=run_id,
            folder=folder,
            wall_s=time.perf_counter() - started,
        ).model_copy(update={"takes": take_spread(takes) if takes else None})
        evaluation = with_validations(lab.home, evaluation, folder)
        write_predictions(Path(evaluation.predictions), gathered, scores)
        write_atomically(folder / "evaluation.json", evaluation.model_dump_json(indent=2))
        plots = evaluation_plots(evaluation, scores)
        page = render_evaluation(evaluation, scores, audio_of(gathered), plots, prompted(prepared, gathered))
        write_atomically(Path(evaluation.report), page)
        write_plots(plots, folder)
        tracking.log_evaluation(client, evaluation, gathered.items)
        client.log_artifacts(run_id, str(folder))
    return Evaluated(evaluation, scores, prepared, gathered)


def side_of(evaluated: Evaluated, scores: Sequence[UtteranceScore]) -> Side:
    """Give a comparison's page what it shows of one model, a recogniser's or a voice's.

    Args:
        evaluated: The model.
        scores: Those that are compared.
    """
    prepared = evaluated.prepared
    prompts = prompted(prepared, evaluated.gathered) if isinstance(prepared, PreparedSpeech) else {}
    return Side(evaluated.evaluation, scores, audio_of(evaluated.gathered), prompts)


def audio_of(gathered: Gathered) -> dict[str, Path]:
    """Item's id → file, of those that have one."""
    return {item_id(item): item.path for item in gathered.items if item.audio_sha256}


def prompted(prepared: PreparedSpeech, gathered: Gathered) -> dict[str, Prompted]:
    """Item's id → what the voice was given, and whether it refused it."""
    return {item.id: Prompted(item.prompt.text, gathered.refusals.get(item.id)) for item in prepared.items}


def speech_fingerprint(
    prepared: PreparedSpeech, listening: Prepared, gathered: Gathered, version: str
) -> EvaluationFingerprint:
    """Say what another voice's evaluation must share to be compared with this one: who listened, too."""
    from pipelines.speech.measures import MEASURES_VERSION

    items = (*prepared.items, *prepared.unsupported)
    return fingerprint_from(
        model=prepared.fingerprint.digest,
        corpora={
            name: prompt_digest(
                (i.prompt for i in items if i.corpus == name),
                {i.prompt.id: i.reference.sha256 for i in items if i.corpus == name and i.reference is not None},
            )
            for name in prepared.corpora
        },
        data_version=version,
        normalizers=applied_normalizers((item.id, item.normalizer) for item in items),
        quarantined=gathered.quarantined,
        recogniser=f"{listening.card.name} {listening.fingerprint.digest}",
        measures=MEASURES_VERSION,
    )
