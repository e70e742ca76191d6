"""Bad input: one sentence with the item, what was found, what was expected and what to do; nothing finished is lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import Project

MODEL = "faster-whisper-tiny.en"
EXIT_USAGE, EXIT_INCONCLUSIVE = 2, 3


def bad_corpus(project: Project, starter: Path) -> None:
    """One good recording and one of each kind of bad one."""
    good = json.loads((starter / "manifest.jsonl").read_text().splitlines()[0])
    folder = project.add_corpus("bad", [], {good["audio_filepath"]: starter / good["audio_filepath"]})
    (folder / "audio" / "text.wav").write_text("this is no audio\n" * 20)
    (folder / "audio" / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "audio" / "nothing.wav", np.zeros(0), 16_000)
    samples = np.zeros(16_000, dtype=np.float32)
    samples[800] = np.nan
    soundfile.write(folder / "audio" / "nan.wav", samples, 16_000, subtype="FLOAT")
    whole = (starter / "audio" / "longform-en.mp3").read_bytes()
    (folder / "audio" / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    soundfile.write(folder / "audio" / "short.wav", np.full(16_000, 0.01), 16_000)
    durations = {"gone.wav": 1.0, "text.wav": 1.0, "empty.wav": 1.0, "nothing.wav": 1.0, "nan.wav": 1.0}
    durations |= {"cut.mp3": 53.267, "short.wav": 9.0}
    rows = [good] + [
        {"id": name.partition(".")[0], "audio_filepath": f"audio/{name}", "duration": duration, "text": "hello"}
        for name, duration in durations.items()
    ]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.real
def test_bad_recordings_are_quarantined_and_the_gate_is_inconclusive(project: Project, starter: Path) -> None:
    bad_corpus(project, starter)
    answer = project.run("evaluate", MODEL, "--corpus", "bad", "--json")
    assert answer.code == 0, answer.err
    result = answer.json()
    assert result["timings"]["inferred"] == 1, "the good recording is evaluated all the same"
    reasons = {entry["id"]: entry["reason"] for entry in result["quarantined"]}
    told = {
        "gone": "cannot be read", "text": "not audio that can be read", "empty": "empty file", "nothing": "no samples",
        "nan": "NaN or infinite", "cut": "cut short", "short": "lasts 1.00 s and its manifest declares 9.00 s",
    }  # fmt: skip
    assert set(reasons) == set(told)
    for name, part in told.items():
        assert part in reasons[name] and f"{name}." in reasons[name], reasons[name]
    compared = project.run("compare", MODEL, "--against", "faster-whisper-tiny.en-float32", "--corpus", "bad", "--json")
    assert compared.code == EXIT_INCONCLUSIVE, compared.err
    rules = {rule["rule"]: rule for rule in compared.json()["rules"]}
    assert rules["nothing left out"]["verdict"] == "inconclusive"
    assert "7 item(s)" in rules["nothing left out"]["reason"]


GOOD = '{"id": "a", "audio_filepath": "a.wav", "duration": 1.0, "text": "x"}'


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([GOOD, "{broken"], "line 2: not JSON"),
        ([GOOD, GOOD], "id 'a' is already on line 1"),
        (['{"id": "a", "duration": 1.0, "text": "x"}'], "line 1: audio_filepath"),
        (['{"id": "a", "audio_filepath": "../../etc/passwd", "duration": 1, "text": ""}'], "leaves the corpus's folder"),
        (['{"id": "a", "audio_filepath": "/etc/passwd", "duration": 1, "text": ""}'], "leaves the corpus's folder"),
        (['{"id": "a", "audio_filepath": "a.wav", "duration": -1, "text": ""}'], "duration"),
        (["[1, 2]"], "a JSON object is expected"),
        ([], "has no utterances"),
    ],
)
def test_a_broken_manifest_is_refused_with_its_line(project: Project, lines: list[str], told: str) -> None:
    folder = project.root / "data" / "broken"
    folder.mkdir()
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    answer = project.run("evaluate", MODEL, "--corpus", "broken", "--json")
    assert answer.code == EXIT_USAGE
    assert told in answer.json()["error"]["message"]
    assert told in answer.err and "Traceback" not in answer.err


def test_names_that_do_not_exist_get_the_closest_one(make_project: Callable[[], Project], starter: Path) -> None:
    project = make_project()
    project.add_starter_part(starter, ["jfk-inaugural"], name="speeches")
    table = {
        ("evaluate", "faster-whisper-tiny"): "Did you mean 'faster-whisper-tiny.en'",
        ("evaluate", MODEL, "--corpus", "speech"): "Did you mean 'speeches'",
        ("evaluate", MODEL, "--slice", "domain=oratry"): "Did you mean 'oratory'",
        ("evaluate", MODEL, "--slice", "domian=oratory"): "Did you mean 'domain'",
        ("evaluate", MODEL, "--slice", "domain"): "is not a slice",
        ("evaluate", MODEL, "--device", "tpu"): "tpu",
        ("compare", MODEL, "--against", MODEL): "compared with itself",
        ("compare", MODEL, "--against", "whisper"): "Available:",
        ("models", "show", "wisper-base"): "Did you mean 'whisper-base'",
        ("corpus", "show", "speach"): "Available: speeches",
        ("report", "0000"): "no run named '0000'",
    }
    for arguments, told in table.items():
        answer = project.run(*arguments)
        assert answer.code == EXIT_USAGE, (arguments, answer)
        assert told in answer.err and answer.err.count("\n") <= 3, (arguments, answer.err)


def test_a_home_that_cannot_be_written_is_said_at_once(project: Project) -> None:
    (project.root / "file").write_text("")
    answer = project.run("models", "list", MODELLAB_HOME=str(project.root / "file" / "home"))
    assert answer.code == EXIT_USAGE
    assert "cannot be written" in answer.err and "MODELLAB_HOME" in answer.err


def test_a_wrong_setting_is_named(project: Project) -> None:
    answer = project.run("models", "list", MODELLAB_WORKERS="many")
    assert answer.code == EXIT_USAGE and "MODELLAB_WORKERS is 'many'" in answer.err


def test_a_taken_port_is_said_and_nothing_is_left_running(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = project.run("up", MODELLAB_PREFECT_PORT=str(port))
    assert answer.code == EXIT_USAGE
    assert f"Port {port} for prefect is taken" in answer.err and "MODELLAB_PREFECT_PORT" in answer.err
    assert not any(row["running"] for row in project.run("status", "--json").json())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gate: {rules: []}", "gate.rules"),
        ("gate: {rules: [{name: a, kind: absolute, metric: wer}]}", "either max or min"),
        ("gate: {rules: [{name: a, kind: absolute, metric: wre, max: 1}]}", "Did you mean 'wer'"),
        ("gate: {rules: [{name: a, kind: guess, metric: wer}]}", "guess"),
        ("gate: [", "not valid YAML"),
        ("other: 1", "gate"),
    ],
)
def test_a_wrong_policy_is_refused_before_any_inference(project: Project, starter: Path, text: str, told: str) -> None:
    project.add_starter_part(starter, ["jfk-inaugural"])
    (project.root / "params.yaml").write_text(text)
    answer = project.run("compare", MODEL, "--against", "faster-whisper-tiny.en-float32")
    assert answer.code == EXIT_USAGE and told in answer.err, answer.err
    assert not (project.home / "predictions").exists()
