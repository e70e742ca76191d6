"""Prompts: a manifest of texts for voices, what is refused with its line, and the two sets that ship."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import CorpusError
from pipelines.corpus import corpus_tasks, find_corpus, list_corpora, parse_line, select, slice_facets
from pipelines.normalize import find_normalizer
from pipelines.prepare import EvaluationRequest, choose_corpora, choose_prompts
from pipelines.prompts import Prompt, PromptCorpus, find_prompts, parse_prompt, prompt_digest, read_prompts
from tests.pipelines.toy_lab import Desk

ROW = {"id": "money-01", "text": "It was $5."}
RECORDING = {"audio_filepath": "audio/a.wav", "duration": 1.5, "text": "hello there"}
CONFIG = "tasks: [tts]\n"


def write(folder: Path, *lines: dict[str, Any] | str, config: str | None = CONFIG) -> Path:
    folder.mkdir(parents=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "manifest.jsonl").write_text("\n".join(texts), encoding="utf-8")
    if config is not None:
        (folder / "corpus.yaml").write_text(config, encoding="utf-8")
    return folder


# A line


def test_an_id_and_a_text_are_enough() -> None:
    prompt = parse_prompt(json.dumps(ROW))
    assert prompt == Prompt(id="money-01", text="It was $5.")
    assert (prompt.spoken, prompt.language, prompt.speaker, prompt.tags) == (None, "en", "unknown", {})


@pytest.mark.parametrize(
    ("extra", "reference"),
    [
        ({}, "It was $5."),
        ({"spoken": None}, "It was $5."),
        ({"spoken": "It was five dollars."}, "It was five dollars."),
        ({"spoken": ""}, ""),
        ({"text": "   "}, "   "),
    ],
)
def test_what_should_be_heard_is_what_is_written_unless_said(extra: dict[str, Any], reference: str) -> None:
    assert parse_prompt(json.dumps({**ROW, **extra})).reference == reference


def test_what_other_tools_write_becomes_tags() -> None:
    prompt = parse_prompt(
        json.dumps({**ROW, "lang": "de", "domain": "bank", "n": 3, "list": [1], "tags": {"kind": "money"}})
    )
    assert slice_facets(prompt) == {"domain": "bank", "n": "3", "kind": "money", "language": "de", "speaker": "unknown"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{not json", r"not JSON \(.+ at column \d+\)"),
        ("[]", "a JSON object is expected, found list"),
        (json.dumps({"id": "a"}), "text: Field required"),
        (json.dumps({"text": "a"}), "id: Field required"),
        (json.dumps({**ROW, "id": ""}), "id: .*at least 1 character"),
        (json.dumps({**ROW, "id": 7}), "id: .*found 7"),
        (json.dumps({**ROW, "text": None}), "text: .*found None"),
        (json.dumps({**ROW, "text": 5}), "text: .*found 5"),
        (json.dumps({**ROW, "spoken": 5}), "spoken: .*found 5"),
        (json.dumps({**ROW, "tags": {"kind": 1}}), "tags.kind: .*found 1"),
        (json.dumps({**ROW, "audio_filepath": 5, "duration": 1}), "audio_filepath: .*found 5"),
        (json.dumps({**ROW, "audio_filepath": "a.wav"}), "duration: Field required"),
        (json.dumps({**ROW, "audio_filepath": "a.wav", "duration": "long"}), "duration: .*found 'long'"),
        (json.dumps({**ROW, "audio_filepath": "../a.wav", "duration": 1}), "leaves the corpus's folder"),
        (
            json.dumps({**ROW, "reference_audio_filepath": "../a.wav"}),
            "reference_audio_filepath '../a.wav' leaves the corpus's",
        ),
        (json.dumps({**ROW, "reference_audio_filepath": "/etc/a.wav"}), "leaves the corpus's folder"),
        (json.dumps({**ROW, "reference_audio_filepath": ""}), "reference_audio_filepath '' names no file"),
        (json.dumps({**ROW, "reference_audio_filepath": 5}), "reference_audio_filepath: .*found 5"),
        (json.dumps({**RECORDING, "spoken": 5}), "spoken: .*found 5"),
    ],
)
def test_a_line_that_cannot_be_used_says_which_field(line: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_prompt(line)


def test_the_reference_of_a_recording_is_a_prompt_too() -> None:
    row = {**RECORDING, "speaker": "ada", "license": "MIT", "accent": "fr", "spoken": "hello"}
    assert parse_prompt(json.dumps(row)) == Prompt(
        id="audio/a", text="hello there", spoken="hello", speaker="ada", license="MIT", tags={"accent": "fr"}
    )
    voiced = {**row, "reference_audio_filepath": "ada.flac"}
    assert parse_prompt(json.dumps(voiced)).reference_audio_filepath == "ada.flac"
    assert parse_line(json.dumps(row)) == parse_line(json.dumps(voiced))
    assert parse_line(json.dumps(row)).tags == {"accent": "fr"}, "what voices should say is no slice of recordings"


# A manifest


def test_faults_are_told_with_their_lines(tmp_path: Path) -> None:
    folder = write(tmp_path / "bad", ROW, "", "{broken", {"id": "x"}, {**ROW, "text": "again"}, {**ROW, "id": "ok"})
    with pytest.raises(
        CorpusError,
        match=r"^bad/manifest\.jsonl has 3 bad line\(s\): line 3: not JSON .*; line 4: text: Field required .*; "
        r"line 5: id 'money-01' is already on line 1\.",
    ):
        read_prompts(folder)


def test_prompts_keep_their_order_and_their_settings(tmp_path: Path) -> None:
    config = "tasks: [tts]\nlicence: CC0-1.0\nnormalizer: {default: basic, rules: [{when: {kind: money}, use: digits}]}\n"
    rows = [{**ROW, "id": "b", "tags": {"kind": "money"}}, {**ROW, "id": "a"}]
    corpus = read_prompts(write(tmp_path / "calls", *rows, config=config))
    assert (corpus.name, corpus.config.licence) == ("calls", "CC0-1.0")
    assert [(p.id, corpus.config.normalizers.of(p)) for p in corpus.prompts] == [("b", "digits"), ("a", "basic")]
    assert [p.id for p in select(corpus.prompts, [("kind", "money")])] == ["b"]


# Prompts beside recordings


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "data" / "calls", RECORDING, config=None)
    write(tmp_path / "data" / "both", RECORDING, config="tasks: [asr, tts]")
    write(tmp_path / "data" / "prompts", ROW)
    return tmp_path / "data"


def test_both_kinds_are_listed_and_each_is_read_as_what_it_is(data: Path) -> None:
    assert list_corpora(data) == ["both", "calls", "prompts"]
    assert [corpus_tasks(data / name) for name in list_corpora(data)] == [("asr", "tts"), ("asr",), ("tts",)]
    assert [p.text for p in find_prompts("prompts", data).prompts] == ["It was $5."]
    assert [p.text for p in find_prompts(str(data / "both"), data).prompts] == ["hello there"]
    assert [u.id for u in find_corpus("both", data).utterances] == ["audio/a"]


@pytest.mark.parametrize(
    ("find", "name", "told"),
    [
        (find_corpus, "prompts", "prompts holds prompts, not recordings.*task asr"),
        (find_prompts, "calls", "calls is a corpus for asr, not of prompts.*task tts"),
        (find_prompts, "promts", "no corpus named 'promts'.*Did you mean 'prompts'"),
        (find_prompts, "./gone", "The folder ./gone has no manifest"),
    ],
)
def test_a_corpus_of_the_other_kind_is_refused_by_name(
    data: Path, find: Callable[[str, Path], object], name: str, told: str
) -> None:
    with pytest.raises(CorpusError, match=told):
        find(name, data)


def test_without_a_corpus_named_each_task_takes_its_own(tmp_path: Path) -> None:
    """A broken manifest of the other kind is none of an evaluation's business: it is not read."""
    desk = Desk(tmp_path)
    folders = desk.lab.data
    write(folders / "calls", RECORDING, config=None)
    write(folders / "both", RECORDING, config="tasks: [asr, tts]")
    broken = write(folders / "prompts", ROW, "{broken")
    request = EvaluationRequest(model="toy")
    assert [corpus.name for corpus, _ in choose_corpora(desk.lab, request, "asr")] == ["both", "calls"]
    with pytest.raises(CorpusError, match=r"prompts/manifest\.jsonl has 1 bad line"):
        choose_prompts(desk.lab, request)
    (broken / "manifest.jsonl").write_text(json.dumps(ROW))
    (folders / "calls" / "manifest.jsonl").write_text("{broken")
    assert [corpus.name for corpus, _ in choose_prompts(desk.lab, request)] == ["both", "prompts"]


