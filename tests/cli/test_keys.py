"""`modellab keys` as its user has it, against a service that reads the same file."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import StateError
from serving.keys import KeyFile, add_key, list_keys, revoke_key


def modellab(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELLAB_SERVE_")}
    environment = {**inherited, "MODELLAB_HOME": str(home)}
    command = [sys.executable, "-m", "modellab", "keys", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_a_key_is_made_listed_and_taken_back(tmp_path: Path) -> None:
    added = modellab(tmp_path, "add", "ada", "--json")
    assert added.returncode == 0, added.stderr
    told = json.loads(added.stdout)
    file = Path(told["file"])
    assert file.is_relative_to(tmp_path) and told["key"] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = KeyFile(file)
    assert keys.owner_of(told["key"]) == "ada"
    listed = modellab(tmp_path, "list")
    assert listed.stdout.startswith("ada  made 20") and told["key"] not in listed.stdout + listed.stderr
    assert modellab(tmp_path, "revoke", "ada").returncode == 0
    assert keys.owner_of(told["key"]) is None  # a running service looks at each request
    assert json.loads(modellab(tmp_path, "list", "--json").stdout)["keys"] == []


def test_what_cannot_be_done_says_what_can(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    add_key(file, "ada")
    with pytest.raises(StateError, match="key named 'ada' already"):
        add_key(file, "ada")
    with pytest.raises(StateError, match="cannot be named"):
        add_key(file, "ada lovelace")
    with pytest.raises(StateError, match="ada"):
        revoke_key(file, "adda")
    refused = modellab(tmp_path, "revoke", "bob", "--json")
    assert refused.returncode == 2 and "error" in json.loads(refused.stdout)


def test_what_people_wrote_into_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = add_key(file, "ada")
    file.write_text(f"# who may ask\n\n{file.read_text().split('#')[0].strip()}  # until June\n")
    second = add_key(file, "bob")
    assert [(key.name, key.made is None) for key in list_keys(file)] == [("ada", True), ("bob", False)]
    revoke_key(file, "bob")
    assert file.read_text().startswith("# who may ask\n\nada ") and "until June" in file.read_text()
    keys = KeyFile(file)
    assert (keys.owner_of(first), keys.owner_of(second)) == ("ada", None)


def test_a_file_that_is_no_keys_file_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("something else entirely\n")
    with pytest.raises(StateError, match="Line 1"):
        add_key(file, "ada")
    assert file.read_text() == "something else entirely\n"
