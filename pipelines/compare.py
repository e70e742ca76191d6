"""A candidate against a baseline: pair their utterances, check that they can be compared, and decide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from models.errors import CardError
from models.types import Record, Task
from pipelines import tracking
from pipelines.decision import Comparison, RuleResult, SignificanceTest, Verdict
from pipelines.duel import Duel, Entry, duel_entries, duel_path, load_duel, run_duel
from pipelines.environment import hardware_digest
from pipelines.evaluate import Evaluated, item_id
from pipelines.gate import Evidence, decide
from pipelines.home import write_atomically
from pipelines.inference import Job, SpeakJob
from pipelines.lab import Lab
from pipelines.policy import Policy
from pipelines.prepare import EvaluationRequest, check_request, with_threads
from pipelines.progress import listener
from pipelines.record import write_plots
from pipelines.record_speech import side_of
from pipelines.scores import ScoreTable, UtteranceScore
from pipelines.significance import significance_tests
from pipelines.synthesize import PreparedSpeech
from pipelines.types import Evaluation

PRODUCTION = "production"


class ComparisonRequest(Record):
    """What to compare, as typed on the command line or given to the flow."""

    candidate: str
    """Card of the model that wants in."""
    baseline: str = PRODUCTION
    """Card it is held against; ``production`` for the model that is there now."""
    corpora: tuple[str, ...] = ()
    """As `EvaluationRequest.corpora`."""
    slices: tuple[str, ...] = ()
    """As `EvaluationRequest.slices`."""
    limit: int | None = None
    """As `EvaluationRequest.limit`."""
    device: str | None = None
    """Device of both models."""
    normalizer: str | None = None
    """As `EvaluationRequest.normalizer`."""
    task: Task | None = None
    """As `EvaluationRequest.task`."""

    def evaluation_of(self, model: str) -> EvaluationRequest:
        """The request that evaluates one of the two."""
        return EvaluationRequest(
            model=model,
            corpora=self.corpora,
            slices=self.slices,
            limit=self.limit,
            device=self.device,
            normalizer=self.normalizer,
            task=self.task,
        )


def check_comparison(lab: Lab, request: ComparisonRequest) -> None:
    """Refuse a comparison that cannot be made before anything is started for it.

    Raises:
        CardError: A model is unknown, or is compared with itself.
        CorpusError: A corpus is unknown or broken, or the slice is empty.
        PolicyError: ``params.yaml`` is wrong.
    """
    if request.candidate == request.baseline:
        raise CardError(
            f"{request.candidate} would be compared with itself.",
            "Name another candidate, or another model by --against.",
        )
    check_request(lab, request.evaluation_of(request.candidate))
    if request.baseline != PRODUCTION:
        check_request(lab, request.evaluation_of(request.baseline))


def timed_entries(candidate: Evaluated, baseline: Evaluated) -> list[Entry]:
    """What both models have been evaluated on, as it can be timed: recordings, or texts with something to say."""
    shared = {item_id(item) for item in baseline.gathered.items} & {item_id(item) for item in candidate.gathered.items}
    if isinstance(candidate.prepared, PreparedSpeech):
        folder = candidate.prepared.store.audio
        return [
            Entry(item.key[0], len(item.prompt.text), SpeakJob(item.prompt.text, item.prompt.language, folder))
            for item in candidate.prepared.items
            if item.id in shared and item.prompt.text.strip()
        ]
    return [
        Entry(
            item.audio_sha256,
            item.utterance.duration,
            Job(item.audio_sha256, item.path, item.utterance.language, item.utterance.duration),
        )
        for item in candidate.gathered.items
        if item_id(item) in shared
    ]


def measure_speed(lab: Lab, candidate: Evaluated, baseline: Evaluated, count: int) -> Duel | None:
    """Time both models in turn on so many entries that both have, or take the duel kept for exactly this pair.

    None where they share nothing.
    """
    items = duel_entries(timed_entries(candidate, baseline), count)
    if not items:
        return None
    threads = lab.layout.workers * lab.layout.threads
    specs = with_threads(candidate.prepared.spec, threads), with_threads(baseline.prepared.spec, threads)
    hardware = hardware_digest()
    path = duel_path(lab.home.duels, specs[0].fingerprint, specs[1].fingerprint, hardware, threads, items)
    kept = load_duel(path)
    if kept is not None:
        return kept
    progress = listener.get()
    progress.start("Timing both in turn", 2 * len(items))
    try:
        return run_duel(*specs, items, hardware, path, lambda done, total: progress.advance(1))
    finally:
        progress.finish()


def pair_scores(
    candidate: Sequence[UtteranceScore], baseline: Sequence[UtteranceScore]
) -> tuple[list[UtteranceScore], list[UtteranceScore]]:
    """Keep the utterances that both have, in the candidate's order."""
    theirs = {score.id: score for score in baseline}
    ours = [score for score in candidate if score.id in theirs]
    return ours, [theirs[score.id] for score in ours]