# The digest


PROMPTS = (Prompt(id="1", text="It was $5."), Prompt(id="2", text="Yes.", tags={"a": "x", "b": "y"}))


@pytest.mark.parametrize(
    "same",
    [
        PROMPTS[::-1],
        [PROMPTS[0], PROMPTS[1].model_copy(update={"tags": {"b": "y", "a": "x"}})],
        [p.model_copy(update={"license": "CC0-1.0", "source": "me"}) for p in PROMPTS],
        [p.model_copy(update={"spoken": p.text}) for p in PROMPTS],
    ],
    ids=["order", "order of tags", "licence and source", "what is heard said twice"],
)
def test_the_digest_is_blind_to_what_changes_no_number(same: tuple[Prompt, ...]) -> None:
    assert prompt_digest(same) == prompt_digest(PROMPTS)


@pytest.mark.parametrize(
    "update",
    [{"id": "9"}, {"text": "It is $5."}, {"spoken": "x"}, {"language": "de"}, {"speaker": "ada"}, {"tags": {"a": "x"}}],
    ids=str,
)
def test_the_digest_sees_whatever_is_said_scored_or_sliced_by(update: dict[str, Any]) -> None:
    assert prompt_digest([PROMPTS[0].model_copy(update=update), PROMPTS[1]]) != prompt_digest(PROMPTS)
    assert prompt_digest(PROMPTS[:1]) != prompt_digest(PROMPTS)


