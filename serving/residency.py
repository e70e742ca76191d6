"""Which models are in memory: all at the start, and of several only those that are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from serving.logs import log, log_failure
from serving.served import ServedModel

LOOK_AGAIN_S = 30.0
"""Longest time between two looks at what is idle."""


def cold(models: Iterable[ServedModel], *, preload: bool) -> list[str]:
    """Name the models that keep a service from being ready.

    A model is ready when it was loaded and has answered. One that was unloaded when idle is loaded when it is asked for, and
    so is, without preloading, one that nobody has asked for yet; one that failed is not ready until it answers.
    """
    return sorted(model.name for model in models if not model.ready and (preload or model.tried))


async def warm_up(models: Iterable[ServedModel]) -> None:
    """Load and warm up one model after another. One that fails stays not ready, which is what whoever watches sees."""
    for model in models:
        try:
            if not model.ready:
                await asyncio.to_thread(model.warm_up)
        except Exception as error:
            log_failure(error.__cause__ or error, "warm-up")
        else:
            log("ready", model=model.name)


async def unload_idle(models: Iterable[ServedModel], after_s: float) -> None:
    """Free the memory of models that nobody has asked for in this many seconds, for ever."""
    while True:
        await asyncio.sleep(min(LOOK_AGAIN_S, after_s / 4))
        for model in models:
            if await asyncio.to_thread(model.unload, after_s):
                log("unloaded", model=model.name)
