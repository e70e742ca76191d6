"""``WS /v1/realtime``: live transcription, with the events of OpenAI's Realtime API or with plain binary frames."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocket, WebSocketDisconnect

from serving.admission import Admission
from serving.ears import Asked
from serving.errors import busy, invalid, unsupported
from serving.hearing import check_language
from serving.realtime_session import RealtimeSession
from serving.records import record_of
from serving.service import Service

PATH = "/v1/realtime"
SUBPROTOCOL = "realtime"
KNOWN = ("model", "language", "intent")
"""What an address may carry after its question mark."""
FULL_S = 10.0
"""When to come back to a service that transcribes as many as it may."""


def router(service: Service, admission: Admission) -> APIRouter:
    """The endpoint on a service."""
    routes = APIRouter(tags=["audio"])

    @routes.websocket(PATH)
    async def realtime(socket: WebSocket) -> None:
        """Write down what is being said."""
        record = record_of(socket)
        asked = _asked(service, socket)  # until it is accepted, an error is an answer with a status
        if service.draining.begun.is_set() or service.draining.sessions >= service.settings.max_sessions:
            raise busy("No other live transcription can be taken now; try again later.", FULL_S, "too_many_sessions")
        record.model = asked.model.name
        offered = socket.scope.get("subprotocols", ())
        with service.draining.session():
            service.metrics.live_sessions.set(service.draining.sessions)
            try:
                await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
                await RealtimeSession(
                    service,
                    socket,
                    record,
                    asked,
                    still=partial(admission.still, socket.scope, record),
                    again=partial(admission.again, record),
                    threads=service.uploads.live_threads,
                ).run()
            except WebSocketDisconnect as gone:
                record.close_code = gone.code
            except ClientDisconnect:
                pass  # while something was sent to it
        service.metrics.live_sessions.set(service.draining.sessions)

    return routes


def _asked(service: Service, socket: WebSocket) -> Asked:
    query = dict(socket.query_params)
    if unknown := next((name for name in query if name not in KNOWN), None):
        raise unsupported(unknown[:64], f"{unknown[:64]!r} is not supported here; supported: {', '.join(KNOWN)}.")
    if query.get("intent", "transcription") != "transcription":
        raise unsupported("intent", "This service transcribes, and no more: the intent is 'transcription'.")
    hearing = [model.name for model in service.held.values() if model.can("asr")]
    if "model" not in query and len(hearing) > 1:
        raise invalid("model", f"Say which model: {', '.join(sorted(hearing))}.", "missing_required_parameter")
    model = service.model(query.get("model") or next(iter(hearing), None), "asr")
    check_language(model, query.get("language"))
    return Asked(model, "asr", query.get("language"))
