"""Which of the common layouts a folder has, and its reader. A folder is never guessed at: two answers are a question."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from models.errors import CorpusError, unknown_name
from pipelines.corpus import CONFIG, read_config
from pipelines.ingest.found import AUDIO_SUFFIXES, Found, SourceOptions, files_below
from pipelines.ingest.readers import (
    read_audiofolder,
    read_common_voice,
    read_kaldi,
    read_librispeech,
    read_lj_speech,
    read_nemo,
    read_prompt_lines,
    read_texts_beside,
)

Read = Callable[[], Iterator[Found]]
HEAD_CHARACTERS = 1 << 16
"""So much of a list is looked at to tell what it is."""
FOLDERS_DEEP = 2
"""An audiofolder's tables may lie so deep, one a split."""


@dataclass(frozen=True)
class Source:
    """A folder whose layout is known."""

    root: Path
    """The folder; nothing outside it is read, but what `SourceOptions.audio` allows."""
    layout: str
    """Name in `LAYOUTS`."""
    evidence: str
    """What told the layout."""
    read: Read
    """Gives its recordings from the start, as often as it is called."""
    prompts: bool = False
    """Whether it has texts to say, and no audio."""


LAYOUTS = {
    "nemo": "a NeMo manifest (manifest.jsonl, manifest.json, or one other .jsonl or .json, with audio_filepath)",
    "audiofolder": "a Hugging Face audiofolder (metadata.csv or metadata.jsonl with file_name)",
    "librispeech": "LibriSpeech (*.trans.txt)",
    "common-voice": "Common Voice (a .tsv with path and sentence, beside clips/)",
    "kaldi": "Kaldi (wav.scp and text)",
    "lj-speech": "LJ Speech (metadata.csv with | between its columns, beside wavs/)",
    "text-beside": "audio with a .txt of the same name beside it",
    "prompts": "prompts (a manifest with id and text, without audio)",
}


def find_source(path: Path, options: SourceOptions) -> Source:
    """Tell the layout of a folder, or of a NeMo manifest named itself.

    Raises:
        CorpusError: There is no such folder, no layout fits, or several do; what was looked for is named.
    """
    if not path.exists():
        raise CorpusError(f"There is no folder {path}.", "Name the folder that holds the corpus.")
    if options.layout is not None and options.layout not in LAYOUTS:
        raise CorpusError(*unknown_name("layout", options.layout, LAYOUTS))
    root = (path if path.is_dir() else path.parent).resolve()
    file = None if path.is_dir() else path.resolve()
    looked = {name: look(root, file, options) for name, look in _LOOKS.items() if options.layout in (None, name)}
    found = [source for source in looked.values() if source is not None]
    if len(found) == 1:
        return found[0]
    if not found:
        wanted = [LAYOUTS[options.layout]] if options.layout else list(LAYOUTS.values())
        raise CorpusError(
            f"{path} has no layout that is known; looked for {'; '.join(wanted)}.",
            "Name the folder that holds these files, or write a manifest.jsonl (docs/corpora.md).",
        )
    told = " and ".join(f"{source.layout} ({source.evidence})" for source in found)
    raise CorpusError(f"{path} can be read as {told}.", "Say which with --layout.")


def _manifests(root: Path, file: Path | None) -> list[Path]:
    if file is not None:
        return [file]
    for name in ("manifest.jsonl", "manifest.json"):
        if (root / name).is_file():
            return [root / name]
    return sorted(p for p in root.iterdir() if p.suffix in (".jsonl", ".json") and p.is_file())


