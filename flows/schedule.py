"""Scheduled and ad-hoc regression runs as Prefect deployments: one at a time, each missed moment caught up once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock
from prefect import flow, get_run_logger
from prefect.deployments import arun_deployment
from prefect.runner import Runner
from prefect.schedules import Cron

from flows.compare import compare
from flows.evaluate import evaluate_within
from flows.release import decision_deployment
from flows.running import runner
from flows.steps import step
from models.errors import LabError
from pipelines import regression
from pipelines.compare import ComparisonRequest
from pipelines.decision import RuleResult
from pipelines.evaluate import Evaluated
from pipelines.lab import Lab
from pipelines.pinned import at_revision
from pipelines.policy import Policy, read_policy
from pipelines.prepare import EvaluationRequest
from pipelines.regression import Regression
from pipelines.schedule import (
    Checks,
    RunRecord,
    ScheduleParams,
    begin_serving,
    due_slot,
    read_record,
    read_schedule,
    write_record,
)
from registry.alerts import raise_alerts
from registry.watch import CANDIDATE, Compared, RunSummary, Watched, keep_summary, watched

AD_HOC = "ad hoc"
AD_HOC_DEPLOYMENT = "regression-now"
FLOW, AD_HOC_FLOW = "regression", "regression now"
TAGS = ["modellab"]


class Form(Checks, use_attribute_docstrings=True):
    """What an ad-hoc run does, as filled into the form of Prefect's interface."""

    models: tuple[str, ...] = ()
    """Cards to evaluate; none for production and the candidates."""


@flow(name=FLOW, flow_run_name="{schedule}", persist_result=False)
def scheduled_flow(lab: Lab, schedule: str) -> RunSummary | None:
    """Do a scheduled run if one is due; several that were missed are done as one."""
    params = read_schedule(lab.params)
    chosen = params.find(schedule)
    with one_at_a_time(lab):
        record = read_record(lab.home, schedule) or RunRecord(since=datetime.now(UTC))
        slot = due_slot(chosen.cron, params.timezone, record, datetime.now(UTC))
        if slot is None:
            get_run_logger().info("Nothing is due: %s ran at %s", schedule, record.finished_at)
            return None
        checks = Checks.model_validate(chosen.model_dump(exclude={"cron"}))
        summary = run_checks(lab, schedule, checks, watched(lab), f"{schedule}-{slot:%Y%m%dT%H%M}")
        done = {"slot": slot, "finished_at": datetime.now(UTC), "outcome": summary.line}
        write_record(lab.home, schedule, record.model_copy(update=done))
    return summary


@flow(name=AD_HOC_FLOW, flow_run_name="ad hoc", persist_result=False)
def ad_hoc_flow(lab: Lab, form: Form) -> RunSummary:
    """Do a run now, as filled into the form; no schedule is touched."""
    checks = Checks.model_validate(form.model_dump(exclude={"models"}))
    with one_at_a_time(lab):
        return run_checks(lab, AD_HOC, checks, watched(lab, form.models), f"ad-hoc-{datetime.now(UTC):%Y%m%dT%H%M%S}")


def one_at_a_time(lab: Lab) -> FileLock:
    """Keep runs from overlapping, also those of two processes; the system frees it when a process dies."""
    lab.home.schedules.mkdir(parents=True, exist_ok=True)
    return FileLock(lab.home.schedules / ".running")


def run_checks(lab: Lab, name: str, checks: Checks, models: Sequence[Watched], key: str) -> RunSummary:
    """Evaluate models, hold each against its known-good evaluation, and raise alerts about production.

    Args:
        lab: The project.
        name: Of the run.
        checks: What to do.
        models: Whom to evaluate.
        key: Of this run: one that is continued after a kill has the same, and infers nothing twice.
    """
    log = get_run_logger()
    began = regression.now_text()
    fresh = lab.home.schedules / "anew" / key
    findings: list[Regression] = []
    comparisons: list[Compared] = []
    try:
        here = at_revision(lab, checks.data_rev, checks.corpora, log.info)
    except LabError as error:
        # Nobody can be evaluated: that production cannot be seen is an alert too.
        findings = [regression.not_evaluated(one.task, one.model, one.role, str(error)) for one in models]
        log.error("%s", error)
    else:
        if checks.anew:
            here = here.model_copy(update={"computed_folder": fresh})
        for one in models:
            if (found := check_model(here, one, checks)) is None:
                log.info("%s: no corpus is for %s", one.model, one.task)
                continue
            log.info("%s, %s for %s: %s. %s", one.model, one.role, one.task, found.verdict, found.reason)
            findings.append(found)
        candidates = [one for one in models if checks.compare and one.role == CANDIDATE]
        comparisons = [judged for one in candidates if (judged := compare_candidate(here, one, checks)) is not None]
    alerts = raise_alerts(lab, findings, name, warn=log.error)
    summary = RunSummary(
        schedule=name,
        began_at=began,
        findings=tuple(findings),
        comparisons=tuple(comparisons),
        alerts=tuple(kept.alert for kept in alerts),
    )
    keep_summary(lab.home, summary)
    shutil.rmtree(fresh, ignore_errors=True)
    return summary


