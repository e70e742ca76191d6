import base64
from pathlib import Path

import pytest

from pipelines.report.audio import AudioEmbedder, Budget
from tests.report.factory import make_wavs


def test_a_recording_is_embedded_byte_for_byte(tmp_path: Path) -> None:
    paths = make_wavs(tmp_path, ["demo/a"])
    clip = AudioEmbedder(paths).clip("demo/a")
    assert clip.uri is not None
    head, _, data = clip.uri.partition(",")
    assert head == "data:audio/wav;base64"
    assert base64.b64decode(data) == paths["demo/a"].read_bytes()


@pytest.mark.parametrize(
    ("suffix", "mime"),
    [(".wav", "audio/wav"), (".FLAC", "audio/flac"), (".mp3", "audio/mpeg"), (".ogg", "audio/ogg"), (".opus", "audio/ogg")],
)
def test_the_type_follows_the_extension(tmp_path: Path, suffix: str, mime: str) -> None:
    (path := tmp_path / f"a{suffix}").write_bytes(b"sound")
    uri = AudioEmbedder({"a": path}).clip("a").uri
    assert uri is not None
    assert uri.startswith(f"data:{mime};base64,")


def test_the_budget_is_kept_and_what_is_beyond_is_named(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    paths = make_wavs(tmp_path / "audio", ["a", "b", "c"])
    one = len(base64.b64encode(paths["a"].read_bytes()))
    embedder = AudioEmbedder(paths, Budget(2 * one))
    clips = [embedder.clip(name) for name in ("a", "b", "c")]
    assert [clip.uri is not None for clip in clips] == [True, True, False]
    assert clips[2].path == "audio/c.wav"
    assert "used up" in clips[2].reason
    assert embedder.budget.spent_bytes == 2 * one


def test_a_large_file_is_left_out_and_leaves_room_for_the_next(tmp_path: Path) -> None:
    paths = make_wavs(tmp_path, ["long"], seconds=1.0) | make_wavs(tmp_path, ["short"])
    embedder = AudioEmbedder(paths, cap_bytes=10_000)
    assert "too large" in embedder.clip("long").reason
    assert embedder.clip("short").uri


def test_asking_twice_costs_once(tmp_path: Path) -> None:
    embedder = AudioEmbedder(make_wavs(tmp_path, ["a"]))
    first = embedder.clip("a")
    spent = embedder.budget.spent_bytes
    assert embedder.clip("a") is first
    assert embedder.budget.spent_bytes == spent


def test_what_cannot_be_had_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.xyz").write_text("no sound")
    (tmp_path / "folder.wav").mkdir()
    embedder = AudioEmbedder(
        {"gone": tmp_path / "gone.wav", "odd": tmp_path / "text.xyz", "folder": tmp_path / "folder.wav"}
    )
    assert "cannot be read" in embedder.clip("gone").reason
    assert "do not play .xyz" in embedder.clip("odd").reason
    assert "cannot be read" in embedder.clip("folder").reason
    assert "no file is known" in embedder.clip("never heard of").reason


def test_a_path_does_not_show_the_folders_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "starter" / "audio").mkdir(parents=True)
    paths = make_wavs(tmp_path / "starter" / "audio", ["a"])
    assert AudioEmbedder(paths).clip("a").path == "audio/a.wav"
    relative = AudioEmbedder({"b": Path("audio/b.wav")}).clip("b")
    assert relative.path == "audio/b.wav"
