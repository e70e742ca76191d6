"""From predictions to an evaluation: what is left out is named, what is scored is fingerprinted, nothing counts twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import CardError, CorpusError
from pipelines.evaluate import fingerprint_of, gather, machine_metrics, score
from pipelines.inference import ShardResult, WorkerReport
from pipelines.normalize import find_normalizer
from pipelines.prepare import EvaluationRequest, check_request, task_of
from tests.pipelines.toy_lab import CONFIG, Desk

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "one two three", "speaker": "ada", "tags": {"domain": "digits"}},
    {"id": "b", "text": "Hello there", "speaker": "bo", "tags": {"domain": "read"}},
    {"id": "c", "text": "good day", "speaker": "cy", "tags": {"domain": "read"}},
]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.corpus(ROWS)
    return desk


# Gathering


def test_everything_heard_is_kept_in_the_manifests_order(desk: Desk) -> None:
    _, gathered = desk.gather()
    assert [item.utterance.id for item in gathered.items] == ["a", "b", "c"]
    assert set(gathered.predictions) == gathered.fresh == {"calls/a", "calls/b", "calls/c"}
    assert not gathered.quarantined


def test_each_bad_recording_is_quarantined_with_its_own_reason(desk: Desk) -> None:
    desk.corpus(
        [
            *ROWS,
            {"id": "gone", "signal": None},
            {"id": "bad"},
            {"id": "long", "duration": 9.0},
            {"id": "near", "duration": 0.6},
        ]
    )
    _, gathered = desk.gather(failing=["bad"])
    reasons = {bad.id: bad.reason for bad in gathered.quarantined}
    assert set(reasons) == {"gone", "bad", "long"}
    assert "gone.wav cannot be read" in reasons["gone"]
    assert reasons["bad"] == "bad.wav is bad."
    assert reasons["long"].startswith("long.wav lasts 0.50 s and its manifest declares 9.00 s")
    assert {bad.id: bad.audio_filepath for bad in gathered.quarantined}["bad"] == "bad.wav"
    assert [item.utterance.id for item in gathered.items] == ["a", "b", "c", "near"]
    assert not gathered.fresh & {"calls/gone", "calls/bad", "calls/long"}


def test_what_comes_from_the_store_is_not_fresh(desk: Desk) -> None:
    first = desk.prepare()
    kept = desk.heard(first)
    first.store.add([p for p in kept.records if p.transcript.text != "good day"])
    prepared = desk.prepare()
    assert prepared.plan.recordings == 1
    gathered = gather(prepared, [desk.heard(prepared)])
    assert gathered.fresh == {"calls/c"}
    assert {row.id: row.inference_s for row in score(gathered)} == {"calls/a": None, "calls/b": None, "calls/c": 0.25}


def test_a_stored_prediction_is_held_against_a_corrected_duration(desk: Desk) -> None:
    first = desk.prepare()
    first.store.add(desk.heard(first).records)
    desk.corpus([*ROWS[:2], {**ROWS[2], "duration": 5.0}])
    gathered = gather(desk.prepare(), [])
    assert [bad.id for bad in gathered.quarantined] == ["c"] and len(gathered.items) == 2


def test_a_recording_listed_twice_is_scored_twice_against_each_text(desk: Desk) -> None:
    desk.corpus([{"id": "a", "text": "yes", "seed": 1}, {"id": "b", "text": "no", "seed": 1}], config=None)
    prepared, gathered = desk.gather({"a": "yes", "b": "yes"})
    assert prepared.plan.recordings == 1
    scores = score(gathered)
    assert [row.words.errors for row in scores] == [0, 1]
    assert [row.inference_s is not None for row in scores] == [True, False], "it was inferred once, and its time counts once"


def test_a_bad_recording_listed_twice_is_quarantined_twice(desk: Desk) -> None:
    desk.corpus([{"id": "a", "seed": 1}, {"id": "b", "seed": 1}, {"id": "c"}])
    _, gathered = desk.gather(failing=["a", "b"])
    assert [bad.id for bad in gathered.quarantined] == ["a", "b"]


# Scoring


def test_each_item_is_scored_by_its_own_normalizer(desk: Desk) -> None:
    texts = {"a": "1 2 3", "b": "hello, THERE!", "c": "good night"}
    _, gathered = desk.gather(texts)
    scores = score(gathered)
    assert [(row.id, row.normalizer, row.words.errors) for row in scores] == [
        ("calls/a", "digits", 0),
        ("calls/b", "whisper-english", 0),
        ("calls/c", "whisper-english", 1),
    ]
    assert scores[0].reference == "one two three" and scores[0].hypothesis == "1 2 3", "raw texts are kept as they were"
    _, gathered = desk.gather(texts, normalizer="none")
    assert [row.words.errors for row in score(gathered)] == [3, 2, 1]


def test_two_corpora_may_use_the_same_ids(desk: Desk) -> None:
    desk.corpus([{"id": "a", "text": "other words"}], None, name="talks")
    prepared, gathered = desk.gather(corpora=("calls", "talks"))
    assert [row.id for row in score(gathered)] == ["calls/a", "calls/b", "calls/c", "talks/a"]
    assert set(fingerprint_of(prepared, gathered, "v").corpora) == {"calls", "talks"}


# The fingerprint


def rename_files(desk: Desk) -> None:
    desk.corpus([{**row, "audio_filepath": f"elsewhere/{number}.wav"} for number, row in enumerate(ROWS)])


def reorder(desk: Desk) -> None:
    desk.corpus([{**ROWS[number], "seed": number} for number in (2, 0, 1)])


def describe(desk: Desk) -> None:
    desk.corpus([{**row, "license": "MIT", "source": "me"} for row in ROWS], f"{CONFIG}\ndescription: calls\nlicence: MIT")


def add_corpus_beside(desk: Desk) -> None:
    desk.corpus(ROWS, None, name="talks")


def rename_card(desk: Desk) -> None:
    desk.card(summary="another summary", stage="candidate")


@pytest.mark.parametrize(
    "change", [rename_files, reorder, describe, add_corpus_beside, rename_card], ids=lambda f: f.__name__
)
def test_the_fingerprint_is_blind_to_what_changes_no_number(desk: Desk, change: Callable[[Desk], None]) -> None:
    before = desk.fingerprint(corpora=("calls",))
    change(desk)
    assert desk.fingerprint(corpora=("calls",)) == before


def change_text(desk: Desk) -> None:
    desk.corpus([{**ROWS[0], "text": "one two"}, *ROWS[1:]])


def change_audio(desk: Desk) -> None:
    desk.corpus([{**ROWS[0], "seed": 99}, *ROWS[1:]])


def change_tags(desk: Desk) -> None:
    desk.corpus([*ROWS[:2], {**ROWS[2], "tags": {"domain": "talk"}}])


def add_a_row(desk: Desk) -> None:
    desk.corpus([*ROWS, {"id": "d"}])


def change_normalizer(desk: Desk) -> None:
    desk.corpus(ROWS, CONFIG.replace("whisper-english", "basic"))


def swap_normalizers(desk: Desk) -> None:
    desk.corpus(ROWS, "name: calls\nnormalizer: {default: digits, rules: [{when: {domain: digits}, use: whisper-english}]}")


def change_decoding(desk: Desk) -> None:
    desk.card(decoding={"pause_s": 0.5})


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (change_text, {"corpora"}),
        (change_audio, {"corpora"}),
        (change_tags, {"corpora"}),
        (add_a_row, {"corpora", "normalizers"}),
        (change_normalizer, {"normalizers"}),
        (swap_normalizers, {"normalizers"}),
        (change_decoding, {"model"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_fingerprint_changes_in_the_part_that_changed(
    desk: Desk, change: Callable[[Desk], None], parts: set[str]
) -> None:
    before = desk.fingerprint().model_dump()
    change(desk)
    after = desk.fingerprint().model_dump()
    assert {name for name in before if before[name] != after[name]} == {*parts, "digest"}


def test_quarantine_and_data_version_are_part_of_the_fingerprint(desk: Desk) -> None:
    before, bad, later = desk.fingerprint(), desk.fingerprint(failing=["b"]), desk.fingerprint(version="v2")
    assert bad.quarantined != before.quarantined and bad.digest != before.digest and bad.corpora == before.corpora
    assert desk.fingerprint(failing=["c"]).quarantined not in (before.quarantined, bad.quarantined)
    assert (
        later.digest != before.digest and later.model_copy(update={"data_version": "v1", "digest": before.digest}) == before
    )


def test_a_slice_or_a_limit_is_other_data(desk: Desk) -> None:
    whole = desk.fingerprint()
    assert desk.fingerprint(slices=("domain=read",)).corpora != whole.corpora
    assert desk.fingerprint(limit=2).corpora != whole.corpora
    assert desk.fingerprint(slices=("domain=read",)).corpora == desk.fingerprint(slices=("domain=read",), limit=2).corpora


def test_normalizers_are_named_with_their_versions(desk: Desk) -> None:
    found = desk.fingerprint().normalizers
    assert set(found) == {"digits", "whisper-english"}
    assert all(text.startswith(find_normalizer(name).version) for name, text in found.items())


def test_languages_a_model_lacks_are_the_same_data_all_the_same(desk: Desk) -> None:
    """Else a candidate that drops a language could never be told from one evaluated on other data."""
    rows = [*ROWS, {"id": "d", "language": "de"}, {"id": "e", "language": "de"}, {"id": "f", "language": "es"}]
    desk.corpus(rows)
    desk.card(languages=["*"])
    everything = desk.fingerprint()
    desk.card(languages=["en"])
    some = desk.fingerprint()
    assert (some.corpora, some.normalizers) == (everything.corpora, everything.normalizers)


# The conclusion


def test_an_evaluation_counts_what_it_did(desk: Desk) -> None:
    rows = [*ROWS, {"id": "d", "language": "de"}, {"id": "e", "language": "de"}, {"id": "f", "language": "es"}, {"id": "g"}]
    desk.corpus(rows)
    first = desk.prepare()
    first.store.add(desk.heard(first).records[:1])
    prepared = desk.prepare()
    result = desk.conclude(prepared, [desk.heard(prepared, {"c": "good night"}, failing=["g"])])
    assert result.unsupported == {"de": 2, "es": 1}
    assert [bad.id for bad in result.quarantined] == ["g"]
    assert (result.timings.inferred, result.timings.reused, result.timings.audio_s) == (2, 1, 1.5)
    assert result.timings.inference_s == pytest.approx(0.5)
    assert result.metrics["wer"].value == pytest.approx(1 / 7) and result.metrics["wer"].n == 3
    assert result.slices["domain=digits"]["wer"].value == 0
    assert result.slices["speaker=cy"]["wer"].value == pytest.approx(0.5)
    assert result.metrics["rtf"].value == pytest.approx(0.5) and result.metrics["rtf"].n == 2, "only what was fresh"
    assert result.model_fingerprint["digest"] == result.fingerprint.model == prepared.fingerprint.digest
    assert (result.model, result.corpora, result.selection) == ("toy", ("calls",), {})


def test_nothing_fresh_means_no_speed_and_says_so(desk: Desk) -> None:
    first = desk.prepare()
    first.store.add(desk.heard(first).records)
    result = desk.conclude(desk.prepare(), [])
    for name in ("rtf", "latency_p50", "latency_p95", "load_time", "peak_memory"):
        assert result.metrics[name].value is None and "nothing was computed" in result.metrics[name].note
    assert result.metrics["wer"].value == 0


def test_the_machine_metrics_are_those_of_the_worst_worker() -> None:
    def shard(pid: int, load_s: float, peak_mib: float) -> ShardResult:
        return ShardResult((), (), (WorkerReport(pid, load_s, peak_mib),))

    found = machine_metrics([shard(1, 2.0, 100), shard(2, 3.0, 400), shard(1, 2.0, 300), shard(2, 3.0, 200)])
    assert (found["load_time"].value, found["load_time"].n, found["load_time"].unit) == (3.0, 2, "s")
    assert (found["peak_memory"].value, found["peak_memory"].n, found["peak_memory"].unit) == (400, 2, "MiB")


# The request


def test_a_selection_is_told_in_the_result(desk: Desk) -> None:
    request = EvaluationRequest(model="toy", slices=("domain=read", "speaker=bo"), limit=5, normalizer="basic")
    assert request.selection == {"slice": "domain=read and speaker=bo", "limit": "5", "normalizer": "basic"}
    assert [i.utterance.id for i in desk.prepare(slices=("domain=read", "speaker=bo")).selection.items] == ["b"]


def test_without_names_all_corpora_of_the_task_are_taken(desk: Desk) -> None:
    desk.corpus([{"id": "x"}], "name: voices\ntasks: [tts]", name="voices")
    desk.corpus([{"id": "y"}], None, name="another")
    assert desk.prepare().corpora == ("another", "calls")


@pytest.mark.parametrize(
    ("request_", "kind", "told"),
    [
        ({"model": "toi"}, CardError, "Did you mean 'toy'"),
        ({"corpora": ("call",)}, CorpusError, "Did you mean 'calls'"),
        ({"slices": ("domain=reads",)}, CorpusError, "Did you mean 'read'"),
        ({"normalizer": "digit"}, CorpusError, "Did you mean 'digits'"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_starts(
    desk: Desk, request_: dict[str, Any], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        check_request(desk.lab, EvaluationRequest(**{"model": "toy", **request_}))
    assert not (desk.root / "home").exists()


def test_a_model_that_does_not_transcribe_is_refused(desk: Desk) -> None:
    desk.card(tasks=["tts"])
    with pytest.raises(CardError, match="no task named 'asr'"):
        desk.prepare()


def test_the_task_is_the_cards_first_that_can_be_evaluated_or_the_one_asked_for(desk: Desk) -> None:
    def task(tasks: list[str], **request: Any) -> str:
        desk.card(tasks=tasks)
        return task_of(desk.lab, EvaluationRequest(model="toy", **request))

    assert [task(["asr"]), task(["tts", "asr"]), task(["translation", "tts"])] == ["asr", "tts", "tts"]
    assert task(["asr", "tts"], task="tts") == "tts"
    with pytest.raises(CardError, match="toy does translation; evaluation knows asr and tts"):
        task(["translation"])
    with pytest.raises(CardError, match=r"no task of toy that can be evaluated named 'tts'.*Available: asr"):
        task(["asr", "translation"], task="tts")
