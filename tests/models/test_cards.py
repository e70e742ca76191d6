"""Every shipped card is complete, and a card that reaches outside its folder is refused."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from models.card import ConvertSource, HttpSource, HubSource, MlflowSource, ModelCard, PackageSource, read_cards
from models.engine import decoding_of, engine_class, import_named, placement_of

SHA = "0" * 64
NAMES = sorted(read_cards())
WHISPERS = [name for name in NAMES if "whisper" in name]


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_the_settings_and_the_devices_are_real(name: str, cards: Mapping[str, ModelCard]) -> None:
    card = cards[name]
    assert engine_class(card).packages or hasattr(engine_class(card), "identity")
    decoding_of(card)
    for device in card.devices:
        assert placement_of(card, device).compute_type
    assert card.licence
    assert card.languages


@pytest.mark.parametrize("name", NAMES)
def test_every_source_can_give_every_file(name: str, cards: Mapping[str, ModelCard]) -> None:
    card = cards[name]
    assert bool(card.weights.files) == bool(card.weights.sources)
    for source in card.weights.sources:
        files = card.weights.files_of(source)
        match source:
            case PackageSource():
                assert source.members.keys() == files.keys()
            case HubSource() | HttpSource() | MlflowSource():
                assert source.members.keys() <= files.keys()
            case ConvertSource():
                assert source.card in cards
                assert callable(import_named(source.converter, "converter"))


def test_each_task_has_one_model_in_production(cards: Mapping[str, ModelCard]) -> None:
    production = Counter(task for card in cards.values() if card.stage == "production" for task in card.tasks)
    assert set(production.values()) == {1}
    assert "asr" in production


def test_the_whisper_cards_decode_alike_so_that_engines_can_be_compared(cards: Mapping[str, ModelCard]) -> None:
    first = cards[WHISPERS[0]].decoding
    assert first["temperature"] == 0.0
    assert all(cards[name].decoding == first for name in WHISPERS)


@pytest.mark.parametrize("float32", [name for name in NAMES if name.endswith("-float32")])
def test_the_float32_cards_differ_in_the_number_format_alone(float32: str, cards: Mapping[str, ModelCard]) -> None:
    other = cards[float32.removesuffix("-float32")]
    assert cards[float32].weights.files == other.weights.files
    assert {defaults.compute_type for defaults in cards[float32].devices.values()} == {"float32"}


COMMIT = "a" * 40


def source_of(kind: str, **more: Any) -> dict[str, Any]:
    required: dict[str, dict[str, Any]] = {
        "path": {"path": "x"},
        "package": {"packages": ["a==1"], "members": {}},
        "hub": {"repo": "some/repo", "revision": COMMIT},
        "http": {"url": "https://example.org/"},
        "mlflow": {"uri": "models:/a/1"},
        "convert": {"card": "a", "converter": "a:b"},
    }
    return {"kind": kind, **required[kind], **more}


@pytest.mark.parametrize("kind", ["package", "http", "mlflow", "convert"])
def test_only_hub_and_path_may_do_without_a_digest(kind: str, make_card: Callable[..., ModelCard]) -> None:
    make_card(weights={"files": {"x": SHA}, "sources": [source_of(kind)]})
    with pytest.raises(ValidationError, match=f"x has no sha256: a source of kind {kind}"):
        make_card(weights={"files": {"x": None}, "sources": [source_of("hub"), source_of(kind)]})
    # Where it names files of its own, with digests, it may stand beside a hub that has none.
    make_card(weights={"files": {"x": None}, "sources": [source_of("hub"), source_of(kind, files={"x": SHA})]})


@pytest.mark.parametrize("kind", ["hub", "path"])
def test_an_unknown_digest_is_said(kind: str, make_card: Callable[..., ModelCard]) -> None:
    assert make_card(weights={"files": {"x": None}, "sources": [source_of(kind)]}).weights.noted_at_first_fetch
    assert not make_card(weights={"files": {"x": SHA}, "sources": [source_of(kind)]}).weights.noted_at_first_fetch


def test_a_branch_is_for_files_without_digest_only(make_card: Callable[..., ModelCard]) -> None:
    branch = source_of("hub", revision="main")
    make_card(weights={"files": {"x": None}, "sources": [branch]})
    with pytest.raises(ValidationError, match="revision must be a commit of 40 hex digits, found main"):
        make_card(weights={"files": {"x": SHA}, "sources": [branch]})


def test_a_source_that_gives_nothing_is_refused(make_card: Callable[..., ModelCard]) -> None:
    with pytest.raises(ValidationError, match="the path source has no files to give"):
        make_card(weights={"sources": [source_of("path")]})


@pytest.mark.parametrize(
    "url", ["ftp://x/", "file:///etc/", "//x/", "x", "https://a b/", "$X/", "", "https://x/y", "https://me:key@x/"]
)
def test_an_address_that_is_none_is_refused(url: str, make_card: Callable[..., ModelCard]) -> None:
    with pytest.raises(ValidationError):
        make_card(weights={"files": {"x": SHA}, "sources": [source_of("http", url=url)]})


@pytest.mark.parametrize("uri", ["file:///etc", "s3://x/y", "x", ""])
def test_an_artifact_that_mlflow_does_not_keep_is_refused(uri: str, make_card: Callable[..., ModelCard]) -> None:
    with pytest.raises(ValidationError):
        make_card(weights={"files": {"x": SHA}, "sources": [source_of("mlflow", uri=uri)]})


BAD_NAMES = ["../x", "/etc/passwd", "a/../b", "..", ".hidden", "a//b", "a\\b", "C:x", "", "a/", "a\n", "~x", "$HOME"]


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_a_file_name_that_leaves_the_folder_is_refused(bad: str, make_card: Callable[..., ModelCard]) -> None:
    with pytest.raises(ValidationError):
        make_card(weights={"files": {bad: SHA}, "sources": []})
    with pytest.raises(ValidationError):
        make_card(
            weights={"files": {"x": SHA}, "sources": [{"kind": "path", "path": "x", "files": {bad: SHA}}]},
        )


@pytest.mark.parametrize("bad", [*BAD_NAMES, "a/b"])
def test_a_card_name_that_is_no_folder_name_is_refused(bad: str, make_card: Callable[..., ModelCard]) -> None:
    with pytest.raises(ValidationError):
        make_card(name=bad)


@pytest.mark.parametrize("bad", ["--index-url=http://x", "a", "a>=1", "a==1 --pre", "./a==1", "git+https://x/y"])
def test_a_requirement_that_is_not_exact_or_hides_an_option_is_refused(
    bad: str, make_card: Callable[..., ModelCard]
) -> None:
    with pytest.raises(ValidationError, match="packages"):
        make_card(weights={"files": {"x": SHA}, "sources": [source_of("package", packages=[bad])]})


def test_checking_all_cards_imports_no_engine_library() -> None:
    code = """
import sys
from pathlib import Path
from models.card import read_cards
from models.engine import decoding_of, engine_class
from models.weights import status
cards = read_cards()
for card in cards.values():
    engine_class(card), decoding_of(card), status(card, cards, Path("nowhere"))
print(sorted({"torch", "whisper", "faster_whisper", "ctranslate2", "huggingface_hub", "numba"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
