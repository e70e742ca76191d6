"""The service inside a package: BentoML runs it, and everything a client sees is the FastAPI app of `serving.app`.

BentoML gives the process model, the packaging and ``/healthz``, ``/livez``, ``/readyz``. Ready means that the weights were
read and found to be those that were tested, and that the model is loaded and warm. Nothing is loaded when this module is
imported, which happens at the build too.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from models.engine import calls_at_once
from models.errors import LabError, StateError
from models.memory import ALLOCATOR
from models.weights import Located
from serving import logs
from serving.app import create_app
from serving.bundle import FAILED, WEIGHTS, check_bundle, read_bundle, read_calibration
from serving.residency import cold
from serving.served import ServedModel, load
from serving.settings import ServiceSettings, read_settings

BUNDLE = Path(__file__).resolve().parents[1] / "model"
THREADS = "MODELLAB_THREADS"
"""Environment variable: threads of the engine; default all cores."""
BUNDLES = "MODELLAB_BUNDLES"
"""Environment variable: folders of other packages' models that this service holds too, parted as paths are."""
TIMEOUT_S = 7200.0
"""BentoML's own limit of a request, beyond every limit of `serving.settings`, which answer in the API's words."""


def load_packaged(
    folder: Path = BUNDLE, threads: int | None = None, calls: int | None = None, *, later: bool = False
) -> ServedModel:
    """Check what was packaged and load it, or have it loaded when it is first used.

    Args:
        folder: What was packaged.
        threads: Of a call; None takes all cores.
        calls: Side by side; None takes as many as the engine gains from.
        later: Whether the engine is built when it is first used.

    Raises:
        LabError: It is not as it was packaged, or its engine cannot run here.
    """
    bundle = read_bundle(folder)
    check_bundle(bundle, folder)
    placement = bundle.placement(threads)
    placement = replace(placement, calls=calls or calls_at_once(bundle.card, placement))
    located = Located(folder / WEIGHTS, bundle.fingerprints[bundle.task].weights)
    return load(
        bundle.card,
        located,
        placement=placement,
        calibration=read_calibration(folder),
        created=int(datetime.fromisoformat(bundle.packaged_at).timestamp()),
        later=later,
    )


def _folders() -> list[Path]:
    return [BUNDLE, *(Path(name) for name in os.environ.get(BUNDLES, "").split(os.pathsep) if name)]


def _threads() -> int | None:
    given = os.environ.get(THREADS)
    if given and not given.isdecimal():
        raise StateError(f"{THREADS} is {given!r}, which is no number of threads.", f"Correct or unset {THREADS}.")
    return int(given) if given else None


class _Mounted:
    """Passes everything on to the app, which is made once the model is there."""

    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None, "BentoML opens its socket's queue to requests only after the start-up hooks"
        await self.app(scope, receive, send)


mounted = _Mounted()


@bentoml.service(
    name="modellab",
    workers=1,
    traffic={"timeout": TIMEOUT_S},
    # The app has its own, with what matters here and without texts.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    envs=[
        # No telemetry from an image made of it either.
        {"name": "BENTOML_DO_NOT_TRACK", "value": "True"},
        {"name": "DO_NOT_TRACK", "value": "1"},
        # numpy's second thread would spin beside the engine, for products that are too small for it.
        {"name": "OPENBLAS_NUM_THREADS", "value": "1"},
        *({"name": name, "value": value} for name, value in ALLOCATOR.items()),
    ],
)
@bentoml.asgi_app(mounted, path="/")
class ModelService:
    """One packaged model, or several."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._open = AsyncExitStack()
        self._held: dict[str, ServedModel] = {}
        self._settings = ServiceSettings()
        self._started = False

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load the models and start the app."""
        logs.set_up()
        try:
            self._settings = settings = read_settings()
            for folder in _folders():
                served = await asyncio.to_thread(load_packaged, folder, _threads(), settings.running, later=True)
                if served.name in self._held:
                    raise StateError(f"Two packages hold the model {served.name}.", f"Name one of them in {BUNDLES}.")
                self._held[served.name] = served
                if settings.preload:
                    await asyncio.to_thread(served.warm_up)
            app = create_app(self._held, settings)
        except LabError as error:
            sys.stderr.write(f"{FAILED}{error}\n")
            sys.stderr.flush()
            raise
        await self._open.enter_async_context(app.router.lifespan_context(app))
        mounted.app = app
        self._started = True

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """End the app; requests in flight were finished before."""
        self._started = False
        await self._open.aclose()

    def __is_ready__(self) -> bool:
        """Tell ``/readyz``."""
        return self._started and not cold(self._held.values(), preload=self._settings.preload)
