"""Two models timed in turn, for real: fair in order, kept for exactly what was timed, and true within its own interval."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.audio import file_sha256
from models.engine import Placement
from models.errors import EngineError
from pipelines.duel import DUEL_ROUNDS, Duel, Entry, duel_entries, duel_path, load_duel, run_duel
from pipelines.inference import EngineSpec, Job
from pipelines.speed import speed_ratio
from tests.pipelines.toy_engine import notes, toy_card, write_signal

PAUSE_S = 0.03
COUNT = 16
"""Recordings to choose."""
RATIOS = (1.5, 2.0, 2.5, 3.5, 4.0, 4.5)
"""Of each recording: so unlike that no noise of the machine can push their mean out of the interval."""


def make_entry(name: str, duration: float, path: Path = Path("/none.wav")) -> Entry:
    key = f"{name:0>64}"
    return Entry(key, duration, Job(key, path, "en", duration))


def make_entries(count: int) -> list[Entry]:
    return [make_entry(f"{number}", 1 + number * number / 10) for number in range(count)]


# Choosing


def test_up_to_the_count_all_recordings_are_timed_each_once() -> None:
    entries = make_entries(COUNT)
    assert set(duel_entries(entries, COUNT)) == set(entries)
    twice = [*entries, make_entry("3", 50)]
    assert len(duel_entries(twice, COUNT)) == COUNT
    assert duel_entries([], COUNT) == []


@pytest.mark.parametrize("count", [17, 23, 59, 1000])
def test_of_many_those_spread_over_all_durations_are_chosen(count: int) -> None:
    entries = make_entries(count)
    chosen = duel_entries(entries, COUNT)
    ranks = [int(entry.key) for entry in chosen]
    assert len(set(ranks)) == COUNT
    assert ranks[0] == 0 and ranks[-1] == count - 1, "the shortest and the longest"
    gaps = [later - earlier for earlier, later in itertools.pairwise(ranks)]
    assert max(gaps) - min(gaps) <= 1, "evenly"


def test_the_choice_is_the_same_whatever_order_the_recordings_come_in() -> None:
    entries = [*make_entries(40), *(make_entry(f"same{number}", 2.0) for number in range(40))]
    shuffled = random.Random(1).sample(entries, len(entries))
    assert duel_entries(shuffled, COUNT) == duel_entries(entries, COUNT)


# Keeping


def test_a_duel_is_kept_under_everything_it_depends_on() -> None:
    def path(
        candidate: str = "a", baseline: str = "b", hardware: str = "h", threads: int = 2, entries: Sequence[Entry] = ()
    ) -> Path:
        return duel_path(Path("/duels"), candidate, baseline, hardware, threads, entries)

    entries = make_entries(3)
    paths = [
        path(entries=entries),
        path("x", entries=entries),
        path(baseline="x", entries=entries),
        path("b", "a", entries=entries),
        path(hardware="x", entries=entries),
        path(threads=1, entries=entries),
        path(entries=entries[:2]),
        path(entries=[*entries[:2], make_entry("new", 1.0)]),
    ]
    assert len(set(paths)) == len(paths)
    assert path(entries=entries[::-1]) == path(entries=entries), "the order of the recordings is not the duel's"
    renamed = [make_entry(str(number), 9.0, Path("/other.wav")) for number in range(3)]
    assert path(entries=renamed) == path(entries=entries), "their bytes count, not their names"


def test_more_rounds_are_another_duel(monkeypatch: pytest.MonkeyPatch) -> None:
    before = duel_path(Path("/"), "a", "b", "h", 1, [])
    monkeypatch.setattr("pipelines.duel.DUEL_ROUNDS", DUEL_ROUNDS + 1)
    assert duel_path(Path("/"), "a", "b", "h", 1, []) != before


@pytest.mark.parametrize("content", [None, "", "not json", "{}", '{"candidate": "a"}'])
def test_what_is_no_kept_duel_is_none_and_measured_anew(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "duel.json"
    if content is not None:
        path.write_text(content)
    assert load_duel(path) is None


# Timing


def make_spec(root: Path, name: str, pauses_s: dict[str, float], threads: int = 1) -> EngineSpec:
    """A toy of its own weights and notes that shares its log of calls with the other."""
    card = toy_card(root / name, decoding={"pauses_s": pauses_s}, args={"scratch": str(root), "name": name})
    return EngineSpec(card, root / name, Placement("cpu", "none", threads), f"{name:0>64}", "asr")


def specs(root: Path, ratios: Sequence[float]) -> tuple[EngineSpec, EngineSpec]:
    slow = {str(10 * (i + 1)): PAUSE_S * ratio for i, ratio in enumerate(ratios)}
    return make_spec(root, "candidate", slow), make_spec(root, "baseline", dict.fromkeys(slow, PAUSE_S))


def recordings(root: Path, count: int) -> list[Entry]:
    entries = []
    for number in range(count):
        path = write_signal(root / "audio" / f"{number}.wav", seconds=(number + 1) / 10)
        entries.append(make_entry(file_sha256(path), (number + 1) / 10, path))
    return entries


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("duel")


@pytest.fixture(scope="module")
def seen() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def duel(root: Path, seen: list[tuple[int, int]]) -> Duel:
    entries = recordings(root, len(RATIOS))
    return run_duel(*specs(root, RATIOS), entries, "machine", root / "duels" / "one.json", lambda *at: seen.append(at))


def timed_calls(root: Path) -> list[dict[str, str]]:
    """What the toys noted, without the whole recording that each hears before anything is timed."""
    return notes(root, "call")[2:]


def test_both_hear_a_whole_recording_before_anything_is_timed(duel: Duel, root: Path) -> None:
    calls = notes(root, "call")
    assert [call["name"] for call in calls[:2]] == ["candidate", "baseline"]
    assert {call["length"] for call in calls[:2]} == {"10"}
    assert len(calls) == 2 * (len(duel.timings) + 1)


def test_every_recording_is_given_to_both_before_the_next(duel: Duel, root: Path) -> None:
    calls = timed_calls(root)
    lengths = [str(10 * (i + 1)) for i in range(len(RATIOS))] * DUEL_ROUNDS
    assert [call["length"] for call in calls[::2]] == [call["length"] for call in calls[1::2]] == lengths
    assert all(
        {one["name"], other["name"]} == {"candidate", "baseline"} for one, other in zip(calls[::2], calls[1::2], strict=True)
    )


def test_who_goes_first_alternates_between_recordings_and_between_rounds(duel: Duel, root: Path) -> None:
    """So that of an even number of recordings, each has had both models first."""
    first = [call["name"] for call in timed_calls(root)[::2]]
    assert len(RATIOS) % 2 == 0
    assert first == ["candidate", "baseline"] * (len(RATIOS) // 2) + ["baseline", "candidate"] * (len(RATIOS) // 2)


def test_each_model_has_one_process_of_its_own_warmed_up_before(duel: Duel, root: Path) -> None:
    by_name = {note["name"]: note["pid"] for note in notes(root, "call")}
    assert len(set(by_name.values())) == 2
    assert {(note["name"], note["pid"]) for note in notes(root, "call")} == set(by_name.items())
    assert sorted(note["name"] for note in notes(root, "load")) == ["baseline", "candidate"]
    assert sorted(note["name"] for note in notes(root, "warm up")) == ["baseline", "candidate"]


def test_each_side_has_its_own_times(duel: Duel) -> None:
    assert len(duel.timings) == len(RATIOS) * DUEL_ROUNDS
    for number, timed in enumerate(duel.timings):
        assert timed.candidate_s >= PAUSE_S * RATIOS[number % len(RATIOS)] and timed.baseline_s >= PAUSE_S
        assert timed.audio_s == pytest.approx((number % len(RATIOS) + 1) / 10)
    assert (duel.candidate[-9:], duel.baseline[-8:], duel.hardware, duel.threads) == ("candidate", "baseline", "machine", 1)
    assert min(*duel.load_s, *duel.peak_mib) > 0


def test_the_duel_gives_the_ratio_of_its_timings(duel: Duel) -> None:
    """Of what was measured; how often the interval holds the true ratio is simulated in test_speed.py."""
    found = speed_ratio(duel, "rtf", level=0.95, resamples=1000, seed=1)
    measured = sum(timed.candidate_s for timed in duel.timings) / sum(timed.baseline_s for timed in duel.timings)
    assert found.low <= measured <= found.high and found.ratio == pytest.approx(measured)
    assert found.n == len(RATIOS), "recordings, not rounds"


def test_progress_is_told_after_each(duel: Duel, seen: list[tuple[int, int]]) -> None:
    total = len(RATIOS) * DUEL_ROUNDS
    assert seen == [(number, total) for number in range(1, total + 1)]


def test_a_duel_is_kept_as_it_was(duel: Duel, root: Path) -> None:
    assert load_duel(root / "duels" / "one.json") == duel


def test_a_model_that_cannot_load_leaves_no_duel(tmp_path: Path) -> None:
    good, bad = specs(tmp_path, [1.0])
    bad = EngineSpec(
        toy_card(tmp_path / "bad", args={"scratch": str(tmp_path), "broken": True}), tmp_path, bad.placement, "b", "asr"
    )
    with pytest.raises(EngineError, match="The toy is broken"):
        run_duel(good, bad, recordings(tmp_path, 1), "machine", tmp_path / "duel.json")
    assert not (tmp_path / "duel.json").exists()
