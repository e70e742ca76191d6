"""From prompts to a voice's evaluation: spoken once, heard by a fixed recogniser, scored and fingerprinted; with toys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from models.errors import CardError, CorpusError, PolicyError
from models.types import Transcript
from pipelines.audio_measures import Reference, measure_missing, speaker_references
from pipelines.evaluate import Gathered
from pipelines.inference import ShardResult, SpeakJob
from pipelines.lab import Lab, Layout
from pipelines.listen import Spoken, gather_heard, gather_speech, prepare_listening, read_listening, score_speech
from pipelines.prepare import EvaluationRequest, Prepared, check_request
from pipelines.record_speech import prompted, speech_fingerprint
from pipelines.report.side import Prompted
from pipelines.scores import ScoreTable
from pipelines.speech.speaker import SpeakerReference
from pipelines.speech_store import Synthesis, text_sha256
from pipelines.synthesize import PreparedSpeech, prepare_speech, synthesize_shard
from pipelines.types import EvaluationFingerprint, Prediction, Timing
from pipelines.workers import WorkerPool
from tests.pipelines.toy_engine import notes, toy_card, toy_voice_card

PROMPTS: list[dict[str, Any]] = [
    {"id": "a", "text": "good day", "tags": {"kind": "plain"}},
    {"id": "b", "text": "Dr. No", "spoken": "doctor no", "tags": {"kind": "abbreviations"}},
    {"id": "c", "text": "room 7", "tags": {"kind": "numbers"}},
    {"id": "d", "text": "", "tags": {"kind": "empty"}},
    {"id": "e", "text": "good day", "tags": {"kind": "again"}},
]
POLICY = {"rules": [{"name": "understood", "kind": "absolute", "metric": "roundtrip_wer", "max": 1}]}
ASR_POLICY = {"rules": [{"name": "usable", "kind": "absolute", "metric": "wer", "max": 1}]}


def write_prompts(root: Path, rows: Sequence[Mapping[str, Any]] = PROMPTS, name: str = "say", tasks: str = "[tts]") -> None:
    folder = root / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.yaml").write_text(f"name: {name}\ntasks: {tasks}\nnormalizer: basic\n")
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A project with a toy voice, a toy recogniser that listens, and prompts."""
    cards = tmp_path / "cards"
    cards.mkdir()
    for card in (toy_voice_card(tmp_path / "voice", name="voice"), toy_card(tmp_path / "ear", name="ear")):
        (cards / f"{card.name}.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json")))
    write_prompts(tmp_path)
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"gate": ASR_POLICY, "gate_tts": POLICY, "tts": {"recogniser": "ear"}})
    )
    return Lab(project=tmp_path, home_folder=tmp_path / "home", card_folders=(cards,), layout=Layout(workers=1, threads=1))


def prepare(lab: Lab, **request: Any) -> PreparedSpeech:
    return prepare_speech(lab, EvaluationRequest(model="voice", **request), lambda line: None)


def speak(prepared: PreparedSpeech) -> list[ShardResult[Synthesis]]:
    """For real, in a worker process."""
    if not prepared.shards:
        return []
    with WorkerPool(prepared.spec, 1) as pool:
        return [synthesize_shard(pool, prepared.store, shard) for shard in prepared.shards]


def hear(listening: Prepared, texts: Mapping[str, str] = {}) -> list[ShardResult[Prediction]]:
    """As if the recogniser heard what should be said, or these words by the prompt's id."""
    from pipelines.inference import WorkerReport

    known = {item.audio_sha256: item.utterance for item in listening.selection.items}
    jobs = [job for shard in listening.plan.shards for job in shard]
    predictions = tuple(
        Prediction(
            audio_sha256=job.audio_sha256,
            model_fingerprint=listening.fingerprint.digest,
            task="asr",
            language=job.language,
            audio_s=soundfile.info(job.path).duration,
            transcript=Transcript(text=texts.get(known[job.audio_sha256].id, known[job.audio_sha256].text), confidence=0.5),
            timing=Timing(inference_s=9.0, decode_s=0.1),
        )
        for job in jobs
    )
    return [ShardResult(predictions, (), (WorkerReport(1, 1.0, 1.0),))]


def listen(lab: Lab, prepared: PreparedSpeech, texts: Mapping[str, str] = {}) -> tuple[Spoken, Prepared, Gathered]:
    spoken = gather_speech(prepared, speak(prepared))
    listening = prepare_listening(lab, prepared, spoken, lambda line: None)
    return spoken, listening, gather_heard(prepared, spoken, listening, hear(listening, texts))


# Speaking


