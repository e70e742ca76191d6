"""The HTTP application: OpenAI's audio API on models that are held in this process, behind `serving.protection`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from serving import hearing, realtime, speaking
from serving.admission import Admission
from serving.docs_page import add_docs
from serving.draining import Draining
from serving.ears import Ears
from serving.errors import ApiError
from serving.keys import KeyFile
from serving.metrics import CONTENT_TYPE, Metrics
from serving.protection import Protection
from serving.queue import Queue
from serving.records import record_of
from serving.residency import cold, unload_idle, warm_up
from serving.served import ServedModel
from serving.service import Service
from serving.settings import ServiceSettings
from serving.uploads import Uploads


def create_app(held: Mapping[str, ServedModel], settings: ServiceSettings) -> FastAPI:
    """Make the application.

    Models that are not warm are warmed up when it starts, and until then it is not ready. A server that mounts it without
    running its lifespan calls `ServedModel.warm_up` itself.

    Args:
        held: Model's name → the model.
        settings: Limits and protection.

    Raises:
        StateError: The keys file cannot be used.
    """
    admission = Admission(settings, KeyFile(settings.api_keys_file) if settings.api_keys_file else None)
    queue = Queue(settings, min((model.calls for model in held.values()), default=1))
    metrics = Metrics(queue)
    service = Service(
        held=dict(held),
        settings=settings,
        queue=queue,
        uploads=Uploads(settings),
        metrics=metrics,
        ears=Ears(settings, queue, metrics),
        draining=Draining(settings.drain_s),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models = list(service.held.values())
        tasks = [asyncio.create_task(warm_up(models))] if settings.preload else []
        if len(models) > 1 and settings.unload_after_s:
            tasks.append(asyncio.create_task(unload_idle(models, settings.unload_after_s)))
        try:
            with service.draining.holding_up_signals():
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(queue.close)
            await asyncio.to_thread(service.uploads.close)

    app = FastAPI(
        title="modellab",
        description="Speech models as they were tested, with the OpenAI audio API.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads its scripts from the web
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(Protection, settings=settings, metrics=metrics, admission=admission)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.include_router(hearing.router(service))
    app.include_router(speaking.router(service))
    app.include_router(realtime.router(service, admission))
    add_docs(app)
    _add_models(app, service)
    _add_state(app, service, settings)
    return app


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": [_described(model) for model in service.held.values()]}

    @app.get("/v1/models/{name}", tags=["models"])
    async def model(name: str) -> dict[str, Any]:
        """Describe one model."""
        return _described(service.find(name))

    @app.get("/v1/statistics", tags=["state"])
    async def statistics() -> dict[str, Any]:
        """Say what this process has done since it started."""
        return service.metrics.summary()


def _described(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "tasks": list(model.tasks),
        "languages": list(model.card.languages),
        "licence": model.card.licence,
        "fingerprint": model.fingerprint,
        "digest": model.weights_digest,
        "loaded": model.loaded,
    }


def _add_state(app: FastAPI, service: Service, settings: ServiceSettings) -> None:
    @app.get("/healthz", tags=["state"])
    @app.get("/livez", tags=["state"])
    async def alive() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["state"])
    async def ready() -> Response:
        """Say whether every model has been loaded and has answered; one that was unloaded when idle is loaded when asked."""
        waited_for = cold(service.held.values(), preload=settings.preload)
        if waited_for or not service.held:
            return JSONResponse({"status": "loading", "models": waited_for}, 503, {"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", tags=["state"], response_class=Response)
    async def metrics() -> Response:
        """Give Prometheus its metrics."""
        return Response(service.metrics.prometheus(), media_type=CONTENT_TYPE)


async def _api_error(request: HTTPConnection, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    record_of(request).code = error.code
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: ("not_found", "There is nothing at this address."), 405: ("method_not_allowed", "Not with this method.")}
    code, message = codes.get(error.status_code, ("http_error", str(error.detail)))
    return await _api_error(request, ApiError(error.status_code, message, code=code, headers=error.headers))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    message = f"The parameter {param!r} cannot be used: {first['msg']}."
    return await _api_error(request, ApiError(400, message, code="invalid_value", param=param))
