"""Folders in each layout that corpora come in, and a lab to add them to."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from pipelines.corpus import Corpus, find_corpus
from pipelines.ingest.add import Added, AddRequest, add_corpus
from pipelines.ingest.found import SourceOptions
from pipelines.lab import Lab, Layout
from tests.validate.conftest import RATE_HZ, speechlike

SAID = {"a-1": "please open the door", "a-2": "it was raining", "b-1": "she sells shells"}
SPEAKER = {name: name[0] for name in SAID}
Make = Callable[[Path], None]


def sound(path: Path, seed: int, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speechlike(seconds, seed), RATE_HZ)


def sounds(folder: Path, suffix: str = ".wav") -> None:
    for seed, name in enumerate(SAID):
        sound(folder / f"{name}{suffix}", seed)


def nemo(root: Path) -> None:
    sounds(root / "clips")
    rows = [{"audio_filepath": f"clips/{n}.wav", "duration": 1.0, "text": t, "speaker": SPEAKER[n]} for n, t in SAID.items()]
    (root / "train_manifest.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def audiofolder_csv(root: Path) -> None:
    sounds(root / "data")
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "transcription", "speaker_id", "accent"])
        writer.writerows([f"data/{name}.wav", text, SPEAKER[name], "scots"] for name, text in SAID.items())


def audiofolder_jsonl(root: Path) -> None:
    sounds(root / "test")
    rows = [{"file_name": f"{n}.wav", "text": t, "speaker": SPEAKER[n], "accent": "scots"} for n, t in SAID.items()]
    (root / "test" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def librispeech(root: Path) -> None:
    for number, (name, text) in enumerate(SAID.items()):
        chapter = root / "test-clean" / SPEAKER[name] / "7"
        sound(chapter / f"{SPEAKER[name]}-7-{number:04}.flac", number)
        with (chapter / f"{SPEAKER[name]}-7.trans.txt").open("a") as file:
            file.write(f"{SPEAKER[name]}-7-{number:04} {text.upper()}\n")
    (root / "SPEAKERS.TXT").write_text("; comment\na | F | test-clean | 8 | Ada\nb | M | test-clean | 8 | Bob\n")


def common_voice(root: Path) -> None:
    sounds(root / "clips", ".mp3")
    with (root / "test.tsv").open("w") as file:
        file.write("client_id\tpath\tsentence\tup_votes\tage\tgender\tlocale\n")
        file.writelines(f"{SPEAKER[n] * 128}\t{n}.mp3\t{t}\t2\ttwenties\tfemale\ten\n" for n, t in SAID.items())


def kaldi(root: Path) -> None:
    sounds(root / "wav")
    for name, lines in {
        "wav.scp": [f"{name} {root / 'wav' / name}.wav" for name in SAID],
        "text": [f"{name} {text}" for name, text in SAID.items()],
        "utt2spk": [f"{name} {speaker}" for name, speaker in SPEAKER.items()],
        "spk2gender": ["a f", "b m"],
    }.items():
        (root / name).write_text("".join(f"{line}\n" for line in lines))


def lj_speech(root: Path) -> None:
    sounds(root / "wavs")
    (root / "metadata.csv").write_text("".join(f"{name}|{text} 1|{text}\n" for name, text in SAID.items()))


def text_beside(root: Path) -> None:
    for seed, (name, text) in enumerate(SAID.items()):
        sound(root / SPEAKER[name] / f"{name}.wav", seed)
        (root / SPEAKER[name] / f"{name}.txt").write_text(f"{text}\n")


LAYOUTS: dict[str, tuple[str, Make]] = {
    "nemo": ("nemo", nemo),
    "audiofolder with csv": ("audiofolder", audiofolder_csv),
    "audiofolder with jsonl in a split": ("audiofolder", audiofolder_jsonl),
    "librispeech": ("librispeech", librispeech),
    "common voice": ("common-voice", common_voice),
    "kaldi": ("kaldi", kaldi),
    "lj speech": ("lj-speech", lj_speech),
    "text beside": ("text-beside", text_beside),
}


@dataclass(frozen=True)
class Shelf:
    """A lab, and a folder to add from."""

    lab: Lab
    source: Path

    def add(self, name: str = "calls", *, folder: Path | None = None, licence: str = "internal", **how: object) -> Added:
        fields = set(AddRequest.model_fields)
        settings = {"licence": licence} if licence else {}
        request = AddRequest.model_validate(
            {
                "folder": folder or self.source,
                "name": name,
                "settings": settings,
                "options": SourceOptions.model_validate({k: v for k, v in how.items() if k not in fields}),
                **{k: v for k, v in how.items() if k in fields},
            }
        )
        return add_corpus(self.lab, request)

    def corpus(self, name: str = "calls") -> Corpus:
        return find_corpus(name, self.lab.data)

    def left(self) -> set[str]:
        """Names under data/."""
        return {path.name for path in self.lab.data.iterdir()} if self.lab.data.is_dir() else set()


@pytest.fixture
def shelf(tmp_path: Path, repository: Path) -> Shelf:
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (tmp_path / "source").mkdir()
    shutil.copyfile(repository / "params.yaml", project / "params.yaml")
    lab = Lab(project=project, home_folder=tmp_path / "home", layout=Layout(workers=2, threads=1))
    return Shelf(lab, tmp_path / "source")


@pytest.fixture
def versioned(shelf: Shelf, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shelf:
    """The same under git and DVC, with the shipped pointer's binding to a read-only remote."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "dvc-config"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "dvc-config"))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@localhost")
    project = shelf.lab.project
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    (project / ".dvc").mkdir()
    shutil.copyfile(repository / ".dvc" / "config", project / ".dvc" / "config")
    for name in (".dvcignore", "data.dvc"):
        shutil.copyfile(repository / name, project / name)
    shutil.copytree(repository / "starter-remote", project / "starter-remote")
    (project / ".gitignore").write_text("/data\n")
    (project / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    for command in (["add", "."], ["commit", "-qm", "Begin"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    from pipelines.versions import pull

    pull(project)
    return shelf
