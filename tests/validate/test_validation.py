"""Validation as a whole: what is read again, thresholds, severities, the page, prompts, and what evaluations link to."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from models.errors import CorpusError, PolicyError
from pipelines.corpus import CorpusConfig, corpus_digest, read_corpus
from pipelines.validate.languages import foreign_characters
from pipelines.validate.limits import ValidationLimits, read_limits
from pipelines.validate.result import newest_validation
from tests.validate.conftest import Bench, speechlike


def test_only_what_changed_is_read_again(bench: Bench) -> None:
    case = bench.case()
    assert (bench.validate().measured, bench.validate().measured) == (4, 0)
    case.sound(1, speechlike(2, 99))
    changed = bench.validate()
    assert (changed.measured, changed.reused) == (1, 3)
    # The same bytes at another place are recognised by their digest, and not decoded.
    shutil.copytree(case.folder, case.folder.parent / "moved")
    (case.folder.parent / "moved" / "corpus.yaml").write_text("name: moved\nlicence: internal\n")
    moved = bench.validate("moved")
    assert (moved.measured, moved.reused) == (0, 4)


def test_the_shipped_corpora_are_valid(bench: Bench, starter: Path) -> None:
    for name in ("starter", "prompts-plain", "prompts-hard"):
        shutil.copytree(starter.parent / name, bench.lab.data / name)
        validation = bench.validate(name)
        assert validation.valid and not validation.failed, [result.sentence for result in validation.failed]
    assert {result.suite for result in validation.expectations} == {"manifest"}, "prompts have no recordings to check"


def test_an_invalid_prompt_is_caught_too(bench: Bench) -> None:
    folder = bench.lab.data / "prompts"
    folder.mkdir(parents=True)
    (folder / "corpus.yaml").write_text("tasks: [tts]\nlicence: CC0-1.0\n")
    (folder / "manifest.jsonl").write_text('{"id": "a", "text": "Hello."}\n{"id": "a", "text": "Привет."}\n')
    assert {result.name for result in bench.validate("prompts").failed} == {"ids_unique", "script_of_language"}


def test_a_corpus_may_have_limits_of_its_own_and_a_project_other_severities(bench: Bench) -> None:
    case = bench.case()
    case.rows[0]["text"] = "word " * 40
    case.config["validation"] = {"max_words_per_second": 30}
    case.save()
    assert not bench.validate().failed
    case.config["validation"] = {"severity": {"speaking_rate_plausible": "error"}}
    case.save()
    validation = bench.validate()
    assert not validation.valid and [result.severity for result in validation.failed] == ["error"]


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"max_clippd": 0.1}, "no field named 'max_clippd'. Did you mean 'max_clipped'"),
        ({"max_clipped": 2}, "validation.max_clipped is 2"),
        ({"min_duration_s": 9, "max_duration_s": 3}, r"min_duration_s \(9\) must be below max_duration_s \(3\)"),
        ({"severity": {"not_cliped": "error"}}, "no expectation named 'not_cliped'. Did you mean 'not_clipped'"),
        ({"severity": {"not_clipped": "fatal"}}, "validation.severity.not_clipped is 'fatal'"),
        ("strict", "validation is 'strict'"),
    ],
)
def test_wrong_limits_are_refused_by_name(section: object, says: str, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"validation": section}))
    with pytest.raises(PolicyError, match=says):
        read_limits(params, CorpusConfig())
    if isinstance(section, dict):
        params.write_text("{}")
        with pytest.raises(PolicyError, match=says):
            read_limits(params, CorpusConfig(name="calls", validation=section))


def test_the_shipped_limits_are_the_defaults(repository: Path) -> None:
    assert read_limits(repository / "params.yaml", CorpusConfig()) == ValidationLimits()


def test_the_page_is_one_file_that_asks_nothing_of_the_network(bench: Bench) -> None:
    case = bench.case()
    hostile = "<script>alert(1)</script><img src=https://example.org/x onerror=alert(1)>"
    case.rows[0]["license"] = hostile
    case.rows[1]["id"] = '"><b onmouseover=alert(1)>'
    case.rows[1]["license"] = "NC"
    case.save()
    page = Path(bench.validate().page).read_text(encoding="utf-8")
    assert "licence_allowed" in page and "Every licence is one that the project may use" in page
    assert not re.search(r"<(script|link|img|iframe|b)\b", page), "what a manifest smuggles in stays text"
    assert not re.search(r"<[^>]*\b(src|href|on\w+)\s*=", page) and "url(" not in page
    assert "default-src 'none'" in page and "&lt;script&gt;" in page


def test_an_evaluation_finds_the_validation_of_its_data(bench: Bench) -> None:
    case = bench.case()
    first, second = bench.validate(), bench.validate()
    corpus = read_corpus(case.folder)
    from models.audio import file_sha256

    digest = corpus_digest(corpus.utterances, {u.id: file_sha256(corpus.audio_path(u)) for u in corpus.utterances})
    assert digest == first.digest
    found = newest_validation(bench.lab.home, "calls", digest, "untracked")
    assert found is not None and found.page == second.page, "the newest one"
    assert newest_validation(bench.lab.home, "calls", "0" * 64, "untracked") is None
    (Path(second.page).parent / "validation.json").write_text("{}")
    found = newest_validation(bench.lab.home, "calls", digest, "untracked")
    assert found is not None and found.page == first.page, "what another version wrote is passed over"


def test_apart_from_a_corpus_that_is_not_there_is_refused(bench: Bench) -> None:
    case = bench.case()
    case.config["apart_from"] = ["trian"]
    case.save()
    bench.case("train")
    with pytest.raises(CorpusError, match=r"no corpus named 'trian'\. Did you mean 'train'"):
        bench.validate()


def test_a_line_without_end_is_not_read_into_memory(bench: Bench) -> None:
    case = bench.case()
    with (case.folder / "manifest.jsonl").open("a") as file:
        file.write('{"text": "' + "a" * (2 << 20))
    assert "more than 1048576 characters" in next(r.sentence for r in bench.validate().failed if r.name == "lines_readable")


@pytest.mark.parametrize(
    ("text", "language", "script", "letters"),
    [
        ("naïve café, 5 € 😀", "en", "", ""),
        ("hello", "ru", "helo", ""),
        ("Straße", "en", "", "ß"),
        ("Straße", "de", "", ""),
        ("\u0130stanbul \u0131s\u0131", "tr", "", ""),
        ("日本語 ok", "ja", "", ""),
        ("a\ufffdb\x00", "en", "\ufffd\x00", ""),
        ("Ã©tÃ©", "fr", "Ã©", ""),
        ("o\u0301", "es", "", ""),
        ("žluť", "en-GB", "", "žť"),
        ("any thing", "xx", "", ""),
    ],
)
def test_characters_that_a_language_does_not_have(text: str, language: str, script: str, letters: str) -> None:
    assert foreign_characters(text, language) == (script, letters)


def test_the_record_survives_a_round_trip(bench: Bench) -> None:
    bench.case()
    validation = bench.validate()
    stored = json.loads((Path(validation.page).parent / "validation.json").read_text())
    assert type(validation).model_validate(stored) == validation