# What ships


KINDS = {
    *("numbers", "dates", "money", "units", "abbreviations", "urls", "heteronyms", "names", "long", "one-word"),
    *("emoji", "empty", "mixed"),
}


@pytest.fixture(scope="module")
def plain(repository: Path) -> PromptCorpus:
    return find_prompts("prompts-plain", repository / "data")


@pytest.fixture(scope="module")
def hard(repository: Path) -> PromptCorpus:
    return find_prompts("prompts-hard", repository / "data")


def test_the_plain_set_is_read_as_it_is_written(plain: PromptCorpus) -> None:
    assert len(plain.prompts) == 30
    assert all(re.fullmatch(r"[A-Z][A-Za-z ,]+\.", p.text) and p.spoken is None for p in plain.prompts)
    lengths = [len(p.text.split()) for p in plain.prompts]
    assert (min(lengths), max(lengths)) == (6, 20)


def test_the_hard_set_has_every_kind(hard: PromptCorpus) -> None:
    counts = Counter(p.tags["kind"] for p in hard.prompts)
    assert set(counts) == KINDS
    assert all(count >= (2 if kind == "empty" else 5) for kind, count in counts.items())
    assert {p.text.strip() for p in hard.prompts if p.tags["kind"] == "empty"} == {""}
    assert all(len(p.text.split()) == 1 for p in hard.prompts if p.tags["kind"] == "one-word")


def test_both_sets_are_free_numbered_by_kind_and_sliced_by_length(plain: PromptCorpus, hard: PromptCorpus) -> None:
    for corpus in (plain, hard):
        assert (corpus.config.licence, corpus.config.tasks) == ("CC0-1.0", ("tts",))
        for prompt in corpus.prompts:
            words = len(prompt.reference.split())
            assert prompt.tags["length"] == ("short" if words <= 7 else "medium" if words <= 15 else "long"), prompt.id
            assert re.fullmatch(rf"{prompt.tags['kind']}-\d\d", prompt.id) and prompt.language == "en"
    texts = Counter(p.text for p in (*plain.prompts, *hard.prompts))
    assert set(texts.values()) == {1}


@pytest.mark.parametrize(
    ("prompt", "heard"),
    [
        ("numbers-01", ["The stadium holds 23,400 people."]),
        ("numbers-02", ["The average rose from 2.5 to 3.75 in a year."]),
        ("numbers-05", ["about two-thirds of the seats were taken."]),
        (
            "numbers-06",
            ["More than 1 million people live in this valley.", "More than one million people live in this valley."],
        ),
        ("dates-01", ["The bridge opened on the 3rd of March 1998."]),
        ("dates-05", ["We met in November 2008, and again in February 2015."]),
        ("money-01", ["The ticket was $5.20."]),
        ("money-03", ["He paid 40 pounds for an old bicycle.", "He paid £40 for an old bicycle."]),
        ("money-04", ["Coffee is three euros and lunch is 15 euros."]),
        ("money-05", ["rent went from $1,200 to $1,350 a month."]),
        ("units-05", ["It was minus 5 degrees Celsius this morning."]),
        ("abbreviations-02", ["Mr. and Mrs. Green have a dog."]),
        ("urls-03", ["The manual is at example.org slash help."]),
        ("urls-04", ["Send your questions to info at example.com"]),
        ("emoji-06", [""]),
    ],
)
def test_a_right_reading_has_no_errors(hard: PromptCorpus, prompt: str, heard: list[str]) -> None:
    """What Whisper (base, tiny.en) wrote when two voices were given the spoken form."""
    found = next(p for p in hard.prompts if p.id == prompt)
    normalize = find_normalizer(hard.config.normalizers.of(found))
    assert {normalize(text) for text in heard} == {normalize(found.reference)}
