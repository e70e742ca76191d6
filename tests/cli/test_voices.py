"""`modellab evaluate` and `compare` for voices as their users run them: real voices, a real listener, real measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from models.card import read_cards
from tests.conftest import STARTER, Project

CANDIDATE, BASELINE, LISTENER = "hibari", "piper-joe", "faster-whisper-tiny.en"
PROMPTS: list[dict[str, Any]] = [
    {
        "id": "plain-1",
        "text": "The river was frozen from bank to bank.",
        "reference_audio_filepath": "voices/lj.flac",
        "tags": {"kind": "plain"},
    },
    {"id": "plain-2", "text": "Nobody had told the baker about the party.", "tags": {"kind": "plain"}},
    {"id": "plain-3", "text": "We walked home slowly under the yellow lamps.", "tags": {"kind": "plain"}},
    {"id": "abbr-1", "text": "Dr. Smith is in.", "spoken": "doctor smith is in", "tags": {"kind": "abbr"}},
    {"id": "empty-1", "text": " ", "tags": {"kind": "empty"}},
]
RULES: list[dict[str, Any]] = [
    {"name": "understood", "kind": "absolute", "metric": "roundtrip_wer", "max": 0.5, "judge": "value", "min_n": 3},
    {"name": "pleasant", "kind": "non_inferiority", "metric": "dnsmos_overall", "margin": 2.0, "min_n": 3},
    {"name": "soon", "kind": "ratio", "metric": "first_audio_p50", "max": 100, "min_n": 2},
    {"name": "fast", "kind": "ratio", "metric": "rtf", "max": 100, "min_n": 2},
]

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project]) -> Project:
    made = make_project()
    folder = made.add_corpus("say", PROMPTS, {"voices/lj.flac": STARTER / "audio" / "lj-lj001-0001.flac"})
    (folder / "corpus.yaml").write_text("name: say\ntasks: [tts]\nnormalizer: whisper-english\n")
    usable = {"name": "usable", "kind": "absolute", "metric": "wer", "max": 1}
    voices = {"resamples": 300, "rules": RULES}
    policy = {"gate": {"rules": [usable]}, "gate_tts": voices, "tts": {"recogniser": LISTENER}}
    (made.root / "params.yaml").write_text(yaml.safe_dump(policy))
    return made


@pytest.fixture(scope="module")
def compared(project: Project) -> Any:
    answer = project.run("compare", CANDIDATE, "--against", BASELINE, "--json")
    assert answer.code in (0, 3), answer.err + answer.out
    return answer.json()


@pytest.fixture(scope="module")
def evaluated(project: Project, compared: Any) -> Any:
    """After the comparison, so that everything comes from the store."""
    answer = project.run("evaluate", CANDIDATE, "--json")
    assert answer.code == 0, answer.err
    return answer.json()


def first_run(project: Project, compared: Any, side: str) -> Any:
    folder = project.home / "evaluations" / compared["evaluations"][side]
    return json.loads((folder / "evaluation.json").read_text())


def test_a_voice_is_understood_measured_and_timed(project: Project, compared: Any) -> None:
    result = first_run(project, compared, "candidate")
    metrics = result["metrics"]
    assert result["task"] == "tts" and result["timings"]["inferred"] == len(PROMPTS)
    assert metrics["roundtrip_wer"]["n"] == 4 and metrics["roundtrip_wer"]["value"] < 0.3, "it really speaks"
    assert 2.5 < metrics["dnsmos_overall"]["value"] < 5 and metrics["dnsmos_overall"]["unit"] == "MOS"
    assert 0 < metrics["first_audio_p50"]["value"] <= metrics["latency_p50"]["value"]
    assert metrics["rtf"]["value"] > 0 and metrics["peak_memory"]["value"] > 50
    assert metrics["speaker_similarity"]["n"] == 1 and 0.3 < metrics["speaker_similarity"]["value"] < 0.8, "not her voice"
    assert 2.5 < metrics["plcmos"]["value"] < 5
    assert "wer" not in metrics and "invented_words_per_minute" not in metrics, "those are a recogniser's"
    assert {"kind=plain", "kind=abbr"} <= set(result["slices"])
    assert result["fingerprint"]["recogniser"].startswith(LISTENER) and result["fingerprint"]["measures"]


def test_the_same_rules_decide_over_prompts(compared: Any) -> None:
    verdicts = {rule["rule"]: rule["verdict"] for rule in compared["rules"]}
    assert verdicts["understood"] == verdicts["pleasant"] == "pass"
    assert verdicts["soon"] in ("pass", "inconclusive") and verdicts["fast"] in ("pass", "inconclusive")
    assert not compared["significance"], "MAPSSWE is about two recognisers on one recording"
    assert compared["notes"][0] == "5 prompts are compared pair by pair."


def test_a_second_evaluation_synthesises_hears_and_measures_nothing(evaluated: Any, compared: Any, project: Project) -> None:
    first = first_run(project, compared, "candidate")
    assert (evaluated["timings"]["inferred"], evaluated["timings"]["reused"]) == (0, len(PROMPTS))
    assert evaluated["fingerprint"] == first["fingerprint"]
    for name in ("roundtrip_wer", "dnsmos_overall", "plcmos", "speaker_similarity"):
        assert evaluated["metrics"][name]["value"] == first["metrics"][name]["value"]
    assert evaluated["metrics"]["rtf"]["value"] is None, "times from the store are no measurement"


def test_the_audio_is_kept_and_is_what_was_scored(project: Project, evaluated: Any) -> None:
    import pyarrow.parquet as pq

    rows = {row["id"]: row for row in pq.read_table(evaluated["predictions"]).to_pylist()}
    assert set(rows) == {prompt["id"] for prompt in PROMPTS}
    (path,) = (project.home / "speech" / "audio").rglob(f"{rows['plain-1']['audio_sha256']}.flac")
    samples, rate = soundfile.read(path)
    assert len(samples) / rate == pytest.approx(rows["plain-1"]["audio_s"]) and np.abs(samples).max() > 0.1
    assert json.loads(rows["plain-1"]["measures"])["dnsmos_overall"] > 2.5
    assert rows["empty-1"]["audio_s"] == 0 and rows["empty-1"]["hypothesis"] == ""


def test_the_terminal_tells_of_prompts_and_voices(project: Project, evaluated: Any) -> None:
    told = project.run("evaluate", CANDIDATE).out
    assert f"{CANDIDATE} on say: 5 prompts" in told and "(0 synthesised, 5 from the store)" in told
    assert "DNSMOS overall" in told and "Speaker similarity" in told and "round-trip WER, kind=plain" in told


def test_a_voice_with_noise_is_asked_again_and_its_spread_is_told(project: Project, evaluated: Any) -> None:
    """Piper with the voice's own noise: the same text never sounds the same twice."""
    assert evaluated["takes"] is None, "hibari says a text the same way each time"
    cards = project.root / "cards"
    cards.mkdir()
    card = read_cards()[BASELINE].model_dump(mode="json")
    card |= {"name": "piper-noisy", "stage": "experimental", "decoding": {"noise_scale": None, "noise_w_scale": None}}
    card["weights"]["sources"] = [{"kind": "convert", "card": BASELINE, "converter": "models.convert:same_files"}]
    (cards / "piper-noisy.yaml").write_text(yaml.safe_dump(card))
    ask = ("evaluate", "piper-noisy", "--limit", "2")
    answer = project.run(*ask, "--json", MODELLAB_CARDS=str(cards))
    assert answer.code == 0, answer.err
    takes = answer.json()["takes"]
    assert (takes["takes"], takes["prompts"]) == (3, 2)
    assert 0 < takes["duration"] < 0.5 and 0 < takes["dnsmos_overall"] < 1
    assert (
        "2 prompts were said 3 times each; standard deviation within a prompt" in Path(answer.json()["report"]).read_text()
    )
    again = project.run(*ask, MODELLAB_CARDS=str(cards))
    assert "(0 synthesised, 2 from the store)" in again.out and "said 3 times each" in again.out
    assert "piper-noisy on cpu" not in again.err, "the takes are kept as well"


def test_power_rests_on_the_two_voices(project: Project, evaluated: Any) -> None:
    planned = project.run("corpus", "power", "say", "--margin", "0.02", "--json").json()
    assert planned["basis"].startswith("the evaluation") and CANDIDATE in planned["basis"]
    assert (planned["metric"], planned["recordings"]) == ("roundtrip_wer", 4)


def test_a_recogniser_is_not_asked_to_speak(project: Project) -> None:
    answer = project.run("evaluate", LISTENER, "--corpus", "say", "--json")
    assert answer.code == 2 and "say holds prompts, not recordings" in answer.json()["error"]["message"]
    answer = project.run("evaluate", LISTENER, "--task", "tts")
    assert answer.code == 2 and "Available: asr" in answer.err
    answer = project.run("evaluate", CANDIDATE, "--task", "tss")
    assert answer.code == 2 and "Did you mean 'tts'" in answer.err


def test_the_report_can_be_heard(evaluated: Any) -> None:
    text = Path(evaluated["report"]).read_text()
    assert "data:audio/flac" in text and "The river was frozen" in text
