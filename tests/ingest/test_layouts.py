"""What each layout becomes, what is asked where a folder could be several, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import CorpusError
from pipelines.corpus import CorpusConfig
from pipelines.ingest.found import SourceOptions
from pipelines.ingest.layouts import LAYOUTS as KNOWN
from pipelines.ingest.layouts import find_source
from pipelines.ingest.plan import Plan
from tests.ingest.conftest import LAYOUTS, SAID, Shelf, kaldi, lj_speech, nemo, sound, sounds, text_beside

NO_OPTIONS = SourceOptions()


def faults(root: Path, options: SourceOptions = NO_OPTIONS) -> list[str]:
    plan = Plan(find_source(root, options), options, CorpusConfig(), None)
    return [planned.line.fault for planned in plan.rows() if planned.line.fault]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_each_layout_is_found_and_becomes_a_manifest(kind: str, shelf: Shelf) -> None:
    layout, make = LAYOUTS[kind]
    make(shelf.source)
    added = shelf.add(speaker="x")
    assert (added.status, added.layout) == ("added", layout)
    corpus = shelf.corpus()
    assert sorted(u.text.lower() for u in corpus.utterances) == sorted(SAID.values())
    assert all(u.duration == pytest.approx(1, abs=0.1) and corpus.audio_path(u).is_file() for u in corpus.utterances)
    assert corpus.config.licence == "internal" and corpus.config.name == "calls"
    speakers = {u.speaker[0] for u in corpus.utterances}
    assert speakers == {"lj speech": {"r"}, "text beside": {"x"}}.get(kind, {"a", "b"})
    facets = corpus.utterances[0].tags
    assert {k: facets[k] for k in facets if k in ("accent", "gender", "age", "up_votes")} == {
        "audiofolder with csv": {"accent": "scots"},
        "audiofolder with jsonl in a split": {"accent": "scots"},
        "librispeech": {"gender": "female"},
        "common voice": {"age": "twenties", "gender": "female"},
        "kaldi": {"gender": "female"},
    }.get(kind, {})


def test_a_folder_of_no_layout_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.pdf").write_text("")
    with pytest.raises(CorpusError) as refused:
        find_source(tmp_path, NO_OPTIONS)
    assert all(looked in refused.value.message for looked in KNOWN.values())
    with pytest.raises(CorpusError, match="There is no folder"):
        find_source(tmp_path / "gone", NO_OPTIONS)


def test_a_folder_of_two_layouts_is_asked_about(tmp_path: Path) -> None:
    text_beside(tmp_path)
    nemo(tmp_path)
    with pytest.raises(CorpusError, match=r"nemo \(train_manifest\.json\) and text-beside .* Say which with --layout"):
        find_source(tmp_path, NO_OPTIONS)
    assert find_source(tmp_path, SourceOptions(layout="text-beside")).layout == "text-beside"
    with pytest.raises(CorpusError, match="Did you mean 'text-beside'"):
        find_source(tmp_path, SourceOptions(layout="text_beside"))


def test_several_tables_are_asked_about(tmp_path: Path) -> None:
    LAYOUTS["common voice"][1](tmp_path)
    (tmp_path / "dev.tsv").write_bytes((tmp_path / "test.tsv").read_bytes())
    with pytest.raises(CorpusError, match=r"several tables: dev, test\. Choose one with --split"):
        find_source(tmp_path, NO_OPTIONS)
    assert find_source(tmp_path, SourceOptions(split="test")).evidence.startswith("test.tsv")
    with pytest.raises(CorpusError, match="no split named 'tset'"):
        find_source(tmp_path, SourceOptions(split="tset"))


def test_a_manifest_may_be_named_itself(tmp_path: Path) -> None:
    nemo(tmp_path)
    (tmp_path / "dev.json").write_bytes((tmp_path / "train_manifest.json").read_bytes())
    with pytest.raises(CorpusError, match=r"several manifests: dev\.json, train_manifest\.json"):
        find_source(tmp_path, NO_OPTIONS)
    assert find_source(tmp_path / "dev.json", NO_OPTIONS).evidence == "dev.json"


def one_row(**row: object) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        sound(root / "a.wav", 1)
        (root / "manifest.jsonl").write_text(json.dumps({"duration": 1, "text": "hello", **row}) + "\n")

    return make


def linked_away(root: Path) -> None:
    sound(root.parent / "elsewhere" / "a.wav", 1)
    (root / "b.wav").symlink_to(root.parent / "elsewhere" / "a.wav")
    (root / "manifest.jsonl").write_text('{"audio_filepath": "b.wav", "duration": 1, "text": "hello"}\n')


def kaldi_command(root: Path) -> None:
    kaldi(root)
    (root / "wav.scp").write_text("a-1 touch /tmp/pwned; sph2pipe -f wav a.sph |\n")


def lonely(root: Path) -> None:
    text_beside(root)
    sound(root / "alone.wav", 9)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (one_row(audio_filepath="../../etc/passwd"), "leaves the folder source; allow another folder with --audio"),
        (one_row(audio_filepath="/etc/passwd"), "leaves the folder source"),
        (linked_away, "'b.wav' leaves the folder"),
        (one_row(audio_filepath="a\u0000.wav"), "control characters"),
        (one_row(audio_filepath="a\u202egpj.wav"), "control characters"),
        (one_row(audio_filepath="..\\..\\a.wav"), "backslashes"),
        (one_row(audio_filepath="\ud800.wav"), "no UTF-8"),
        (one_row(audio_filepath="a" * 300 + ".wav"), "more than 255 bytes"),
        (one_row(audio_filepath=""), "audio_filepath: Field required"),
        (one_row(audio_filepath="a.wav", offset=3.0), "offset is not supported"),
        (one_row(audio_filepath="a.wav", text=None), "text: Input should be a valid string"),
        (kaldi_command, "is a command .* never run"),
        (lonely, r"alone\.wav has no alone\.txt beside it"),
    ],
)
def test_hostile_and_broken_lines_are_told_one_by_one(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    import re

    root = tmp_path / "source"
    root.mkdir()
    make(root)
    (found,) = faults(root)
    assert re.search(says, found), found


def test_paths_may_lead_into_another_folder_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    linked_away(tmp_path / "source")
    assert not faults(tmp_path / "source", SourceOptions(audio=tmp_path / "elsewhere"))


def test_segments_of_kaldi_are_refused(tmp_path: Path) -> None:
    kaldi(tmp_path)
    (tmp_path / "segments").write_text("a-1 a 0 1\n")
    with pytest.raises(CorpusError, match="Cut the recordings into a file each"):
        faults(tmp_path)


def test_a_table_without_a_text_column_names_its_columns(tmp_path: Path) -> None:
    sounds(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,words\na-1.wav,hello\n")
    with pytest.raises(CorpusError, match=r"it has file_name, words.*--text"):
        faults(tmp_path)
    assert not faults(tmp_path, SourceOptions(text="words"))


def test_bars_and_commas_tell_two_tables_of_one_name_apart(tmp_path: Path) -> None:
    lj_speech(tmp_path)
    assert find_source(tmp_path, NO_OPTIONS).layout == "lj-speech"
