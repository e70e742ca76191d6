"""Approvals over HTTP, for a proxy in front that signs people in and names them in a header.

Listens on loopback only. Whoever reaches the port past the proxy can claim any name, as on the command line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from models.errors import LabError
from models.types import Record
from pipelines.lab import Lab
from registry import evidence, requests
from registry.history import open_history
from registry.identity import Actor, RefusedError, named, read_rules
from registry.stages import read_state
from registry.state import Request as Asked
from serving.release import Steps, release

Say = Callable[[str], None]


class Word(Record):
    """What is sent with a decision."""

    reason: str = Field(min_length=1, max_length=2000)
    """Why; it stands in the history."""


def header_of(lab: Lab) -> str:
    """Name of the header that the proxy sets.

    Raises:
        RefusedError: ``params.yaml`` names none, so that nobody could be told from anybody.
        PolicyError: ``params.yaml`` is wrong.
    """
    header = read_rules(lab.params).header
    if header is None:
        raise RefusedError(
            "params.yaml names no header in which a proxy says who is signed in.",
            "Set lifecycle.header, and have the proxy set it and remove it from what clients send.",
        )
    return header


def who(request: Request, header: str) -> Actor:
    """Say who sends a request.

    Raises:
        RefusedError: The header is missing, or is there twice.
    """
    given = request.headers.getlist(header)
    if len(given) != 1:
        raise RefusedError(f"The header {header} is there {len(given)} times.", "Come through the proxy that signs you in.")
    return named(given[0], "header")


def described(lab: Lab, asked: Asked) -> dict[str, Any]:
    """A request, with what makes it stale."""
    waiting = asked.state in ("open", "approved")
    stale = requests.staleness(read_state(lab), asked, evidence.circumstances(lab, asked.task)) if waiting else None
    return {**asked.model_dump(mode="json"), "stale": stale}


def create_app(lab: Lab, steps: Steps, say: Say) -> FastAPI:
    """Make the application.

    Args:
        lab: The project.
        steps: How a release packages and checks.
        say: Told what is going on.

    Raises:
        RefusedError: See `header_of`.
    """
    header = header_of(lab)
    # The pages of documentation would load scripts from the web.
    app = FastAPI(title="modellab approvals", docs_url=None, redoc_url=None)
    one_at_a_time = threading.Lock()

    @app.exception_handler(LabError)
    async def refused(request: Request, error: LabError) -> JSONResponse:
        code = 409 if isinstance(error, RefusedError) else 500
        return JSONResponse({"error": {"message": error.message, "remedy": error.remedy}}, code)

    def finish(request_id: str, actor: Actor) -> None:
        with one_at_a_time:
            try:
                release(lab, open_history(lab), request_id, actor, steps)
            except LabError as error:  # it stands in the history
                say(str(error))

    @app.get("/requests")
    def list_requests(request: Request) -> list[dict[str, Any]]:
        who(request, header)
        return [described(lab, asked) for asked in read_state(lab).requests.values()]

    @app.get("/requests/{request_id}")
    def show(request: Request, request_id: str) -> dict[str, Any]:
        who(request, header)
        return described(lab, requests.find_request(read_state(lab), request_id))

    # A body in JSON is what keeps other sites' forms out: a browser asks first before it sends one there.
    @app.post("/requests/{request_id}/approve", status_code=202)
    def approve(request: Request, request_id: str, word: Word) -> dict[str, Any]:
        actor = who(request, header)
        approved, _ = evidence.approve_on_evidence(lab, request_id, actor, word.reason)
        threading.Thread(target=finish, args=(approved.id, actor), name=f"release {approved.id}").start()
        return described(lab, approved)

    @app.post("/requests/{request_id}/reject")
    def reject(request: Request, request_id: str, word: Word) -> dict[str, Any]:
        actor = who(request, header)
        rejected = requests.reject(open_history(lab), request_id, actor, word.reason, read_rules(lab.params))
        return described(lab, rejected)

    return app
