"""A corpus is a folder: what its manifest may say, what is refused with its line, and what its digest stands for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import CorpusError
from pipelines.corpus import (
    CorpusConfig,
    NormalizerChoice,
    NormalizerRule,
    corpus_digest,
    find_corpus,
    list_corpora,
    parse_line,
    parse_slice,
    read_corpus,
    select,
    slice_facets,
)
from pipelines.types import Utterance

NEMO = {"audio_filepath": "audio/a.wav", "duration": 1.5, "text": "hello there"}


def make(id: str = "a", **fields: Any) -> Utterance:
    return Utterance.model_validate({"id": id, **NEMO, **fields})


def write(folder: Path, *lines: dict[str, Any] | str, config: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "manifest.jsonl").write_text("\n".join(texts), encoding="utf-8")
    if config is not None:
        (folder / "corpus.yaml").write_text(config, encoding="utf-8")
    return folder


# A line


def test_nemos_three_keys_are_enough() -> None:
    found = parse_line(json.dumps(NEMO))
    assert found == Utterance(id="audio/a", audio_filepath="audio/a.wav", duration=1.5, text="hello there")
    assert (found.language, found.speaker, found.tags) == ("en", "unknown", {})


def test_ids_made_from_paths_keep_folders_and_dots_apart() -> None:
    ids = [parse_line(json.dumps({**NEMO, "audio_filepath": path})).id for path in ("x/1.wav", "y/1.wav", "y/1.2.wav")]
    assert ids == ["x/1", "y/1", "y/1.2"]


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ({"id": "mine"}, "id", "mine"),
        ({"lang": "de"}, "language", "de"),
        ({"lang": "de", "language": "es"}, "language", "es"),
        ({"speaker": "ada", "license": "MIT", "source": "me"}, "speaker", "ada"),
        (
            {"accent": "fr", "age": 30, "snr": 12.5, "noisy": True},
            "tags",
            {"accent": "fr", "age": "30", "snr": "12.5", "noisy": "True"},
        ),
        ({"accent": "fr", "tags": {"accent": "be", "domain": "read"}}, "tags", {"accent": "be", "domain": "read"}),
        ({"words": [1, 2], "nothing": None, "nested": {"a": 1}}, "tags", {}),
        ({"offset": 0}, "tags", {}),
        ({"offset": 0.0}, "tags", {}),
        ({"text": ""}, "text", ""),
        ({"text": "größer — 日本"}, "text", "größer — 日本"),
    ],
)
def test_what_other_tools_write_is_taken_as_it_is(extra: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(parse_line(json.dumps({**NEMO, **extra})), field) == value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{not json", r"not JSON \(.+ at column \d+\)"),
        ("", "not JSON"),
        ("[1, 2]", "a JSON object is expected, found list"),
        ('"text"', "a JSON object is expected, found str"),
        (json.dumps({**NEMO, "duration": 0}), "duration: .*greater than 0 .*found 0"),
        (json.dumps({**NEMO, "duration": -1.5}), "duration: .*found -1.5"),
        (json.dumps({**NEMO, "duration": "long"}), "duration: .*found 'long'"),
        (json.dumps({**NEMO, "duration": float("nan")}), "duration: .*found nan"),
        (json.dumps({**NEMO, "text": None}), "text: "),
        (json.dumps({key: NEMO[key] for key in ("audio_filepath", "duration")}), "text: Field required"),
        (json.dumps({key: NEMO[key] for key in ("text", "duration")}), "Field required"),
        (json.dumps({**NEMO, "offset": 3.5}), "offset is not supported"),
        (json.dumps({**NEMO, "audio_filepath": "/etc/passwd"}), "'/etc/passwd' leaves the corpus's folder"),
        (json.dumps({**NEMO, "audio_filepath": "../other/a.wav"}), "leaves the corpus's folder"),
        (json.dumps({**NEMO, "audio_filepath": "audio/../../a.wav"}), "leaves the corpus's folder"),
        (json.dumps({**NEMO, "tags": {"a": {"b": "c"}}}), "tags.a: "),
        (json.dumps({**NEMO, "tags": None}), "tags: .*found None"),
        (json.dumps({**NEMO, "tags": None, "accent": "fr"}), "tags: .*found None"),
        (json.dumps({**NEMO, "tags": ["a"], "accent": "fr"}), "tags: .*found .'a'."),
        (json.dumps({**NEMO, "audio_filepath": ""}), "audio_filepath: .*at least 1 character"),
        (json.dumps({**NEMO, "audio_filepath": "", "id": "x"}), "audio_filepath: .*at least 1 character"),
        (json.dumps({**NEMO, "audio_filepath": "."}), "audio_filepath '.' names no file"),
        (json.dumps({**NEMO, "id": ""}), "id: .*at least 1 character"),
    ],
)
def test_a_line_that_cannot_be_used_says_what_was_found(line: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_line(line)


def test_two_dots_inside_a_name_are_no_way_out() -> None:
    assert parse_line(json.dumps({**NEMO, "audio_filepath": "audio/a..b.wav"})).audio_filepath == "audio/a..b.wav"


# A manifest


def test_a_corpus_is_its_folder_its_lines_and_its_settings(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "calls",
        {**NEMO, "id": "b"},
        "",
        {**NEMO, "id": "a"},
        config="name: calls\nlicence: CC0-1.0\ntasks: [asr, tts]\n",
    )
    corpus = read_corpus(folder)
    assert [u.id for u in corpus.utterances] == ["b", "a"], "in the manifest's order, empty lines left out"
    assert (corpus.name, corpus.config.licence, corpus.config.tasks) == ("calls", "CC0-1.0", ("asr", "tts"))
    assert corpus.audio_path(corpus.utterances[0]) == folder / "audio" / "a.wav"


def test_a_corpus_without_settings_has_plain_ones(tmp_path: Path) -> None:
    config = read_corpus(write(tmp_path / "plain", NEMO)).config
    assert (config.name, config.tasks, config.normalizers) == ("plain", ("asr",), NormalizerChoice(default="basic"))


def test_faults_are_told_with_their_lines(tmp_path: Path) -> None:
    folder = write(tmp_path / "bad", NEMO, "", "{broken", {**NEMO, "id": "x", "duration": 0}, {**NEMO, "id": "ok"})
    with pytest.raises(
        CorpusError, match=r"^bad/manifest\.jsonl has 2 bad line\(s\): line 3: not JSON .*; line 4: duration"
    ) as e:
        read_corpus(folder)
    assert "line 1" not in e.value.message and "nothing was evaluated" in e.value.remedy


def test_an_id_that_occurs_twice_names_both_lines(tmp_path: Path) -> None:
    folder = write(tmp_path / "bad", {**NEMO, "id": "x"}, NEMO, {**NEMO, "id": "x"}, {**NEMO, "id": "x"})
    with pytest.raises(CorpusError, match=r"line 3: id 'x' is already on line 1; line 4: id 'x' is already on line 1"):
        read_corpus(folder)


def test_paths_that_give_one_id_are_duplicates_too(tmp_path: Path) -> None:
    folder = write(tmp_path / "bad", {**NEMO, "audio_filepath": "a.wav"}, {**NEMO, "audio_filepath": "a.mp3"})
    with pytest.raises(CorpusError, match="line 2: id 'a' is already on line 1"):
        read_corpus(folder)


def test_of_many_faults_five_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has 8 bad line\(s\).*line 5: .*\(and 3 more\)") as error:
        read_corpus(write(tmp_path / "bad", *["{"] * 8))
    assert "line 6" not in str(error.value)


def test_a_manifest_of_other_bytes_is_a_bad_line_and_no_crash(tmp_path: Path) -> None:
    folder = write(tmp_path / "bytes", NEMO)
    with (folder / "manifest.jsonl").open("ab") as file:
        file.write(b"\n\xff\xfe\x00\x80\n")
    with pytest.raises(CorpusError, match="line 2: not JSON"):
        read_corpus(folder)


def test_a_manifest_without_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"empty/manifest\.jsonl has no utterances"):
        read_corpus(write(tmp_path / "empty", "", "  "))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("name: [", r"c/corpus\.yaml is wrong"),
        ("", r"c/corpus\.yaml is wrong"),
        ("name: c\ntasks: [sing]", "tasks.0"),
        ("name: c\nnormaliser: basic", "normaliser: Extra inputs"),
        ("name: c\nnormalizer: {rules: []}", "normalizer"),
        ("name: other", "names the corpus 'other'"),
        ("normalizer: bascic", "Did you mean 'basic'"),
        ("normalizer: {default: basic, rules: [{when: {language: de}, use: gernam}]}", "no normalizer named 'gernam'"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, config: str, told: str) -> None:
    with pytest.raises(CorpusError, match=told):
        read_corpus(write(tmp_path / "c", NEMO, config=config))


# Finding one


def test_corpora_are_the_folders_with_a_manifest(tmp_path: Path) -> None:
    for name in ("zulu", "alpha"):
        write(tmp_path / name, NEMO)
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    assert list_corpora(tmp_path) == ["alpha", "zulu"]
    assert list_corpora(tmp_path / "gone") == []


def test_a_corpus_is_found_by_name_or_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "data" / "calls", NEMO)
    monkeypatch.chdir(tmp_path)
    for name in ("calls", str(folder), "./data/calls", "data/calls"):
        found = find_corpus(name, tmp_path / "data")
        assert (found.name, found.folder) == ("calls", folder)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("callz", r"There is no corpus named 'callz'\. Did you mean 'calls'\? Available: calls, digits"),
        ("./calls", r"The folder \./calls has no manifest\.jsonl"),
        ("/nowhere", r"The folder /nowhere has no manifest\.jsonl"),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_what_there_is(tmp_path: Path, name: str, told: str) -> None:
    for known in ("calls", "digits"):
        write(tmp_path / known, NEMO)
    with pytest.raises(CorpusError, match=told):
        find_corpus(name, tmp_path)


def test_no_corpora_at_all_are_answered_with_dvc_pull(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no corpora: run `dvc pull` first"):
        find_corpus("starter", tmp_path)


# Normalizers


CHOICE = NormalizerChoice(
    default="whisper-english",
    rules=(
        NormalizerRule(when={"domain": "digits", "language": "de"}, use="none"),
        NormalizerRule(when={"domain": "digits"}, use="digits"),
        NormalizerRule(when={"language": "de"}, use="german"),
        NormalizerRule(when={"speaker": "ada"}, use="basic"),
        NormalizerRule(when={"domain": "digits"}, use="never"),
    ),
)


@pytest.mark.parametrize(
    ("fields", "used"),
    [
        ({}, "whisper-english"),
        ({"tags": {"domain": "read"}}, "whisper-english"),
        ({"tags": {"domain": "digits"}}, "digits"),
        ({"tags": {"domain": "digits"}, "language": "de"}, "none"),
        ({"language": "de"}, "german"),
        ({"language": "de", "speaker": "ada"}, "german"),
        ({"speaker": "ada"}, "basic"),
    ],
)
def test_the_first_rule_whose_tags_all_match_names_the_normalizer(fields: dict[str, Any], used: str) -> None:
    assert CHOICE.of(make(**fields)) == used


def test_a_rule_without_conditions_is_for_all() -> None:
    assert NormalizerChoice(default="a", rules=(NormalizerRule(when={}, use="b"),)).of(make()) == "b"


def test_settings_may_give_just_a_name() -> None:
    assert CorpusConfig(name="c", normalizer="digits").normalizers.of(make()) == "digits"
    nested = CorpusConfig.model_validate(
        {"name": "c", "normalizer": {"default": "x", "rules": [{"when": {"language": "en"}, "use": "y"}]}}
    )
    assert nested.normalizers.of(make()) == "y"


def test_the_starter_corpus_scores_digits_and_languages_by_their_own_rules(starter: Path) -> None:
    corpus = read_corpus(starter)
    used = {(u.tags.get("domain") == "digits", u.language): corpus.config.normalizers.of(u) for u in corpus.utterances}
    assert used[True, "en"] == "digits"
    assert used[False, "en"] == "whisper-english"
    assert used[False, "de"] == used[False, "es"] == "basic"


# Slices


ROWS = (
    make("1", tags={"domain": "digits", "bandwidth": "narrow"}, speaker="ada"),
    make("2", tags={"domain": "digits", "bandwidth": "wide"}, speaker="bo"),
    make("3", tags={"domain": "read", "bandwidth": "wide"}, speaker="ada", language="de"),
    make("4", speaker="ada"),
)


def test_facets_are_tags_language_and_speaker() -> None:
    assert slice_facets(ROWS[2]) == {"domain": "read", "bandwidth": "wide", "language": "de", "speaker": "ada"}


@pytest.mark.parametrize(
    ("slices", "ids"),
    [
        ([], "1234"),
        ([("domain", "digits")], "12"),
        ([("domain", "digits"), ("bandwidth", "wide")], "2"),
        ([("language", "de")], "3"),
        ([("speaker", "ada")], "134"),
    ],
)
def test_what_matches_every_pair_is_kept_in_order(slices: list[tuple[str, str]], ids: str) -> None:
    assert "".join(u.id for u in select(ROWS, slices)) == ids


@pytest.mark.parametrize(
    ("slices", "told"),
    [
        (
            [("domian", "digits")],
            r"no slice key named 'domian'\. Did you mean 'domain'\? Available: bandwidth, domain, language, speaker",
        ),
        ([("domain", "digit")], r"no value of domain named 'digit'\. Did you mean 'digits'\? Available: digits, read"),
        ([("language", "de"), ("domain", "digits")], r"no value of domain named 'digits'.*Available: read"),
    ],
)
def test_an_empty_slice_is_refused_with_what_there_is(slices: list[tuple[str, str]], told: str) -> None:
    with pytest.raises(CorpusError, match=told):
        select(ROWS, slices)


@pytest.mark.parametrize("text", ["domain", "=x", "x=", "=", ""])
def test_a_slice_is_key_and_value(text: str) -> None:
    with pytest.raises(CorpusError, match="is not a slice"):
        parse_slice(text)


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_slice("source=a=b") == ("source", "a=b")


# The digest


SHA = {"1": "1" * 64, "2": "2" * 64, "3": "3" * 64, "4": "4" * 64}


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1],
        lambda rows: (u.model_copy(update={"audio_filepath": f"elsewhere/{u.id}.flac"}) for u in rows),
        lambda rows: [u.model_copy(update={"source": "x", "license": "y"}) for u in rows],
        lambda rows: [u.model_copy(update={"tags": dict(reversed(u.tags.items()))}) for u in rows],
    ],
    ids=["order", "file names", "licence and source", "order of tags"],
)
def test_the_digest_is_blind_to_what_changes_no_number(change: Callable[[tuple[Utterance, ...]], Any]) -> None:
    assert corpus_digest(change(ROWS), SHA) == corpus_digest(ROWS, SHA)


@pytest.mark.parametrize(
    "update",
    [
        {"id": "9"},
        {"text": "hello their"},
        {"text": "Hello there"},
        {"language": "es"},
        {"speaker": "cy"},
        {"tags": {"domain": "digits"}},
        {"tags": {"domain": "digits", "bandwidth": "narrow", "more": "x"}},
        {"tags": {"domain": "read", "bandwidth": "narrow"}},
    ],
    ids=str,
)
def test_the_digest_sees_whatever_is_scored_or_sliced_by(update: dict[str, Any]) -> None:
    changed = (ROWS[0].model_copy(update=update), *ROWS[1:])
    assert corpus_digest(changed, {**SHA, "9": SHA["1"]}) != corpus_digest(ROWS, SHA)


def test_the_digest_sees_the_audio_and_whose_it_is() -> None:
    assert corpus_digest(ROWS, {**SHA, "1": "f" * 64}) != corpus_digest(ROWS, SHA)
    assert corpus_digest(ROWS, {**SHA, "1": SHA["2"], "2": SHA["1"]}) != corpus_digest(ROWS, SHA)
    assert corpus_digest(ROWS[:3], SHA) != corpus_digest(ROWS, SHA)


def test_no_text_can_pass_for_another_line() -> None:
    sly = [make("1", text='x", "en", "unknown", []]\n["2", "2')]
    assert corpus_digest(sly, SHA) != corpus_digest([make("1", text="x"), make("2", text="")], SHA)