def _first_object(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file.read(HEAD_CHARACTERS).splitlines():
            if line.strip():
                try:
                    data = json.loads(line)
                except ValueError:
                    continue
                return data if isinstance(data, dict) else {}
    return {}


def _nemo(root: Path, file: Path | None, options: SourceOptions) -> Source | None:
    fitting = [path for path in _manifests(root, file) if "audio_filepath" in _first_object(path)]
    if options.split:
        fitting = [path for path in fitting if path.stem in (options.split, f"{options.split}_manifest")] or fitting
    if len(fitting) > 1:
        names = ", ".join(path.name for path in fitting)
        raise CorpusError(f"{root.name} has several manifests: {names}.", "Name one of them instead of the folder.")
    if not fitting:
        return None
    return Source(root, "nemo", fitting[0].name, partial(read_nemo, fitting[0], options))


def _prompts(root: Path, file: Path | None, options: SourceOptions) -> Source | None:
    fitting = [p for p in _manifests(root, file) if {"id", "text"} <= (d := _first_object(p)).keys() and not _audio_in(d)]
    declared = (root / CONFIG).is_file() and read_config(root, anywhere=True).tasks == ("tts",)
    # A manifest of another tool may look like prompts; a corpus.yaml, or the user, says that it is one.
    if len(fitting) != 1 or not (declared or options.layout == "prompts"):
        return None
    return Source(root, "prompts", fitting[0].name, partial(read_prompt_lines, fitting[0], options), prompts=True)


def _audio_in(data: dict[str, Any]) -> bool:
    return bool({"audio_filepath", "file_name", "path"} & data.keys())


def _audiofolder(root: Path, file: Path | None, options: SourceOptions) -> Source | None:
    tables = []
    for path in files_below(root) if file is None else ():
        deep = len(path.relative_to(root).parts) - 1
        if deep <= FOLDERS_DEEP and path.name in ("metadata.csv", "metadata.jsonl"):
            columns = _columns(path, ",") if path.suffix == ".csv" else list(_first_object(path))
            if "file_name" in columns and (not options.split or options.split in path.relative_to(root).parts):
                tables.append(path)
    if not tables:
        return None
    evidence = ", ".join(str(path.relative_to(root)) for path in tables[:3])
    return Source(root, "audiofolder", evidence, partial(read_audiofolder, tables, options))


def _columns(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            return next(csv.reader([file.readline(HEAD_CHARACTERS)], delimiter=delimiter), [])
        except csv.Error:
            return []


def _librispeech(root: Path, file: Path | None, options: SourceOptions) -> Source | None:
    lists = (path for path in files_below(root) if path.name.endswith(".trans.txt"))
    first = next(lists, None) if file is None else None
    if first is None:
        return None
    return Source(root, "librispeech", str(first.relative_to(root)), partial(read_librispeech, root, options))


def _common_voice(root: Path, file: Path | None, options: SourceOptions) -> Source | None:
    if file is not None and file.suffix != ".tsv":
        return None
    candidates = [file] if file is not None else sorted(root.glob("*.tsv"))
    tables = {path.stem: path for path in candidates if {"path", "sentence"} <= set(_columns(path, "\t"))}
    if not tables or not (root / "clips").is_dir():
        return None
    if options.split:
        if options.split not in tables:
            raise CorpusError(*unknown_name("split", options.split, tables))
        tables = {options.split: tables[options.split]}
    if len(tables) > 1:
        raise CorpusError(
            f"This Common Voice folder has several tables: {', '.join(tables)}.", "Choose one with --split, such as test."
        )
    (table,) = tables.values()
    return Source(root, "common-voice", f"{table.name} and clips/", partial(read_common_voice, table, options))


def _kaldi(root: Path, file: Path | None, options: SourceOptions) -> Source | None:
    if file is not None or not ((root / "wav.scp").is_file() and (root / "text").is_file()):
        return None
    return Source(root, "kaldi", "wav.scp and text", partial(read_kaldi, root, options))


def _lj_speech(root: Path, file: Path | None, options: SourceOptions) -> Source | None:
    table = root / "metadata.csv"
    if file is not None or not table.is_file() or not (root / "wavs").is_dir():
        return None
    with table.open(encoding="utf-8-sig", errors="replace") as lines:
        if "|" not in lines.readline(HEAD_CHARACTERS):
            return None
    return Source(root, "lj-speech", "metadata.csv and wavs/", partial(read_lj_speech, root, options))


def _texts_beside(root: Path, file: Path | None, options: SourceOptions) -> Source | None:
    if file is not None:
        return None
    audio = (p for p in files_below(root) if p.suffix.lower() in AUDIO_SUFFIXES and p.with_suffix(".txt").is_file())
    first = next(audio, None)
    if first is None:
        return None
    return Source(root, "text-beside", str(first.relative_to(root)), partial(read_texts_beside, root, options))


_LOOKS: dict[str, Callable[[Path, Path | None, SourceOptions], Source | None]] = {
    "nemo": _nemo,
    "audiofolder": _audiofolder,
    "librispeech": _librispeech,
    "common-voice": _common_voice,
    "kaldi": _kaldi,
    "lj-speech": _lj_speech,
    "text-beside": _texts_beside,
    "prompts": _prompts,
}
