"""One reader a layout: generators that hold no more than the lists a layout spreads over several files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from models.errors import CorpusError
from pipelines.ingest.found import (
    AUDIO_SUFFIXES,
    Found,
    SourceOptions,
    files_below,
    read_list,
    row_data,
    text_column,
)
from pipelines.manifest import json_object

SPEAKER_CHARACTERS = 16
"""Common Voice's client ids have 128 hex digits; so many tell speakers apart."""


def read_nemo(manifest: Path, options: SourceOptions) -> Iterator[Found]:
    """Read a NeMo manifest; every key is kept as `pipelines.corpus.parse_line` would."""
    for number, line in read_list(manifest):
        try:
            data = json_object(line)
        except ValueError as error:
            yield Found(number, fault=str(error))
            continue
        audio = data.pop("audio_filepath", None)
        if not isinstance(audio, str) or not audio:
            yield Found(number, fault="audio_filepath: Field required")
            continue
        yield Found(number, audio, manifest.parent, data)


def read_prompt_lines(manifest: Path, options: SourceOptions) -> Iterator[Found]:
    """Read a manifest of prompts."""
    for number, line in read_list(manifest):
        try:
            yield Found(number, data=json_object(line))
        except ValueError as error:
            yield Found(number, fault=str(error))


def read_audiofolder(tables: list[Path], options: SourceOptions) -> Iterator[Found]:
    """Read the tables of a Hugging Face audiofolder; file names are relative to their table."""
    count = 0
    for table in tables:
        rows = _csv_rows(table, ",") if table.suffix == ".csv" else _jsonl_rows(table)
        column = None
        for number, row in rows:
            count += 1
            if isinstance(row, str):
                yield Found(count, fault=f"{table.name} line {number}: {row}")
                continue
            column = column or text_column(row, options.text, table.name)
            name = str(row.get("file_name") or "")
            if not name:
                yield Found(count, fault=f"{table.name} line {number}: file_name is empty")
                continue
            yield Found(count, name, table.parent, row_data(row, column))


def read_librispeech(folder: Path, options: SourceOptions) -> Iterator[Found]:
    """Read ``SPEAKER-CHAPTER.trans.txt`` files; audio lies beside them, and ``SPEAKERS.TXT`` may tell genders."""
    genders = _librispeech_genders(folder)
    count = 0
    for path in files_below(folder):
        if not path.name.endswith(".trans.txt"):
            continue
        beside = {file.stem: file.name for file in path.parent.iterdir() if file.suffix.lower() in AUDIO_SUFFIXES}
        for _, line in read_list(path):
            count += 1
            name, _, text = line.strip().partition(" ")
            speaker = name.partition("-")[0]
            tags = {"gender": genders[speaker]} if speaker in genders else {}
            audio = beside.get(name, f"{name}.flac")
            yield Found(count, audio, path.parent, {"id": name, "text": text.strip(), "speaker": speaker, "tags": tags})


def _librispeech_genders(folder: Path) -> dict[str, str]:
    for root in (folder, *list(folder.resolve().parents)[:2]):
        if (root / "SPEAKERS.TXT").is_file():
            rows = [line.split("|") for _, line in read_list(root / "SPEAKERS.TXT") if not line.startswith(";")]
            names = {"M": "male", "F": "female"}
            return {row[0].strip(): names.get(row[1].strip(), row[1].strip()) for row in rows if len(row) > 1}
    return {}


def read_common_voice(table: Path, options: SourceOptions) -> Iterator[Found]:
    """Read one of Common Voice's tables; clips lie in ``clips/``."""
    column = None
    for number, row in _csv_rows(table, "\t"):
        if isinstance(row, str):
            yield Found(number, fault=row)
            continue
        column = column or text_column(row, options.text, table.name)
        data = row_data(row, column)
        data["id"] = Path(str(row.get("path") or "")).stem
        if "speaker" in data:
            data["speaker"] = data["speaker"][:SPEAKER_CHARACTERS]
        yield Found(number, str(row.get("path") or ""), table.parent / "clips", data)


def read_kaldi(folder: Path, options: SourceOptions) -> Iterator[Found]:
    """Read ``wav.scp`` with ``text`` and, where they are, ``utt2spk``, ``utt2lang``, ``utt2dur`` and ``spk2gender``.

    Raises:
        CorpusError: ``segments`` cuts recordings into utterances, which a manifest here cannot.
    """
    if (folder / "segments").is_file():
        raise CorpusError(
            "This Kaldi folder has segments: utterances that are parts of recordings.",
            "Cut the recordings into a file each, for example with extract-segments, and add that folder.",
        )
    texts, speakers, languages, durations, genders = (
        _kaldi_map(folder / name) for name in ("text", "utt2spk", "utt2lang", "utt2dur", "spk2gender")
    )
    for number, line in read_list(folder / "wav.scp"):
        name, _, audio = line.strip().partition(" ")
        audio = audio.strip()
        if audio.endswith("|"):
            yield Found(number, fault=f"{name} is a command ({audio[:60]}), which is never run; write its output to a file")
            continue
        if name not in texts:
            yield Found(number, fault=f"{name} is in wav.scp and not in text")
            continue
        data: dict[str, Any] = {"id": name, "text": texts[name], "tags": {}}
        if name in speakers:
            data["speaker"] = speakers[name]
            if (gender := genders.get(speakers[name])) is not None:
                data["tags"]["gender"] = {"m": "male", "f": "female"}.get(gender.lower(), gender)
        if name in languages:
            data["language"] = languages[name]
        if name in durations:
            data["duration"] = durations[name]
        yield Found(number, audio, folder, data)


def _kaldi_map(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = (line.strip().partition(" ") for _, line in read_list(path))
    return {key: value.strip() for key, _, value in pairs}


def read_lj_speech(folder: Path, options: SourceOptions) -> Iterator[Found]:
    """Read ``metadata.csv``: id, text and normalised text between bars; audio lies in ``wavs/``. One person reads all."""
    for number, line in read_list(folder / "metadata.csv"):
        name, *texts = line.split("|")
        if not texts:
            yield Found(number, fault="expected id|text|normalised text")
            continue
        found = (folder / "wavs" / f"{name}{suffix}" for suffix in (".wav", ".flac"))
        audio = next((path.name for path in found if path.is_file()), f"{name}.wav")
        yield Found(number, audio, folder / "wavs", {"id": name, "text": texts[-1].strip(), "speaker": "reader"})


def read_texts_beside(folder: Path, options: SourceOptions) -> Iterator[Found]:
    """Read audio files with a ``.txt`` of the same name beside each."""
    count = 0
    for path in files_below(folder):
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        count += 1
        relative = path.relative_to(folder)
        text = path.with_suffix(".txt")
        if not text.is_file():
            yield Found(count, fault=f"{relative} has no {text.name} beside it")
            continue
        words = " ".join(line.strip() for _, line in read_list(text))
        yield Found(count, str(relative), folder, {"id": str(relative.with_suffix("")), "text": words})


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Give a table's rows by their columns' names, or what is wrong with one."""
    # Common Voice does not quote: a quotation mark there is part of the sentence.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting, strict=True)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield reader.line_num, str(error)
                return
            if row is None:
                return
            if None in row or None in row.values():
                yield reader.line_num, f"expected {len(reader.fieldnames or ())} columns"
                continue
            yield reader.line_num, dict(row)


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in read_list(path):
        try:
            yield number, json_object(line)
        except ValueError as error:
            yield number, str(error)