def preconditions(candidate: Evaluation, baseline: Evaluation, paired: int) -> tuple[RuleResult, ...]:
    """Say whether the comparison can be made at all."""
    ours, theirs = candidate.fingerprint, baseline.fingerprint
    alike = ("corpora", "normalizers", "scorer", "quarantined", "recogniser", "measures")
    differing = [name for name in alike if getattr(ours, name) != getattr(theirs, name)]
    left_out = len(candidate.quarantined)
    uncovered = {lang: n for lang, n in candidate.unsupported.items() if lang not in baseline.unsupported}
    missing = ", ".join(f"{lang} ({n})" for lang, n in sorted(uncovered.items()))
    return (
        condition(
            "same data and scoring",
            not differing,
            paired,
            "Both were evaluated on the same data, references and normalizers.",
            f"The evaluations differ in {', '.join(differing)}, so their numbers cannot be compared.",
        ),
        condition(
            "nothing left out",
            not left_out,
            paired,
            "Nothing was quarantined.",
            f"{left_out} item(s) were quarantined: mend or remove them, for they might have decided.",
        ),
        condition(
            "languages covered",
            not uncovered,
            paired,
            "The candidate takes every language of the data that the baseline takes.",
            f"The candidate does not take {missing}, which the baseline does.",
        ),
    )


def condition(name: str, holds: bool, n: int, held: str, broken: str) -> RuleResult:
    """Word one precondition of a decision; where it does not hold nothing is shown, so the verdict is inconclusive."""
    verdict: Verdict = "pass" if holds else "inconclusive"
    return RuleResult(
        rule=name, kind="precondition", metric="utterances", slice="all", verdict=verdict, candidate=None, baseline=None,
        delta=None, ci_low=None, ci_high=None, margin=None, n=n, reason=held if holds else broken,
    )  # fmt: skip


def conclude_comparison(
    lab: Lab, candidate: Evaluated, baseline: Evaluated, duel: Duel | None, policy: Policy
) -> Comparison:
    """Decide, write the report, and log to MLflow."""
    from pipelines.report.comparison import render_comparison
    from pipelines.report.comparison_plots import comparison_plots

    ours, theirs = pair_scores(candidate.scores, baseline.scores)
    evidence = Evidence(
        candidate=ScoreTable.build(list(candidate.scores)),
        paired_candidate=ScoreTable.build(ours),
        paired_baseline=ScoreTable.build(theirs),
        preconditions=preconditions(candidate.evaluation, baseline.evaluation, len(ours)),
        duel=duel,
    )
    decision = decide(policy, evidence)
    tests = significance_tests(ours, theirs) if candidate.evaluation.task == "asr" else ()
    client = tracking.connect(lab)
    name = f"{candidate.evaluation.model} against {baseline.evaluation.model}"
    with tracking.tracked_run(client, lab, tracking.COMPARISONS, name) as run_id:
        folder = lab.home.comparisons / run_id
        comparison = Comparison(
            run_id=run_id,
            candidate=candidate.evaluation.model,
            baseline=baseline.evaluation.model,
            verdict=decision.verdict,
            rules=decision.rules,
            policy_digest=decision.policy_digest,
            evaluations={"candidate": candidate.evaluation.run_id, "baseline": baseline.evaluation.run_id},
            data_version=candidate.evaluation.data_version,
            significance=tests,
            notes=notes(candidate.evaluation, baseline.evaluation, len(ours), duel, tests),
            report=str(folder / "report.html"),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        plots = comparison_plots(comparison, candidate.evaluation, baseline.evaluation, ours, theirs)
        page = render_comparison(comparison, side_of(candidate, ours), side_of(baseline, theirs), plots)
        write_atomically(Path(comparison.report), page)
        write_atomically(folder / "comparison.json", comparison.model_dump_json(indent=2))
        write_plots(plots, folder)
        if duel is not None:
            write_atomically(folder / "duel.json", duel.model_dump_json(indent=1))
        tracking.log_comparison(client, comparison, folder)
    return comparison


def without_baseline(request: ComparisonRequest, policy: Policy, reason: str) -> Comparison:
    """Answer a comparison that has nothing to compare with: inconclusive, never a pass."""
    return Comparison(
        run_id="",
        candidate=request.candidate,
        baseline=request.baseline,
        verdict="inconclusive",
        rules=(condition("a baseline", False, 0, "", reason),),
        policy_digest=policy.digest,
        evaluations={},
        data_version="",
        notes=(),
        report="",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def notes(
    candidate: Evaluation, baseline: Evaluation, paired: int, duel: Duel | None, tests: Sequence[SignificanceTest]
) -> tuple[str, ...]:
    """Say what a reader must know beside the rules."""
    things = "prompts" if candidate.task == "tts" else "recordings"
    told = [f"{paired} {things} are compared pair by pair."]
    for evaluation, role in ((candidate, "candidate"), (baseline, "baseline")):
        for language, count in sorted(evaluation.unsupported.items()):
            told.append(f"The {role} does not take {language}: {count} {things} of it were left out for it.")
    for test in tests:
        name = test.test[:1].upper() + test.test[1:]
        told.append(
            f"{name}, over {test.over}: {test.candidate_errors} errors against {test.baseline_errors} in {test.n}, "
            f"z = {test.z:+.2f}, p = {test.p_value:.3f} if the two were equal."
        )
    if duel is not None:
        threads = "1 thread" if duel.threads == 1 else f"{duel.threads} threads"
        told.append(
            f"Speed was measured side by side on {duel.measured_at}, one process of {threads} a model, "
            f"{len(duel.timings)} timings each, warm-up left out."
        )
    return tuple(told)