def test_each_text_is_spoken_once_and_kept(lab: Lab, tmp_path: Path) -> None:
    prepared = prepare(lab)
    assert sum(len(shard) for shard in prepared.shards) == 4, "one text is listed twice"
    spoken = gather_speech(prepared, speak(prepared))
    assert [note["text"] for note in notes(tmp_path / "voice", "spoken")[1:]] == ["good day", "Dr. No", "room 7", ""]
    assert {note["language"] for note in notes(tmp_path / "voice", "spoken")} == {"en"}
    assert set(spoken.syntheses) == {f"say/{row['id']}" for row in PROMPTS}
    assert spoken.fresh == {"say/a", "say/b", "say/c", "say/d"}, "the second listing cost nothing"
    again = prepare(lab)
    assert not again.shards and gather_speech(again, []).syntheses == spoken.syntheses
    assert not gather_speech(again, []).fresh


def test_the_audio_is_kept_under_its_own_digest(lab: Lab) -> None:
    prepared = prepare(lab)
    spoken = gather_speech(prepared, speak(prepared))
    synthesis = spoken.syntheses["say/a"]
    (path,) = prepared.store.audio.rglob(f"{synthesis.audio_sha256}.flac")
    info = soundfile.info(path)
    assert (info.samplerate, info.subtype, info.duration) == (16_000, "PCM_16", pytest.approx(0.7))
    assert (synthesis.audio_s, synthesis.sample_rate_hz) == (pytest.approx(0.7), 16_000)
    assert synthesis.audio_sha256 == spoken.syntheses["say/e"].audio_sha256
    assert 0 < synthesis.timing.first_audio_s <= synthesis.timing.inference_s


def test_a_refused_text_is_as_if_nothing_had_been_said_and_says_why(lab: Lab) -> None:
    prepared = prepare(lab)
    refused = gather_speech(prepared, speak(prepared)).syntheses["say/c"]
    assert (refused.audio_sha256, refused.audio_s) == (None, 0.0)
    assert refused.refusal == "This voice cannot read digits. Spell them out."


def test_a_killed_run_keeps_whole_shards(lab: Lab) -> None:
    write_prompts(lab.project, [{"id": str(n), "text": "word " * (n % 7 + 1) + "x" * n} for n in range(9)])
    prepared = prepare(lab)
    assert [len(shard) for shard in prepared.shards] == [4, 4, 1]
    with WorkerPool(prepared.spec, 1) as pool:
        synthesize_shard(pool, prepared.store, prepared.shards[0])
    assert sum(len(shard) for shard in prepare(lab).shards) == 5


def test_what_a_voice_does_not_claim_is_left_out_by_language(lab: Lab) -> None:
    write_prompts(lab.project, [*PROMPTS, {"id": "f", "text": "guten Tag", "language": "de"}])
    prepared = prepare(lab)
    assert [item.prompt.id for item in prepared.unsupported] == ["f"]
    assert "f" not in {item.prompt.id for item in prepared.items}


