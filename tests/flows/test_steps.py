"""A step of a flow gets its arguments as they are, untouched by the orchestrator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect import flow
from prefect.context import TaskRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.steps import step
from models.errors import CorpusError


@pytest.fixture(autouse=True)
def on_the_server(prefect_server: str) -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield


class Counted(list[int]):
    """A list that counts how often somebody walks through it."""

    walks = 0

    def __iter__(self) -> Iterator[int]:
        self.walks += 1
        return super().__iter__()


def test_arguments_arrive_as_they_are_and_unwalked() -> None:
    given, named = Counted([1, 2]), Counted([3])

    @step("look")
    def look(value: list[int], *, more: list[int]) -> bool:
        context = TaskRunContext.get()
        assert context is not None and context.task.name == "look", "it is a task"
        return value is given and more is named

    @flow(persist_result=False)
    def looks() -> bool:
        return look(given, more=named)

    assert looks()
    assert (given.walks, named.walks) == (0, 0)


def test_errors_are_the_functions_own_and_retries_are_counted() -> None:
    tries = []

    @step("fail", retries=1)
    def fail() -> None:
        tries.append(1)
        raise CorpusError("Nothing is left.", "Bring more.")

    @flow(persist_result=False)
    def fails() -> None:
        fail()

    with pytest.raises(CorpusError, match="Nothing is left"):
        fails()
    assert len(tries) == 2
