"""When a scheduled run is due: as tables. A missed run is caught up once, whatever happened in between."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.errors import PolicyError, StateError
from pipelines.home import Home
from pipelines.schedule import (
    RunRecord,
    begin_serving,
    due_slot,
    latest_slot,
    next_slot,
    read_record,
    read_schedule,
    write_record,
)

NIGHTLY, WEEKLY = "30 2 * * *", "0 4 * * 0"
DAY = "2026-11-25"  # a Wednesday


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "now", "latest", "following"),
    [
        (NIGHTLY, "UTC", f"{DAY} 02:29:59", "2026-11-24 02:30", f"{DAY} 02:30"),
        (NIGHTLY, "UTC", f"{DAY} 02:30:00", f"{DAY} 02:30", "2026-11-26 02:30"),
        (NIGHTLY, "UTC", f"{DAY} 02:30:59", f"{DAY} 02:30", "2026-11-26 02:30"),
        (NIGHTLY, "UTC", f"{DAY} 23:59:00", f"{DAY} 02:30", "2026-11-26 02:30"),
        (WEEKLY, "UTC", f"{DAY} 12:00:00", "2026-11-22 04:00", "2026-11-29 04:00"),
        (NIGHTLY, "Europe/Berlin", f"{DAY} 01:29:59", "2026-11-24 01:30", f"{DAY} 01:30"),
        (NIGHTLY, "Europe/Berlin", f"{DAY} 01:30:00", f"{DAY} 01:30", "2026-11-26 01:30"),
        (NIGHTLY, "Asia/Kolkata", f"{DAY} 21:00:00", f"{DAY} 21:00", "2026-11-26 21:00"),
        # Berlin's clocks go from 02:00 to 03:00 on 29 March 2026, so that 02:30 does not exist; it runs after the gap.
        (NIGHTLY, "Europe/Berlin", "2026-03-29 12:00:00", "2026-03-29 01:00", "2026-03-30 00:30"),
        # On 25 October 02:30 comes twice, and is one moment of the schedule.
        (NIGHTLY, "Europe/Berlin", "2026-10-25 12:00:00", "2026-10-25 00:30", "2026-10-26 01:30"),
    ],
)
def test_moments_of_a_cron_line(cron: str, zone: str, now: str, latest: str, following: str) -> None:
    assert latest_slot(cron, zone, moment(now)) == moment(latest)
    assert next_slot(cron, zone, moment(now)) == moment(following)


@pytest.mark.parametrize(
    ("since", "slot", "now", "due"),
    [
        # Served for the first time: what lay before was not missed.
        (f"{DAY} 02:31", None, f"{DAY} 02:31", None),
        (f"{DAY} 02:31", None, f"{DAY} 23:00", None),
        (f"{DAY} 02:31", None, "2026-11-26 02:30", "2026-11-26 02:30"),
        # On time, then nothing more for that night: also when a second run comes late, or by hand.
        ("2026-11-01 00:00", "2026-11-24 02:30", f"{DAY} 02:30", f"{DAY} 02:30"),
        ("2026-11-01 00:00", f"{DAY} 02:30", f"{DAY} 02:31", None),
        ("2026-11-01 00:00", f"{DAY} 02:30", "2026-11-26 02:29", None),
        # Nobody was there for one night, for ten, for a year: the newest stands for them all.
        ("2026-11-01 00:00", "2026-11-24 02:30", f"{DAY} 09:00", f"{DAY} 02:30"),
        ("2026-11-01 00:00", "2026-11-15 02:30", f"{DAY} 09:00", f"{DAY} 02:30"),
        ("2025-11-01 00:00", "2025-11-15 02:30", f"{DAY} 09:00", f"{DAY} 02:30"),
        # A run that took longer than a day: the nights within it are caught up once, by the next.
        ("2026-11-01 00:00", "2026-11-22 02:30", f"{DAY} 02:40", f"{DAY} 02:30"),
        # A clock that was set back: what is done stays done.
        ("2026-11-01 00:00", "2026-11-26 02:30", f"{DAY} 09:00", None),
    ],
)
def test_what_is_due(since: str, slot: str | None, now: str, due: str | None) -> None:
    record = RunRecord(since=moment(since), slot=moment(slot) if slot else None)
    assert due_slot(NIGHTLY, "UTC", record, moment(now)) == (moment(due) if due else None)


def test_what_was_never_served_is_not_due() -> None:
    assert due_slot(NIGHTLY, "UTC", None, moment(f"{DAY} 02:30")) is None


def test_starting_to_serve_notes_since_when_and_lists_what_was_missed(tmp_path: Path) -> None:
    home, params = Home(tmp_path / "home"), read_schedule(written(tmp_path, {"nightly": {"cron": NIGHTLY}}))
    assert begin_serving(home, params, moment(f"{DAY} 09:00")) == []
    assert begin_serving(home, params, moment(f"{DAY} 23:00")) == [], "again the same day"
    assert begin_serving(home, params, moment("2026-11-28 09:00")) == ["nightly"]
    assert begin_serving(home, params, moment("2026-11-28 09:00")) == ["nightly"], "until it ran: a kill loses nothing"
    record = read_record(home, "nightly")
    assert record is not None and record.since == moment(f"{DAY} 09:00")
    write_record(home, "nightly", record.model_copy(update={"slot": moment("2026-11-28 02:30")}))
    assert begin_serving(home, params, moment("2026-11-28 09:00")) == []


def test_a_broken_record_is_said(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.schedules.mkdir()
    (home.schedules / "nightly.json").write_text("{")
    with pytest.raises(StateError, match=r"nightly\.json cannot be read"):
        read_record(home, "nightly")


def written(folder: Path, runs: Any, **more: Any) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({"schedule": {"runs": runs, **more}}))
    return path


@pytest.mark.parametrize(
    ("runs", "more", "told"),
    [
        ({"nightly": {"cron": "61 2 * * *"}}, {}, "is no cron line of five fields"),
        ({"nightly": {"cron": "0 0 2 * * *"}}, {}, "is no cron line of five fields"),
        ({"nightly": {"cron": "every night"}}, {}, "is no cron line of five fields"),
        ({"nightly": {"cron": "0 0 31 2 *"}}, {}, "is no cron line|does not fire"),
        ({"nightly": {"cron": NIGHTLY}}, {"timezone": "Europe/Berln"}, "there is no time zone 'Europe/Berln'"),
        ({"nightly": {"cron": NIGHTLY}}, {"timezone": "../etc/passwd"}, "there is no time zone"),
        ({"nightly": {"cron": NIGHTLY, "limit": 0}}, {}, "schedule.runs.nightly.limit"),
        ({"nightly": {"cron": NIGHTLY, "corpus": "a"}}, {}, "schedule.runs.nightly.corpus"),
        ({"../nightly": {"cron": NIGHTLY}}, {}, "cannot name a run"),
        ({}, {}, "schedule.runs"),
    ],
)
def test_a_wrong_schedule_is_one_sentence(tmp_path: Path, runs: Any, more: dict[str, Any], told: str) -> None:
    with pytest.raises(PolicyError, match=told) as error:
        read_schedule(written(tmp_path, runs, **more))
    assert "docs/schedules.md" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_schedule_and_the_shipped_one(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "params.yaml").write_text("gate: {}\n")
    with pytest.raises(PolicyError, match="schedule is missing"):
        read_schedule(tmp_path / "params.yaml")
    shipped = read_schedule(repository / "params.yaml")
    assert set(shipped.runs) == {"nightly", "weekly"} and shipped.find("weekly").anew
    with pytest.raises(PolicyError, match="Did you mean 'nightly'"):
        shipped.find("nightl")
