"""`modellab corpus list` and `show`: recordings and prompts side by side, each with its own counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]
CORPORA = {
    "calls": (
        None,
        [{"audio_filepath": "a.wav", "duration": 90, "text": "hello there", "speaker": "ada", "license": "MIT"}],
    ),
    "prompts": (
        "tasks: [tts]\nlicence: CC0-1.0\ndescription: Two things to say.",
        [
            {"id": "a", "text": "It was $5.", "spoken": "It was five dollars.", "tags": {"kind": "money"}},
            {"id": "b", "text": "Yes.", "license": "MIT"},
        ],
    ),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Run:
    root = tmp_path_factory.mktemp("project")
    for name, (config, rows) in CORPORA.items():
        folder = root / "data" / name
        folder.mkdir(parents=True)
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if config:
            (folder / "corpus.yaml").write_text(config)
    (root / "params.yaml").write_bytes((repository / "params.yaml").read_bytes())
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MODELLAB_")}
    environment = {**kept, "MODELLAB_PROJECT": str(root), "PYTHONPATH": str(repository), "COLUMNS": "120"}

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "modellab", "corpus", *arguments]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


def test_the_list_counts_recordings_in_minutes_and_prompts_in_words(run: Run) -> None:
    lines = [line.split() for line in run("list").splitlines()]
    assert lines == [
        ["corpus", "utterances", "minutes", "speakers", "prompts", "words", "languages", "tasks"],
        ["calls", "1", "1.5", "1", "en", "asr"],
        ["prompts", "2", "5", "en", "tts"],
    ]
    calls, prompts = json.loads(run("list", "--json"))
    counted = ("utterances", "minutes", "speakers", "prompts", "words", "tasks")
    assert [calls[key] for key in counted] == [1, 1.5, 1, None, None, ["asr"]]
    assert [prompts[key] for key in counted] == [None, None, None, 2, 5, ["tts"]]


def test_show_has_the_slices_and_licences_of_prompts(run: Run) -> None:
    shown = json.loads(run("show", "prompts", "--json"))
    assert shown["slices"]["kind"] == {"money": 1} and shown["normalizer"] == {"basic": 2}
    assert shown["licences"] == {"CC0-1.0": 1, "MIT": 1}, "a prompt that names no licence has the corpus's"
    text = run("show", "prompts")
    assert "2 prompts, 5 words; for tts" in text and "Two things to say." in text
    assert "1 utterances, 1.5 min, 1 speakers; for asr" in run("show", "calls")


def test_power_is_planned_over_prompts_as_over_recordings(run: Run) -> None:
    planned = json.loads(run("power", "prompts", "--margin", "0.05", "--json"))
    assert (planned["task"], planned["metric"], planned["recordings"], planned["speakers"]) == ("tts", "roundtrip_wer", 2, 2)
    assert planned["detectable"] > 0.1 and not planned["rows"][0]["enough"], "two prompts show next to nothing"
    assert "varying by 50% of itself between prompts" in planned["basis"]
    told = run("power", "prompts", "--margin", "0.05")
    assert "2 prompts with words" in told and "points of round-trip WER" in told and "prompts like these" in told
    assert "speaker" not in told and "recording" not in told
