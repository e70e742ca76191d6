"""Adding and updating corpora: all of it or nothing, never over another, and each change told."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from models.errors import CorpusError, StateError
from pipelines.corpus import list_corpora
from pipelines.dataversion import data_version
from pipelines.ingest import staging
from pipelines.validate.check import validate_corpus
from tests.ingest.conftest import SAID, Shelf, nemo, sound, text_beside
from tests.ingest.killed import kill_at


def git(project: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def test_what_is_not_valid_is_not_added(shelf: Shelf) -> None:
    nemo(shelf.source)
    refused = shelf.add(licence="")
    assert refused.status == "refused" and refused.validation is not None
    assert [r.name for r in refused.validation.failed if r.severity == "error"] == ["licence_present"]
    assert shelf.left() == set()
    checked = shelf.add(dry_run=True)
    assert checked.status == "checked" and checked.validation is not None and checked.validation.measured == 0
    assert shelf.left() == set()
    assert shelf.add().status == "added" and shelf.left() == {"calls"}


def test_a_recording_that_is_not_there_is_told_by_the_suite(shelf: Shelf) -> None:
    nemo(shelf.source)
    (shelf.source / "clips" / "b-1.wav").unlink()
    (shelf.source / "clips" / "a-1.wav").write_bytes(b"no audio")
    refused = shelf.add()
    assert refused.validation is not None
    assert {r.name for r in refused.validation.failed} == {"files_exist", "audio_decodes"}


def test_a_corpus_is_never_overwritten_and_an_update_is_told(versioned: Shelf) -> None:
    text_beside(versioned.source)
    shipped = versioned.left()
    first = versioned.add(speaker="x", commit=True)
    assert first.commit and first.data_version and first.git == ()
    assert git(versioned.lab.project, "show", "--name-only", "--format=%s", "HEAD").split("\n\n") == [
        "Add the corpus calls",
        "data.dvc",
    ]
    assert versioned.add(speaker="x").status == "unchanged"
    before = (versioned.lab.data / "calls" / "manifest.jsonl").read_bytes()

    (versioned.source / "a" / "a-1.txt").write_text("please open the second door")
    sound(versioned.source / "a" / "a-2.wav", 77, seconds=2)
    (versioned.source / "b" / "b-1.wav").unlink()
    sound(versioned.source / "b" / "b-2.wav", 78)
    (versioned.source / "b" / "b-2.txt").write_text("nothing but the truth")
    with pytest.raises(CorpusError, match=r"corpus calls already, and it differs .*make a new version of it with --update"):
        versioned.add(speaker="x")
    assert (versioned.lab.data / "calls" / "manifest.jsonl").read_bytes() == before

    second = versioned.add(speaker="x", update=True)
    assert second.status == "updated" and second.data_version != first.data_version
    assert second.difference is not None
    assert second.difference.lines() == [
        "utterances 3 → 3, minutes 0.1 → 0.1, speakers 1 → 1",
        "added 1: b/b-2",
        "removed 1: b/b-1",
        "changed 2: a/a-1 (text), a/a-2 (audio)",
    ]
    assert second.git == ("git add data.dvc", 'git commit -m "Update the corpus calls"')
    assert not (versioned.lab.data / "calls" / "audio" / "b" / "b-1.wav").exists()
    assert versioned.left() == {"calls", *shipped}
    assert data_version(versioned.lab.project) == second.data_version
    # What was just added is known: its validation reads nothing.
    assert validate_corpus(versioned.lab, "calls").measured == 0


def test_settings_are_kept_by_an_update_and_may_be_all_that_changes(shelf: Shelf) -> None:
    text_beside(shelf.source)
    shelf.add(speaker="x")
    again = shelf.add(speaker="x", licence="", update=True)
    assert again.status == "unchanged" and shelf.corpus().config.licence == "internal"
    shelf.add(speaker="x", licence="CC0-1.0", update=True)
    assert shelf.corpus().config.licence == "CC0-1.0"


def test_a_commit_takes_nothing_else_along(versioned: Shelf) -> None:
    text_beside(versioned.source)
    project = versioned.lab.project
    (project / "draft.txt").write_text("not yet")
    git(project, "add", "draft.txt")
    versioned.add(speaker="x", commit=True)
    assert git(project, "status", "--porcelain") == "A  draft.txt"


@pytest.mark.parametrize(
    ("moment", "call", "appeared"),
    [
        ("pipelines.ingest.staging:_bring", 2, False),
        ("pipelines.ingest.add:write_manifest", 1, False),
        ("pipelines.ingest.add:publish", 1, False),
        ("pipelines.ingest.add:track", 1, True),
    ],
)
def test_killed_half_way_nothing_is_half_added_and_the_next_run_goes_on(
    moment: str, call: int, appeared: bool, versioned: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_beside(versioned.source)
    version = data_version(versioned.lab.project)
    monkeypatch.setattr(staging, "COPIERS", 1)
    kill_at(moment, call, lambda: versioned.add(speaker="x"))
    assert ("calls" in list_corpora(versioned.lab.data)) == appeared
    if not appeared:
        assert data_version(versioned.lab.project) == version, "what is being put together is no part of a version"

    copied: list[str] = []
    real = staging._copy
    monkeypatch.setattr(staging, "_copy", lambda source, target: (copied.append(source.name), real(source, target))[1])
    done = versioned.add(speaker="x")
    assert done.status == ("unchanged" if appeared else "added")
    assert done.validation is None or done.validation.measured == 0, "nothing is measured twice"
    assert len(copied) == (len(SAID) - 1 if moment.endswith("_bring") else 0), "nothing is copied twice"
    assert data_version(versioned.lab.project) == done.data_version != version
    assert {u.text for u in versioned.corpus().utterances} == set(SAID.values())
    assert not any(path.name.startswith(".") for path in (versioned.lab.data / "calls").rglob("*"))


def test_what_another_source_left_behind_is_not_taken_over(shelf: Shelf) -> None:
    text_beside(shelf.source)
    kill_at("pipelines.ingest.add:publish", 1, lambda: shelf.add(speaker="x"))
    (shelf.source / "a" / "a-1.wav").unlink()
    (shelf.source / "a" / "a-1.txt").unlink()
    assert shelf.add(speaker="x").status == "added"
    audio = shelf.lab.data / "calls" / "audio"
    assert sorted(str(p.relative_to(audio)) for p in audio.rglob("*.wav")) == ["a/a-2.wav", "b/b-1.wav"]


def test_a_source_that_changes_meanwhile_is_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    text_beside(shelf.source)
    from pipelines.ingest import add

    real = add.validate

    def meanwhile(*arguments: object) -> object:
        found = real(*arguments)  # type: ignore[arg-type]
        path = shelf.source / "a" / "a-1.wav"
        status = path.stat()
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return found

    monkeypatch.setattr(add, "validate", meanwhile)
    with pytest.raises(CorpusError, match="changed while it was being added"):
        shelf.add(speaker="x")
    assert list_corpora(shelf.lab.data) == []


def test_links_leave_the_source_as_it_is(versioned: Shelf) -> None:
    text_beside(versioned.source)
    source = versioned.source / "a" / "a-1.wav"
    before = (source.stat().st_mode, source.stat().st_ino, source.read_bytes())
    versioned.add(speaker="x", link=True)
    assert (source.stat().st_mode, source.stat().st_ino, source.read_bytes()) == before
    assert (versioned.lab.data / "calls" / "audio" / "a" / "a-1.wav").read_bytes() == before[2]
    assert "+" not in data_version(versioned.lab.project)


def test_prompts_are_added_too(shelf: Shelf) -> None:
    sound(shelf.source / "lee.wav", 5)
    line = {"id": "a", "text": "Dr. Lee.", "spoken": "Doctor Lee.", "kind": "names", "reference_audio_filepath": "lee.wav"}
    (shelf.source / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    (shelf.source / "corpus.yaml").write_text("name: theirs\ntasks: [tts]\nnormalizer: whisper-english\n")
    added = shelf.add("bank")
    assert (added.status, added.layout, added.power) == ("added", "prompts", "")
    row = json.loads((shelf.lab.data / "bank" / "manifest.jsonl").read_text())
    assert row == {
        "id": "a",
        "text": "Dr. Lee.",
        "spoken": "Doctor Lee.",
        "reference_audio_filepath": "audio/lee.wav",
        "tags": {"kind": "names"},
    }
    assert (shelf.lab.data / "bank" / "audio" / "lee.wav").read_bytes() == (shelf.source / "lee.wav").read_bytes()
    assert "normalizer: whisper-english" in (shelf.lab.data / "bank" / "corpus.yaml").read_text()


def test_what_a_recording_says_to_voices_is_kept(shelf: Shelf) -> None:
    sound(shelf.source / "a.wav", 1)
    row = {
        "audio_filepath": "a.wav",
        "duration": 1.0,
        "text": "It was $5.",
        "spoken": "It was five dollars.",
        "speaker": "x",
    }
    (shelf.source / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    (shelf.source / "corpus.yaml").write_text("tasks: [asr, tts]\n")
    assert shelf.add(speaker="x").status == "added"
    assert json.loads((shelf.lab.data / "calls" / "manifest.jsonl").read_text())["spoken"] == "It was five dollars."


def test_the_power_of_what_was_added_is_told(shelf: Shelf) -> None:
    text_beside(shelf.source)
    for number, folder in enumerate(("c", "d", "e")):
        sound(shelf.source / folder / f"{folder}.wav", 50 + number)
        (shelf.source / folder / f"{folder}.txt").write_text("one more sentence")
    nemo_rows = [
        {"audio_filepath": str(p.relative_to(shelf.source)), "duration": 1.0, "text": p.with_suffix(".txt").read_text(),
         "speaker": p.parent.name}
        for p in sorted(shelf.source.rglob("*.wav"))
    ]  # fmt: skip
    (shelf.source / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in nemo_rows))
    added = shelf.add(layout="nemo")
    assert added.detectable is not None and 0 < added.detectable < 1
    assert "it can detect a difference of" in added.power and "by 5 speakers" in added.power and "assumptions" in added.power


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", ".hidden", "a b", "ü", "x" * 101, "a\n"])
def test_a_name_that_is_no_folder_s_is_refused(name: str, shelf: Shelf) -> None:
    text_beside(shelf.source)
    with pytest.raises(CorpusError, match="cannot be a corpus's name"):
        shelf.add(name)


def test_what_cannot_be_is_refused_before_anything_is_read(shelf: Shelf) -> None:
    text_beside(shelf.source)
    with pytest.raises(CorpusError, match="There is no corpus calls to update"):
        shelf.add(update=True)
    (shelf.lab.data / "calls").mkdir()
    with pytest.raises(CorpusError, match="is there and is no corpus"):
        shelf.add()


def test_two_additions_of_one_name_do_not_meet(shelf: Shelf) -> None:
    from filelock import FileLock

    text_beside(shelf.source)
    (shelf.lab.home.root / "locks").mkdir(parents=True)
    with FileLock(shelf.lab.home.root / "locks" / "adding-calls.lock"), pytest.raises(StateError, match="Another process"):
        shelf.add()
