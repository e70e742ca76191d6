"""The steps of a flow as Prefect tasks, each seen and timed on its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

P = ParamSpec("P")
R = TypeVar("R")


def step(name: str, *, retries: int = 0) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a task whose arguments are values, and reach it as they are.

    Prefect would walk through all that they hold, twice, to find results of other tasks to wait for: two milliseconds a
    recording (``prefect.utilities.annotations.quote`` is made for this).

    Args:
        name: What the server shows.
        retries: How often it is tried again.
    """

    def decorate(do: Callable[P, R]) -> Callable[P, R]:
        as_task = task(name=name, retries=retries, cache_policy=NO_CACHE, persist_result=False)(do)

        @wraps(do)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            quoted = {key: quote(value) for key, value in kwargs.items()}
            # Any: the task's own annotation does not know the quotes, which Prefect takes off.
            result: R = as_task(*map(quote, args), **quoted)  # type: ignore[arg-type]
            return result

        return call

    return decorate