def check_model(lab: Lab, one: Watched, checks: Checks) -> Regression | None:
    """Evaluate one model and say whether it got worse; one that cannot be evaluated does not stop the others.

    None where the corpora are for other tasks.
    """
    try:
        fitting = checks.for_task(lab, one.task)
        if fitting is None:
            return None
        request = EvaluationRequest(
            model=one.model, task=one.task, corpora=fitting.corpora, slices=checks.slices, limit=checks.limit
        )
        policy = read_policy(lab.params, one.task)
        regression.rules_against_itself(policy)
        newest = evaluate_within(lab, request)
        return judge(lab, one, request, newest, policy)
    except LabError as error:
        return regression.not_evaluated(one.task, one.model, one.role, str(error))
    except Exception as error:  # whatever it is: the others are evaluated, and production's blindness is told
        get_run_logger().exception("%s could not be evaluated", one.model)
        return regression.not_evaluated(one.task, one.model, one.role, f"{type(error).__name__}: {error}")


@step("judge")
def write_down(
    lab: Lab,
    one: Watched,
    request: EvaluationRequest,
    newest: Evaluated,
    known: regression.KnownGood | None,
    against: tuple[RuleResult, ...] | None,
    policy: Policy,
) -> Regression:
    """Put the finding together, and note the evaluation as known good if it is."""
    found = regression.conclude(one.role, newest, known, against, policy)
    if regression.becomes_known_good(found, against):
        regression.keep_known_good(lab.home, request, one.task, regression.known_good_of(newest.evaluation))
    return found


def judge(lab: Lab, one: Watched, request: EvaluationRequest, newest: Evaluated, policy: Policy) -> Regression:
    """Hold an evaluation against the known-good one, on the data of that."""
    kept = regression.read_known_good(lab.home, request, one.task)
    if kept is None:
        return write_down(lab, one, request, newest, None, (), policy)
    known, before = kept
    then: Evaluated | None = newest
    if not regression.same_data(newest.evaluation, known):
        then = evaluate_then(lab, request, known)
    against = None
    if then is not None:
        against = regression.judge_against(then, before, regression.known_scores(before), policy)
    return write_down(lab, one, request, newest, known, against, policy)


def evaluate_then(lab: Lab, request: EvaluationRequest, known: regression.KnownGood) -> Evaluated | None:
    """Evaluate on the data of the known-good evaluation; None where that data is not to be had any more."""
    if known.data_commit is None:
        return None
    try:
        earlier = at_revision(lab, known.data_commit, request.corpora, get_run_logger().info)
        then = evaluate_within(earlier, request)
    except LabError as error:
        get_run_logger().warning("The data of the known-good evaluation: %s", error)
        return None
    return then if regression.same_data(then.evaluation, known) else None


def compare_candidate(lab: Lab, one: Watched, checks: Checks) -> Compared | None:
    """Compare a candidate with production by the gate; None where the corpora are for other tasks."""
    try:
        fitting = checks.for_task(lab, one.task)
        if fitting is None:
            return None
        request = ComparisonRequest(
            candidate=one.model, task=one.task, corpora=fitting.corpora, slices=checks.slices, limit=checks.limit
        )
        found = compare(lab, request)
    except LabError as error:
        return Compared(candidate=one.model, task=one.task, verdict=f"inconclusive: {error}", report="")
    return Compared(candidate=one.model, task=one.task, verdict=found.verdict, report=found.report)


def deployments(lab: Lab, params: ScheduleParams) -> list[Any]:
    """Make the deployments: one for each scheduled run, one to start by hand, and the form that decides on a release."""
    told = lab.model_dump(mode="json")
    made: list[Any] = [
        scheduled_flow.with_options(task_runner=runner(lab)).to_deployment(
            name=name,
            description=f"Regression of production and candidates ({schedule.cron}, {params.timezone}).",
            schedule=Cron(schedule.cron, timezone=params.timezone),
            parameters={"lab": told, "schedule": name},
            concurrency_limit=1,
            tags=TAGS,
        )
        for name, schedule in params.runs.items()
    ]
    made.append(
        ad_hoc_flow.with_options(task_runner=runner(lab)).to_deployment(
            name=AD_HOC_DEPLOYMENT,
            description="The same at once, with corpora and models of your choice.",
            parameters={"lab": told, "form": Form().model_dump(mode="json")},
            concurrency_limit=1,
            tags=TAGS,
        )
    )
    made.append(decision_deployment(lab))
    places = {FLOW: "scheduled_flow", AD_HOC_FLOW: "ad_hoc_flow"}
    for deployment in made:
        # By module and not by file: runs start in whatever folder the server is told of.
        place = places.get(deployment.flow_name)
        deployment.entrypoint = f"flows.schedule.{place}" if place else "flows.release.decision_flow"
    return made


def serve(lab: Lab, params: ScheduleParams, *, run_once: bool = False) -> list[str]:
    """Serve the deployments until interrupted; one run at a time over all of them.

    Args:
        lab: The project.
        params: What runs when.
        run_once: For tests: take what is waiting once, and come back.

    Returns:
        The scheduled runs that were missed and are caught up, once each.
    """
    import asyncio

    # Made here, for inside a running loop Prefect would give coroutines.
    return asyncio.run(_serve(lab, params, deployments(lab, params), run_once))


async def _serve(lab: Lab, params: ScheduleParams, made: Sequence[Any], run_once: bool) -> list[str]:
    server = Runner(name="modellab", limit=1, pause_on_shutdown=not run_once)
    missed = begin_serving(lab.home, params, datetime.now(UTC))
    for deployment in made:
        await server.aadd_deployment(deployment)
    for name in missed:
        await arun_deployment(f"{FLOW}/{name}", timeout=0, as_subflow=False, flow_run_name=f"{name}, caught up")
    await server.start(run_once=run_once)
    return missed
