"""`modellab promote`, `approvals`, `approve` and `reject`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from modellab.commands.common import Json, TaskName, open_lab, run_watched
from modellab.commands.evaluation import EXIT_CODES, Model, task_named
from modellab.console import TerminalProgress, out, print_json

if TYPE_CHECKING:
    from pipelines.lab import Lab
    from registry.identity import Actor
    from registry.promotion import Promotion
    from registry.state import Request
    from serving.release import Released

app = typer.Typer(help="Requests for production that wait for somebody's word.", no_args_is_help=True)

By = Annotated[str | None, typer.Option("--by", help="Your name. Default: MODELLAB_USER.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the history.")]
RequestId = Annotated[str, typer.Argument(help="A request's id; see `modellab approvals list`.")]


def promote(
    model: Model,
    to: Annotated[Literal["candidate", "production", "archived"], typer.Option("--to", help="The stage.")],
    by: By = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, if you want to say.")] = "",
    task: TaskName = None,
    json_: Json = False,
) -> None:
    """Promote a model, on fresh evidence that is found or made: to candidate by the absolute rules.

    To production by a comparison with what is there, and then somebody else must approve. Exits with 1 where the rules say
    fail, 3 where they are inconclusive.
    """
    _, lab = open_lab()
    from pipelines.prepare import EvaluationRequest, check_request, task_of
    from registry.database import database_uri
    from registry.identity import identify, read_rules
    from registry.promotion import PromotionRequest, check_promotion
    from registry.stages import read_state

    actor = identify(by, os.environ)
    read_rules(lab.params).check(actor, "request")
    database_uri(lab)
    evaluation = EvaluationRequest(model=model, task=task_named(task))
    request = PromotionRequest(model=model, to=to, actor=actor, task=task_of(lab, evaluation), reason=reason)
    check_promotion(lab, request, read_state(lab))
    if to == "archived":
        from registry.history import open_history
        from registry.promotion import archive_model

        promotion = archive_model(lab, open_history(lab), request, read_state(lab))
    else:
        check_request(lab, evaluation)

        def work() -> Promotion:
            from flows.promote import promote as run

            return run(lab, request)

        promotion = run_watched(lab, work)
    if json_:
        print_json(promotion)
    else:
        _show_promotion(promotion)
    if promotion.outcome == "refused" and promotion.verdict is not None:
        raise typer.Exit(EXIT_CODES[promotion.verdict])


def approve(request: RequestId, reason: Reason, by: By = None, json_: Json = False) -> None:
    """Approve a request, and release it: package, parity, swap. Run it again if it was interrupted: it goes on."""
    _, lab = open_lab()
    from registry.identity import identify

    actor = identify(by, os.environ)
    # Outside the flow, so that a refusal does not wait for a server to start.
    found = _decide(lab, request, actor, reason)

    if found.state == "released":
        from registry.history import open_history
        from serving.release import BentoSteps
        from serving.release import release as finish

        released = finish(lab, open_history(lab), found.id, actor, BentoSteps(lab, TerminalProgress().say))
    else:

        def work() -> Released:
            from flows.release import release as run

            return run(lab, found.id, actor)

        released = run_watched(lab, work)
    if json_:
        print_json(released)
    else:
        _show_release(lab, released)


def reject(request: RequestId, reason: Reason, by: By = None, json_: Json = False) -> None:
    """Reject a request, or withdraw your own."""
    _, lab = open_lab()
    from registry.history import open_history
    from registry.identity import identify, read_rules
    from registry.requests import reject as run

    actor = identify(by, os.environ)
    rejected = run(open_history(lab), request, actor, reason, read_rules(lab.params))
    if json_:
        print_json(rejected)
    else:
        out.print(f"Request {rejected.id} is rejected; {rejected.model} stays as it was.", markup=False)


@app.command("list")
def list_requests(
    all_: Annotated[bool, typer.Option("--all", help="Also those that were decided.")] = False, json_: Json = False
) -> None:
    """List the requests that wait, with what makes one stale."""
    _, lab = open_lab()
    from registry.stages import read_state

    requests = [r for r in read_state(lab).requests.values() if all_ or r.state in ("open", "approved")]
    stale = _stale(lab, requests)
    if json_:
        print_json([{**request.model_dump(mode="json"), "stale": stale[request.id]} for request in requests])
        return
    if not requests:
        out.print("No request waits. One is opened by: modellab promote MODEL --to production")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "model", "task", "asked by", "when", "state"):
        table.add_column(heading, overflow="fold")
    for request in requests:
        state = "stale" if stale[request.id] and request.state in ("open", "approved") else request.state
        when = request.requested_at[:16].replace("T", " ")
        table.add_row(request.id, request.model, request.task, request.requested_by, when, state)
    out.print(table)


@app.command("show")
def show_request(request: RequestId, json_: Json = False) -> None:
    """Show one request: who asked, on what evidence, and whether it can still be approved."""
    _, lab = open_lab()
    from registry.requests import find_request
    from registry.stages import read_state

    found = find_request(read_state(lab), request)
    stale = _stale(lab, [found])[found.id]
    if json_:
        print_json({**found.model_dump(mode="json"), "stale": stale})
        return
    evidence = found.evidence
    held = f"against {evidence.production}" if evidence.production else "nothing was in production to compare with"
    out.print(f"[bold]{found.id}[/]  {found.state}")
    for line in (
        f"asks for {evidence.candidate} into production for {found.task}; {held}",
        f"asked by {found.requested_by} on {found.requested_at[:16]}" + (f": {found.reason}" if found.reason else ""),
        f"verdict: {evidence.verdict}; evidence {found.evidence_digest}",
        f"data {evidence.data_version}; policy {evidence.policy_digest[:12]}",
        f"report: {evidence.report}",
    ):
        out.print(line, markup=False)
    if found.decided_by:
        out.print(f"{found.state} by {found.decided_by} on {found.decided_at}: {found.decision}", markup=False)
    if found.failure:
        out.print(f"The release stopped: {found.failure}", markup=False)
    if stale:
        out.print(f"Stale: {stale}", markup=False)
    elif found.state == "open":
        out.print(f"Approve it with: modellab approve {found.id} --by NAME --reason TEXT", markup=False)


@app.command("serve")
def serve_requests(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 3100,
) -> None:
    """Serve the requests on loopback, for a proxy that names who is signed in (lifecycle.header in params.yaml)."""
    _, lab = open_lab()
    import uvicorn

    from modellab.approvals_http import create_app
    from serving.release import BentoSteps
    from serving.run import LOOPBACK, check_port

    check_port(port)
    say = TerminalProgress().say
    made = create_app(lab, BentoSteps(lab, say), say)
    say(f"Requests at http://{LOOPBACK}:{port}/requests. Ctrl-C ends it.")
    uvicorn.run(made, host=LOOPBACK, port=port, log_level="warning", proxy_headers=False)


def _decide(lab: Lab, request_id: str, actor: Actor, reason: str) -> Request:
    from registry.evidence import approve_on_evidence

    approved, fresh = approve_on_evidence(lab, request_id, actor, reason)
    TerminalProgress().say(f"{'Approved' if fresh else 'Approved before'} by {approved.decided_by}: {approved.decision}")
    return approved


def _stale(lab: Lab, requests: list[Request]) -> dict[str, str | None]:
    from registry.evidence import circumstances
    from registry.requests import staleness
    from registry.stages import read_state

    waiting = {request.task for request in requests if request.state in ("open", "approved")}
    state, now = read_state(lab), {task: circumstances(lab, task) for task in waiting}
    return {r.id: staleness(state, r, now[r.task]) if r.state in ("open", "approved") else None for r in requests}


def _show_release(lab: Lab, released: Released) -> None:
    from registry.stages import production_version, read_state

    replaced = f", in place of {released.replaced}" if released.replaced else ""
    now = production_version(read_state(lab), released.task)
    if now != released.production:
        out.print(f"{released.production} was released on {released.at[:16]}; {now} has come since.", markup=False)
        return
    since = f" since {released.at[:16]}" if released.already else ""
    out.print(f"{released.production} is in production for {released.task}{since}{replaced}.", markup=False)
    out.print(f"Serve it with: modellab serve {released.task}", markup=False)


def _show_promotion(promotion: Promotion) -> None:
    from modellab.commands.show import show_rules

    show_rules(promotion.rules)
    if promotion.verdict is not None:
        out.print(f"verdict: {promotion.verdict}", markup=False)
    if promotion.report:
        out.print(f"report: {promotion.report}", markup=False)
    told = {
        "promoted": f"{promotion.model} is a candidate for {promotion.task} ({promotion.registered}).",
        "archived": f"{promotion.model} is archived.",
        "bootstrapped": f"{promotion.model} is in production for {promotion.task} by its card; the history says so now.",
        "refused": f"{promotion.model} is not promoted.",
        "requested": "",
    }[promotion.outcome]
    if promotion.request is not None:
        told = (
            f"Request {promotion.request.id} waits for somebody else's word: "
            f"modellab approve {promotion.request.id} --by NAME --reason TEXT"
        )
    out.print(told, markup=False)
