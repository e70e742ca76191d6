"""Running a flow in this process, for whoever waits for its result."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import httpx
from prefect import Flow
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from models.errors import StateError
from pipelines.lab import Lab

Q = TypeVar("Q")
R = TypeVar("R")


def run(flow: Flow[[Lab, Q], R], lab: Lab, request: Q) -> R:
    """Run a flow with as many shards in flight as keep the workers busy.

    Raises:
        StateError: Prefect's server is not there, or went away meanwhile.
    """
    try:
        with without_heartbeat():
            return flow.with_options(task_runner=runner(lab))(lab, request)
    except (RuntimeError, httpx.TransportError) as error:
        # Prefect words it as a RuntimeError at the start of a flow only.
        if not isinstance(error, httpx.TransportError) and not isinstance(error.__cause__, httpx.TransportError):
            raise
        address = PREFECT_API_URL.value()
        server = f"The Prefect server at {address}" if address else "The embedded Prefect server"
        raise StateError(
            f"{server} does not answer.",
            "What was finished is kept. Start it (`modellab up`), or unset PREFECT_API_URL, and run the command again.",
        ) from error


def runner(lab: Lab) -> Any:
    """Make a task runner for `Flow.with_options`, whose annotation the thread pool's class does not meet."""
    return ThreadPoolTaskRunner(max_workers=lab.layout.shards_in_flight)


def without_heartbeat() -> AbstractContextManager[Any]:
    """Spare a run that somebody watches what tells a server's automations of crashes, unless the user has set it.

    At the end of every run Prefect waits for the thread that sends it, which sleeps for up to a second.
    """
    if "heartbeat_frequency" in get_current_settings().flows.model_fields_set:
        return nullcontext()
    return temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
