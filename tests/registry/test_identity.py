"""Who somebody is, whatever the spelling, and what they may do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from models.errors import PolicyError
from registry.identity import RefusedError, Rules, canonical_name, identify, named, read_rules
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    "spelling",
    [
        "ada lovelace",
        "ADA  LOVELACE",
        "ada.lovelace",
        "Ada_Lovelace",
        "Ada\u200bLovelace",
        "\uff21da Lovelace",
        "Ádà Lovelace",
        " ada-lovelace ",
    ],
)  # fmt: skip
def test_spellings_of_one_name(spelling: str) -> None:
    assert canonical_name(spelling) == canonical_name("Ada Lovelace")


@pytest.mark.parametrize(
    "wrong", ["", "  ", "\u200b", "…", "x" * 201, "\u0430da"]
)  # the last one's first letter is Cyrillic
def test_what_is_no_name(wrong: str) -> None:
    with pytest.raises(RefusedError):
        named(wrong, "option")


def test_where_a_name_comes_from() -> None:
    environment = {"MODELLAB_USER": "bob"}
    assert identify("ada", environment).model_dump() == {"name": "ada", "origin": "option"}
    assert identify(None, environment).model_dump() == {"name": "bob", "origin": "environment"}
    with pytest.raises(RefusedError, match="--by"):
        identify(None, {})


def test_roles_and_other_names_of_one_person() -> None:
    rules = Rules.model_validate({"approve": ["Ada"], "people": {"Ada": ["ada@example.org", "a.lovelace"]}})
    rules.check(named("A.LOVELACE", "option"), "approve")
    rules.check(named("anyone", "option"), "request")
    assert rules.person("ada@example.org") == rules.person("ADA")
    with pytest.raises(RefusedError, match="bob may not approve or reject"):
        rules.check(named("bob", "option"), "approve")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"approves": ["ada"]}, "lifecycle.approves"),
        ({"approve": []}, "nobody"),
        ({"approve": ["…"]}, "no name"),
        ({"people": {"ada": ["x"], "bob": ["X"]}}, "both"),
        ({"header": "X User"}, "lifecycle.header"),
        ("ada", "lifecycle"),
    ],
)
def test_wrong_roles_are_refused_when_they_are_read(tmp_path: Path, section: object, told: str) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"lifecycle": section}))
    with pytest.raises(PolicyError, match=told):
        read_rules(tmp_path / "params.yaml")


def test_the_shipped_roles_and_a_project_without_any(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("gate: {}\n")
    assert read_rules(tmp_path / "params.yaml") == Rules()
    assert read_rules(REPOSITORY / "params.yaml").approve
