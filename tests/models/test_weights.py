"""Weights come from the first source that has the right bytes, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.card import ConvertSource, ModelCard, PackageSource, read_cards
from models.errors import WeightsError
from models.marker import MARKER
from models.weights import PARTIAL, Located, fetch, locate, status
from tests.models.toy_weights import FILES, REVISION, A, B, fails, fetch_elsewhere, folder_source, quiet, write

MakeCard = Callable[..., ModelCard]


def wheel(folder: Path, name: str, members: Mapping[str, bytes]) -> None:
    """Write a wheel that pip accepts."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    return write(tmp_path / "originals", {"model.bin": A, "sub/config.json": B})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all pip knows of."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


@pytest.fixture
def toy(make_card: MakeCard) -> Callable[..., ModelCard]:
    """A card with the two files above and the given sources."""

    def make(*sources: Mapping[str, Any], name: str = "toy") -> ModelCard:
        return make_card(name=name, weights={"files": FILES, "sources": list(sources)})

    return make


PARTS = {
    "kind": "package",
    "packages": ["toy-one==1.0", "toy-two==1.0"],
    "members": {"model.bin": ["toy_two/b.part", "toy_one/a.part"], "sub/config.json": ["toy_one/config.json"]},
}


def test_a_folder(toy: MakeCard, originals: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_WEIGHTS", str(originals))
    card = toy({"kind": "path", "path": "${TOY_WEIGHTS}"})
    found = fetch(card, {}, cache, quiet)
    assert found == locate(card, cache)
    assert found.sha256 == FILES
    assert (found.folder / "model.bin").read_bytes() == A
    assert (found.folder / "sub/config.json").read_bytes() == B


def test_wheels_are_joined_in_the_order_of_the_card(toy: MakeCard, wheels: Path, cache: Path) -> None:
    wheel(wheels, "toy_one", {"toy_one/a.part": A[10:], "toy_one/config.json": B, "toy_one/__init__.py": b"1 / 0"})
    wheel(wheels, "toy_two", {"toy_two/b.part": A[:10]})
    assert (fetch(toy(PARTS), {}, cache, quiet).folder / "model.bin").read_bytes() == A


def test_a_missing_package_is_named(toy: MakeCard, wheels: Path, cache: Path) -> None:
    assert "No matching distribution found for toy-one==1.0" in fails(toy(PARTS), cache)


def test_a_missing_member_is_named(toy: MakeCard, wheels: Path, cache: Path) -> None:
    wheel(wheels, "toy_one", {"toy_one/config.json": B})
    wheel(wheels, "toy_two", {"toy_two/b.part": A})
    assert "the packages have no toy_one/a.part" in fails(toy(PARTS), cache)


def test_a_python_without_pip_says_so(toy: MakeCard, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip is not installed" in fails(toy(PARTS), cache)


def test_other_bytes_are_refused(toy: MakeCard, tmp_path: Path, cache: Path) -> None:
    other = write(tmp_path / "other", {"model.bin": A + b"!", "sub/config.json": B})
    got = hashlib.sha256(A + b"!").hexdigest()
    assert f"model.bin: expected sha256 {FILES['model.bin']}, got {got}" in fails(toy(folder_source(other)), cache)


def test_a_source_may_have_files_of_its_own(toy: MakeCard, tmp_path: Path, cache: Path) -> None:
    other = write(tmp_path / "other", {"model.ct2": B})
    own = {"model.ct2": hashlib.sha256(B).hexdigest()}
    assert fetch(toy(folder_source(other, files=own)), {}, cache, quiet).sha256 == own


def test_sources_are_tried_in_order_and_every_failure_is_told(
    toy: MakeCard, originals: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("TOY_UNSET", raising=False)
    bad = [
        {"kind": "path", "path": "${TOY_UNSET}/x"},
        folder_source(tmp_path / "nowhere"),
        folder_source(write(tmp_path / "half", {"model.bin": A})),
        {"kind": "hub", "repo": "some/repo", "revision": REVISION},
    ]
    message = fails(toy(*bad), cache)
    reasons = ["TOY_UNSET is not set", "nowhere does not exist", "has no sub/config.json", "switched off (HF_HUB_OFFLINE=1)"]
    positions = [message.index(reason) for reason in reasons]
    assert positions == sorted(positions)
    assert fetch(toy(*bad, folder_source(originals)), {}, cache, quiet).sha256 == FILES


def test_what_is_here_is_not_fetched_again(toy: MakeCard, originals: Path, cache: Path) -> None:
    card = toy(folder_source(originals))
    fetch(card, {}, cache, quiet)
    before = (cache / "toy" / MARKER).stat().st_mtime_ns
    fetch(card, {}, cache, lambda line: pytest.fail(line))
    assert (cache / "toy" / MARKER).stat().st_mtime_ns == before


def test_what_a_killed_fetch_left_is_not_used(toy: MakeCard, originals: Path, cache: Path) -> None:
    card = toy(folder_source(originals))
    write(cache / PARTIAL / "toy" / "files", {"model.bin": b"half"})
    write(cache / "toy", {"model.bin": b"half"})  # a folder without a marker is no cache of ours
    with pytest.raises(WeightsError, match="modellab models fetch toy"):
        locate(card, cache)
    assert fetch(card, {}, cache, quiet).sha256 == FILES
    assert not (cache / PARTIAL / "toy").exists()


def change(path: Path, content: bytes) -> None:
    path.unlink()  # it may be a hard link to the original
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [A[:-1] + b"?", A[:-1]])
def test_a_change_on_disk_is_noticed_and_mended(toy: MakeCard, originals: Path, cache: Path, damage: bytes) -> None:
    card = toy(folder_source(originals))
    fetch(card, {}, cache, quiet)
    change(cache / "toy" / "model.bin", damage)
    with pytest.raises(WeightsError, match="changed on disk"):
        locate(card, cache)
    told: list[str] = []
    fetch(card, {}, cache, told.append)
    assert "Fetching again" in told[0]
    assert (cache / "toy" / "model.bin").read_bytes() == A


def test_a_lost_file_is_noticed(toy: MakeCard, originals: Path, cache: Path) -> None:
    card = toy(folder_source(originals))
    fetch(card, {}, cache, quiet)
    (cache / "toy" / "sub/config.json").unlink()
    assert not status(card, {}, cache).present
    with pytest.raises(WeightsError, match=r"lost sub/config\.json"):
        locate(card, cache)


def test_a_copied_cache_is_read_once_and_then_trusted(
    toy: MakeCard, originals: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = toy(folder_source(originals))
    fetch(card, {}, cache, quiet)
    os.utime(cache / "toy" / "model.bin", ns=(1, 1))
    assert locate(card, cache).sha256 == FILES
    monkeypatch.setattr("models.weights.file_sha256", lambda path: pytest.fail("read again"))
    assert locate(card, cache).sha256 == FILES


def test_weights_of_a_card_that_has_changed_are_not_used(toy: MakeCard, originals: Path, cache: Path) -> None:
    card = toy(folder_source(originals))
    fetch(card, {}, cache, quiet)
    newer = card.model_copy(update={"weights": card.weights.model_copy(update={"files": {"model.bin": "0" * 64}})})
    with pytest.raises(WeightsError, match="not the ones that the card toy names"):
        locate(newer, cache)
    assert not status(newer, {}, cache).present


@pytest.mark.parametrize("content", [b"", b"{}", b"{", b"\xff"])
def test_a_damaged_marker_means_fetch_again(toy: MakeCard, originals: Path, cache: Path, content: bytes) -> None:
    card = toy(folder_source(originals))
    fetch(card, {}, cache, quiet)
    (cache / "toy" / MARKER).write_bytes(content)
    with pytest.raises(WeightsError, match="modellab models fetch toy"):
        locate(card, cache)
    assert fetch(card, {}, cache, quiet).sha256 == FILES


def test_the_status_says_how_to_get_them(toy: MakeCard, originals: Path, cache: Path) -> None:
    hub = {"kind": "hub", "repo": "some/repo", "revision": REVISION}
    assert status(toy(PARTS, hub), {}, cache).note == (
        "packages toy-one==1.0 and toy-two==1.0; hub some/repo@aaaaaaaa: modellab models fetch toy"
    )
    card = toy(folder_source(originals))
    fetch(card, {}, cache, quiet)
    assert status(card, {}, cache).present
    assert str(originals) in status(card, {}, cache).note


def converting(make_card: MakeCard, name: str, card: str, converter: str = "models.convert:same_files") -> ModelCard:
    source = {"kind": "convert", "card": card, "converter": converter}
    return make_card(name=name, weights={"files": {"model.bin": FILES["model.bin"]}, "sources": [source]})


def test_weights_made_from_those_of_another_card(make_card: MakeCard, tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path / "flat", {"model.bin": A})
    base = make_card(name="base", weights={"files": {"model.bin": FILES["model.bin"]}, "sources": [folder_source(folder)]})
    cards = {"base": base, "made": converting(make_card, "made", "base")}
    assert fetch(cards["made"], cards, cache, quiet).sha256 == base.weights.files
    assert locate(base, cache).sha256 == base.weights.files


@pytest.mark.parametrize(
    ("card", "converter", "reason"),
    [
        ("loop", "models.convert:same_files", "convert in a circle: loop → loop"),
        ("absent", "models.convert:same_files", "no model named 'absent'"),
        ("empty", "models.convert:same_files", "empty has no weights to convert"),
        ("sourceless", "models.convert:same_files", "No source has the weights of sourceless: the card names none"),
    ],
)
def test_a_conversion_that_cannot_start_says_why(
    make_card: MakeCard, cache: Path, card: str, converter: str, reason: str
) -> None:
    sourceless = make_card(name="sourceless", weights={"files": FILES})
    cards = {
        "loop": converting(make_card, "loop", card, converter),
        "empty": make_card(name="empty"),
        "sourceless": sourceless,
    }
    assert reason in fails(cards["loop"], cache, cards)


@dataclass(frozen=True)
class Slow:
    """A conversion that takes a second, and what it needs."""

    cards: tuple[ModelCard, ModelCard]
    environment: dict[str, str]
    log: Path
    """One line for each time that the conversion began."""
    go: Path
    """The conversion ends when this file is there."""

    def fetch_elsewhere(self, cache: Path) -> subprocess.Popen[str]:
        return fetch_elsewhere(cache, *self.cards, **self.environment)


@pytest.fixture
def slow(tmp_path: Path, make_card: MakeCard) -> Slow:
    log, go = tmp_path / "log", tmp_path / "go"
    (tmp_path / "slow_converter.py").write_text(
        "import pathlib, time\n"
        "def convert(source, destination):\n"
        f"    pathlib.Path({str(log)!r}).open('a').write('began\\n')\n"
        "    (destination / 'model.bin').write_bytes(b'half')\n"
        f"    while not pathlib.Path({str(go)!r}).exists():\n"
        "        time.sleep(0.01)\n"
        "    (destination / 'model.bin').write_bytes((source / 'model.bin').read_bytes())\n"
    )
    source = folder_source(write(tmp_path / "flat", {"model.bin": A}))
    base = make_card(name="base", weights={"files": {"model.bin": FILES["model.bin"]}, "sources": [source]})
    made = converting(make_card, "toy", "base", "slow_converter:convert")
    return Slow((made, base), {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(tmp_path)])}, log, go)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "the other process did not get so far"
        time.sleep(0.02)


def test_of_two_processes_one_fetches_and_the_other_waits(slow: Slow, cache: Path) -> None:
    first = slow.fetch_elsewhere(cache)
    until(slow.log.exists)
    second = slow.fetch_elsewhere(cache)
    assert second.stdout is not None
    assert "waiting for another process" in second.stdout.readline()
    slow.go.touch()
    assert [process.communicate(timeout=60)[0].splitlines()[-1] for process in (first, second)] == ["done", "done"]
    assert slow.log.read_text() == "began\n"


def test_a_killed_fetch_leaves_nothing_and_holds_no_lock(slow: Slow, cache: Path) -> None:
    killed = slow.fetch_elsewhere(cache)
    until(slow.log.exists)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    with pytest.raises(WeightsError, match="not here"):
        locate(slow.cards[0], cache)
    slow.go.touch()
    out, _ = slow.fetch_elsewhere(cache).communicate(timeout=60)
    assert out.splitlines()[-1] == "done"
    assert locate(slow.cards[0], cache).sha256 == slow.cards[0].weights.files


def test_a_card_without_weights_needs_none(make_card: MakeCard, cache: Path) -> None:
    card = make_card(weights={})
    assert fetch(card, {}, cache, lambda line: pytest.fail(line)) == Located(cache / "toy", {})
    assert locate(card, cache).sha256 == {}
    assert status(card, {}, cache).present
    assert status(card, {}, cache).note == "needs none"
    assert not cache.exists()


UNKNOWN = {"model.bin": None, "sub/config.json": FILES["sub/config.json"]}


@pytest.fixture
def unseen(make_card: MakeCard, originals: Path) -> ModelCard:
    """A card that does not know the digest of ``model.bin``."""
    return make_card(weights={"files": UNKNOWN, "sources": [folder_source(originals)]})


def test_an_unknown_digest_is_noted_when_first_fetched(unseen: ModelCard, cache: Path) -> None:
    assert "sha256 noted at first fetch" in status(unseen, {}, cache).note
    assert fetch(unseen, {}, cache, quiet).sha256 == FILES
    assert locate(unseen, cache).sha256 == FILES
    assert status(unseen, {}, cache).present
    assert "sha256 noted at first fetch" in status(unseen, {}, cache).note


def test_what_was_noted_holds_from_then_on(unseen: ModelCard, originals: Path, cache: Path) -> None:
    fetch(unseen, {}, cache, quiet)
    change(cache / "toy" / "model.bin", b"damaged")
    with pytest.raises(WeightsError, match="changed on disk"):
        locate(unseen, cache)
    assert fetch(unseen, {}, cache, quiet).sha256 == FILES
    change(cache / "toy" / "model.bin", b"damaged")
    change(originals / "model.bin", b"other")
    with pytest.raises(WeightsError, match=r"was noted when it was first fetched.*remove the folder toy"):
        fetch(unseen, {}, cache, quiet)
    (cache / "toy" / MARKER).unlink()  # the folder is removed: noted anew
    assert fetch(unseen, {}, cache, quiet).sha256["model.bin"] == hashlib.sha256(b"other").hexdigest()


def test_a_known_digest_beside_an_unknown_one_is_held(unseen: ModelCard, originals: Path, cache: Path) -> None:
    change(originals / "sub/config.json", b"other")
    assert "sub/config.json: expected sha256" in fails(unseen, cache)


def test_what_was_noted_of_one_source_is_not_taken_for_another(
    unseen: ModelCard, make_card: MakeCard, tmp_path: Path, cache: Path
) -> None:
    fetch(unseen, {}, cache, quiet)
    elsewhere = folder_source(write(tmp_path / "elsewhere", {"model.bin": A, "sub/config.json": B}))
    moved = make_card(weights={"files": UNKNOWN, "sources": [elsewhere]})
    with pytest.raises(WeightsError, match="not the ones that the card toy names"):
        locate(moved, cache)
    assert fetch(moved, {}, cache, quiet).sha256 == FILES


def on_an_index(card: ModelCard, cards: Mapping[str, ModelCard]) -> bool:
    """Whether the package index has the weights, or those that they are made from: tests need no hub."""
    return any(
        isinstance(source, PackageSource) or (isinstance(source, ConvertSource) and on_an_index(cards[source.card], cards))
        for source in card.weights.sources
    )


FETCHED = sorted(name for name, card in read_cards().items() if on_an_index(card, read_cards()))


def test_there_are_real_weights_to_test() -> None:
    assert {"faster-whisper-tiny.en", "whisper-base"} <= set(FETCHED)


@pytest.mark.real
@pytest.mark.parametrize("name", FETCHED)
def test_the_real_weights_are_the_ones_the_cards_name(
    name: str, cards: Mapping[str, ModelCard], weights_cache: Path, weights_of: Callable[[str], Path]
) -> None:
    folder = weights_of(name)
    assert locate(cards[name], weights_cache).folder == folder
    assert status(cards[name], cards, weights_cache).present
