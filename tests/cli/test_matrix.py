"""`modellab models list`: every card is a row with its state, and what is not usable has the one command that helps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from models.card import read_cards
from tests.conftest import Project

COMMAND = re.compile(r"\b(modellab models fetch \S+|make env-lfm|pip install .+|export \w+=)")


@pytest.fixture(scope="module")
def rows(make_project: Callable[[], Project]) -> Mapping[str, dict[str, Any]]:
    project = make_project()
    empty = project.root / "empty"  # a home without weights, as on a fresh machine
    answer = project.run(
        "models", "list", "--json", MODELLAB_HOME=str(empty), MODELLAB_LOCAL_WEIGHTS="", MODELLAB_HTTP_URL=""
    )
    assert answer.code == 0, answer.err
    return {row["model"]: row for row in answer.json()}


def test_every_card_is_a_row(rows: Mapping[str, dict[str, Any]]) -> None:
    cards = read_cards()
    assert set(rows) == set(cards)
    for name, row in rows.items():
        assert (tuple(row["tasks"]), row["stage"]) == (cards[name].tasks, cards[name].stage)


def test_on_a_fresh_machine_each_row_has_the_one_command_that_makes_it_usable(rows: Mapping[str, dict[str, Any]]) -> None:
    for name, row in rows.items():
        assert not row["usable"] and row["state"] != "usable", name
        assert COMMAND.search(row["note"]), row["note"]


def test_a_server_is_not_set_up_until_its_address_is(
    rows: Mapping[str, dict[str, Any]], make_project: Callable[[], Project]
) -> None:
    server = rows["openai-compatible"]
    assert (server["state"], server["note"]) == ("not set up", "export MODELLAB_HTTP_URL=... MODELLAB_HTTP_MODEL=...")
    answer = make_project().run(
        "models", "list", "--json", MODELLAB_HTTP_URL="http://127.0.0.1:1/v1", MODELLAB_HTTP_MODEL="whisper-1"
    )
    (server,) = (row for row in answer.json() if row["model"] == "openai-compatible")
    assert (server["state"], server["usable"]) == ("usable", True)


def test_what_no_source_has_is_not_promised(rows: Mapping[str, dict[str, Any]], repository: Path) -> None:
    """A fetch alone cannot help here: the folder comes first."""
    assert rows["speecht5"]["note"].startswith("put by hand into ${MODELLAB_LOCAL_WEIGHTS}/speecht5, as the card says")
    assert "hf download" in (repository / "models" / "cards" / "speecht5.yaml").read_text()


def test_at_80_columns_a_row_has_several_lines_and_no_word_is_broken(make_project: Callable[[], Project]) -> None:
    answer = make_project().run("models", "list", COLUMNS="80")
    assert answer.code == 0, answer.err
    head, *lines = answer.out.splitlines()
    table = [line for line in lines if not re.match(r"\S+: ", line)]
    assert max(len(line) for line in [head, *table]) <= 80
    words = {word.strip(",") for line in table for word in line.split()}
    cards = read_cards()
    assert {*cards, *(task for card in cards.values() for task in card.tasks)} <= words
    assert "transformers" in words, "an engine's name is not broken either"