@pytest.mark.parametrize(
    ("request_", "kind", "told"),
    [
        ({"corpora": ("sya",)}, CorpusError, "Did you mean 'say'"),
        ({"slices": ("kind=spam",)}, CorpusError, "no value of kind named 'spam'"),
        ({"corpora": ("say", "say")}, CorpusError, "named twice"),
        ({"corpora": ("calls",)}, CorpusError, "calls is a corpus for asr, not of prompts"),
        ({"model": "ear", "task": "tts"}, CardError, "no task of ear"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_at_once(
    lab: Lab, request_: dict[str, Any], kind: type[Exception], told: str
) -> None:
    write_prompts(lab.project, name="calls", tasks="[asr]")
    with pytest.raises(kind, match=told):
        check_request(lab, EvaluationRequest(**{"model": "voice", **request_}))
    assert not (lab.project / "home").exists()


def test_a_voice_takes_the_prompt_corpora_and_a_recogniser_the_others(lab: Lab) -> None:
    write_prompts(lab.project, name="more")
    assert prepare(lab).corpora == ("more", "say")
    with pytest.raises(CorpusError, match="say holds prompts, not recordings"):
        check_request(lab, EvaluationRequest(model="ear", corpora=("say",)))


# Listening


def test_what_was_heard_is_scored_against_what_should_be_heard(lab: Lab) -> None:
    spoken, _, gathered = listen(lab, prepare(lab), {"e": "good bye"})
    scores = {score.id: score for score in score_speech(gathered, spoken, {"say/b": {"dnsmos_overall": 3.0}})}
    assert list(scores) == [f"say/{row['id']}" for row in PROMPTS], "in the manifest's order"
    assert scores["say/a"].words.errors == 1 and scores["say/e"].words.errors == 1, "one audio, one hearing"
    assert (scores["say/b"].reference, scores["say/b"].words.errors) == ("doctor no", 0), "the spoken form counts"
    assert (scores["say/c"].hypothesis, scores["say/c"].words.deletions) == ("", 2), "refused: nothing was said"
    assert not scores["say/d"].is_speech and scores["say/d"].hypothesis == ""
    assert scores["say/b"].measures == {"dnsmos_overall": 3.0} and scores["say/a"].measures == {}
    assert ScoreTable.build([scores["say/b"], scores["say/a"]]).measured("dnsmos_overall")[0] == 3.0


def test_the_page_is_told_what_was_given_and_what_was_refused(lab: Lab) -> None:
    prepared = prepare(lab)
    for again in (prepared, prepare(lab)):
        _, _, gathered = listen(lab, again)
        shown = prompted(again, gathered)
        assert shown["say/b"] == Prompted("Dr. No"), "as it was written"
        assert shown["say/c"] == Prompted("room 7", "This voice cannot read digits. Spell them out.")
        assert set(shown) == {f"say/{row['id']}" for row in PROMPTS}


def test_times_are_the_voices_own_and_only_of_what_it_said_now(lab: Lab) -> None:
    prepared = prepare(lab)
    spoken, _, gathered = listen(lab, prepared)
    scores = {score.id: score for score in score_speech(gathered, spoken, {})}
    for name in ("say/a", "say/b"):
        timing = spoken.syntheses[name].timing
        assert (scores[name].inference_s, scores[name].first_audio_s) == (timing.inference_s, timing.first_audio_s)
    assert all(scores[name].inference_s is None for name in ("say/c", "say/d", "say/e")), "refused, empty, listed again"
    assert all(score.confidence is None for score in scores.values()), "the listener's is not the voice's"
    spoken, _, gathered = listen(lab, prepare(lab))
    assert all(score.inference_s is None for score in score_speech(gathered, spoken, {})), "from the store"


def test_a_prompt_the_listener_does_not_know_is_quarantined(lab: Lab, tmp_path: Path) -> None:
    card = toy_voice_card(tmp_path / "voice", name="voice", languages=["en", "de"])
    (tmp_path / "cards" / "voice.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json")))
    write_prompts(lab.project, [*PROMPTS, {"id": "f", "text": "guten Tag", "language": "de"}])
    _, _, gathered = listen(lab, prepare(lab))
    (bad,) = gathered.quarantined
    assert bad.id == "f" and "ear, which listens, does not know de" in bad.reason
    assert "say/f" not in gathered.predictions


@pytest.mark.parametrize("text", ["", "tts: 5", "tts: {}", "tts: {recogniser: [a]}", "[", "- a"])
def test_without_a_listener_nothing_is_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(PolicyError, match="does not name the recogniser that listens"):
        read_listening(tmp_path / "params.yaml")


# Measuring


def test_audio_is_measured_once_a_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, gathered = listen(lab, prepare(lab))
    asked: list[int] = []
    first = measure_missing(lab, gathered, asked.append, lambda done: None)
    assert asked == [2], "two files: one text was refused, one is empty, one is listed twice"
    assert set(first) == {"say/a", "say/b", "say/e"} and first["say/a"] == first["say/e"]
    assert first["say/a"]["duration_s"] == pytest.approx(0.7)
    assert measure_missing(lab, gathered, asked.append, lambda done: None) == first and asked == [2]
    monkeypatch.setattr("pipelines.speech.measures.MEASURES_VERSION", "another")
    measure_missing(lab, gathered, asked.append, lambda done: None)
    assert asked == [2, 2], "measures of another version are other measures"


# Whom a voice should sound like


def with_reference(lab: Lab, *, seconds: float = 2.0, seed: int = 0, name: str = "voices/ann.wav") -> None:
    """Give the first two prompts one reference recording, loud and faint by turns as speech is."""
    path = lab.data / "say" / name
    path.parent.mkdir(exist_ok=True)
    n = int(seconds * 16_000)
    noise = np.random.default_rng(seed).normal(0, 0.1, n) * (np.sin(np.arange(n) / 2_000) > 0)
    soundfile.write(path, noise, 16_000)
    write_prompts(lab.project, [{**row, "reference_audio_filepath": name} for row in PROMPTS[:2]] + PROMPTS[2:])


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the fetch alone; `tests/speech/test_speaker.py` compares real speakers."""
    monkeypatch.setattr("pipelines.synthesize.fetch_speaker_encoder", lambda cache, say: tmp_path / "encoder")
    return tmp_path / "encoder"


def test_a_reference_belongs_to_its_prompts(lab: Lab, encoder: Path) -> None:
    assert prepare(lab).speaker_encoder is None and speaker_references(prepare(lab)) == {}, "nothing is fetched for nobody"
    with_reference(lab)
    prepared = prepare(lab)
    found = speaker_references(prepared)
    assert set(found) == {"say/a", "say/b"} and prepared.speaker_encoder == encoder
    assert {r.speaker.recording for r in found.values()} == {lab.data / "say" / "voices" / "ann.wav"}


def test_another_reference_is_other_data_and_none_changes_nothing(lab: Lab, encoder: Path) -> None:
    plain = fingerprint(lab).corpora
    with_reference(lab)
    first = fingerprint(lab).corpora
    with_reference(lab, name="voices/bob.wav")
    assert fingerprint(lab).corpora == first != plain, "its bytes count, not its name"
    with_reference(lab, seed=1)
    assert fingerprint(lab).corpora != first
    write_prompts(lab.project)
    assert fingerprint(lab).corpora == plain


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ({"seconds": 0.0}, r"The reference_audio_filepath of say/a cannot be used: ann\.wav"),
        ({"seconds": 301.0}, r"The reference_audio_filepath of say/a cannot be used: ann\.wav.*at most 300 s"),
    ],
    ids=["empty", "long"],
)
def test_a_reference_that_cannot_be_used_is_told_before_anything_is_said(
    lab: Lab, encoder: Path, reference: dict[str, float], told: str
) -> None:
    with_reference(lab, **reference)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match=told):
        prepare(lab)
    (lab.data / "say" / "voices" / "ann.wav").unlink()
    with pytest.raises(CorpusError, match=r"of say/a cannot be used: ann\.wav is missing"):
        prepare(lab)
    assert not (lab.home.speech).exists()


def test_each_reference_is_measured_against_once(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the measuring done in this process by a stand-in, so that what it is given can be seen."""
    from pipelines import audio_measures

    given: list[tuple[str, str]] = []

    def in_this_process(lab: Lab, tasks: list[audio_measures.MeasureTask]) -> list[list[audio_measures.MeasuredAudio]]:
        given.extend((task.item.utterance.id, task.key[2]) for task in tasks)
        names = ("audio_sha256", "text_sha256", "reference_sha256")
        return [[audio_measures.MeasuredAudio(**dict(zip(names, t.key, strict=True)), measures={"x": 1.0}) for t in tasks]]

    monkeypatch.setattr(audio_measures, "_in_processes", in_this_process)
    _, _, gathered = listen(lab, prepare(lab))
    speaker = SpeakerReference(recording=tmp_path / "ann.wav", encoder=tmp_path / "encoder")
    ann, bob = Reference("ann", speaker), Reference("bob", speaker)

    def measure(references: dict[str, Reference]) -> dict[str, dict[str, float]]:
        given.clear()
        return measure_missing(lab, gathered, lambda total: None, lambda done: None, references)

    assert set(measure({})) == {"say/a", "say/b", "say/e"} and sorted(given) == [("b", ""), ("e", "")]
    measure({"say/a": ann})
    assert given == [("a", "ann")], "one file is two measurements where only one prompt names a speaker"
    measure({"say/a": ann, "say/b": ann})
    assert given == [("b", "ann")]
    measure({"say/a": ann, "say/b": bob})
    assert given == [("b", "bob")]


# The fingerprint


def fingerprint(lab: Lab, **request: Any) -> EvaluationFingerprint:
    prepared = prepare(lab, **request)
    _, listening, gathered = listen(lab, prepared)
    return speech_fingerprint(prepared, listening, gathered, "v1")


def test_the_fingerprint_names_who_listened_and_changes_with_it(lab: Lab, tmp_path: Path) -> None:
    before = fingerprint(lab)
    assert before.recogniser.startswith("ear ") and before.measures
    card = toy_card(tmp_path / "ear", name="ear", decoding={"pause_s": 0.001})
    (tmp_path / "cards" / "ear.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json")))
    after = fingerprint(lab)
    assert after.recogniser != before.recogniser and after.digest != before.digest
    assert (after.corpora, after.normalizers) == (before.corpora, before.normalizers)


@pytest.mark.parametrize(
    "change", [{"text": "good evening"}, {"spoken": "good night"}, {"tags": {"kind": "other"}}, {"speaker": "ada"}], ids=str
)
def test_other_prompts_are_other_data(lab: Lab, change: dict[str, Any]) -> None:
    before = fingerprint(lab)
    write_prompts(lab.project, [{**PROMPTS[0], **change}, *PROMPTS[1:]])
    assert fingerprint(lab).corpora != before.corpora


def test_a_worker_keeps_a_job_apart_by_its_text(lab: Lab) -> None:
    prepared = prepare(lab)
    with WorkerPool(prepared.spec, 1) as pool:
        result = pool.speak([SpeakJob("one two", None, prepared.store.audio), SpeakJob("one", None, prepared.store.audio)])
    assert [record.text_sha256 for record in result.records] == [text_sha256("one two"), text_sha256("one")]
    assert [record.language for record in result.records] == [None, None]
