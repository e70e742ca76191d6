"""When a scheduled run is due, and what it does: ``schedule:`` in ``params.yaml``, and what is kept between runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator

from models.errors import PolicyError, StateError, unknown_name
from models.types import Record, Task
from pipelines.corpus import corpus_folder, corpus_tasks, list_corpora
from pipelines.home import Home, write_atomically
from pipelines.lab import Lab
from pipelines.params import read_section

FIELDS = 5
"""Of a cron line: minute, hour, day of the month, month, day of the week."""
NEVER_YEARS = 5
"""A cron line that does not fire within so many years (31 February) is a mistake; leap days are within."""


class Checks(Record, use_attribute_docstrings=True):
    """What a run does: evaluates production and the candidates, and holds each against its last known-good evaluation."""

    corpora: tuple[str, ...] = ()
    """As `EvaluationRequest.corpora`: names under ``data/``, or of degraded variants; empty for every corpus of the task."""
    slices: tuple[str, ...] = ()
    """As `EvaluationRequest.slices`."""
    limit: int | None = Field(default=None, ge=1)
    """The first K recordings of each corpus; None for all."""
    data_rev: str | None = None
    """Git revision whose data is read, such as ``origin/main``; None for what is in the working tree."""
    anew: bool = False
    """Infer everything again instead of taking stored predictions: only this sees a service or a machine that changed."""
    compare: bool = False
    """Also compare each candidate with production by the gate."""

    def for_task(self, lab: Lab, task: Task) -> Checks | None:
        """The same for one task: with the corpora that are for it; None where others are there and none is for it.

        A voice in production needs no watching where nobody has prompts. Where there is no corpus at all, something is
        wrong, and the evaluation will say what.

        Raises:
            CorpusError: A corpus is unknown.
        """
        names = self.corpora or tuple(list_corpora(lab.data))
        fitting = tuple(name for name in names if task in corpus_tasks(corpus_folder(name, lab.data)))
        if names and not fitting:
            return None
        return self.model_copy(update={"corpora": fitting}) if self.corpora else self


class Schedule(Checks):
    """One line of ``schedule.runs``."""

    cron: str
    """Five fields, read in the schedule's time zone."""

    @field_validator("cron")
    @classmethod
    def _cron_fires(cls, value: str) -> str:
        from cronsim import CronSim, CronSimError

        now = datetime.now(UTC)
        if len(value.split()) != FIELDS:
            raise ValueError(f"{value!r} is no cron line of five fields")
        try:
            first = next(CronSim(value, now), None)
        except CronSimError as error:
            raise ValueError(f"{value!r} is no cron line of five fields ({error})") from error
        if first is None or first > now + timedelta(days=366 * NEVER_YEARS):
            raise ValueError(f"{value!r} does not fire within {NEVER_YEARS} years")
        return value


class ScheduleParams(Record):
    """``schedule:`` in ``params.yaml``."""

    timezone: str = "UTC"
    """IANA name, such as ``Europe/Berlin``."""
    runs: dict[str, Schedule] = Field(min_length=1)
    """Name → when and what."""

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"there is no time zone {value!r}; write one as Europe/Berlin or UTC") from error
        return value

    @field_validator("runs")
    @classmethod
    def _names_are_plain(cls, value: dict[str, Schedule]) -> dict[str, Schedule]:
        for name in value:
            if not name.replace("-", "").isalnum() or not name.islower():
                raise ValueError(f"{name!r} cannot name a run: lower-case letters, digits and '-'")
        return value

    def find(self, name: str) -> Schedule:
        """The schedule of a name.

        Raises:
            PolicyError: There is none.
        """
        if name not in self.runs:
            raise PolicyError(*unknown_name("scheduled run", name, self.runs))
        return self.runs[name]


def read_schedule(path: Path) -> ScheduleParams:
    """Read ``schedule:`` from ``params.yaml``.

    Raises:
        PolicyError: It is missing or wrong; the first fault is named.
    """
    return read_section(path, "schedule", ScheduleParams, "docs/schedules.md", holds="says what runs when")


class RunRecord(Record):
    """What is kept of one scheduled run between runs: ``schedules/NAME.json`` in the home."""

    since: datetime
    """When the schedule was first served; nothing before it is missed."""
    slot: datetime | None = None
    """The newest moment of the schedule that is done."""
    finished_at: datetime | None = None
    """When that run ended."""
    outcome: str = ""
    """What it came to, in a line."""


def latest_slot(cron: str, timezone: str, now: datetime) -> datetime:
    """The newest moment of a cron line that is not after now, in UTC."""
    from cronsim import CronSim

    minute = now.astimezone(ZoneInfo(timezone)).replace(second=0, microsecond=0)
    # It walks back to what is strictly before; this minute counts.
    found: datetime = next(CronSim(cron, minute + timedelta(minutes=1), reverse=True))
    return found.astimezone(UTC)


def next_slot(cron: str, timezone: str, now: datetime) -> datetime:
    """The next moment of a cron line after now, in its time zone."""
    from cronsim import CronSim

    found: datetime = next(CronSim(cron, now.astimezone(ZoneInfo(timezone))))
    return found


def due_slot(cron: str, timezone: str, record: RunRecord | None, now: datetime) -> datetime | None:
    """Say which moment of a schedule a run that starts now would do; None where nothing is due.

    However many moments were missed, the newest stands for them all: a run is caught up once. What lies before the schedule
    was first served was not missed.

    Args:
        cron: Five fields.
        timezone: That they are read in.
        record: What is known of earlier runs; None where it was never served.
        now: With a zone.
    """
    if record is None:
        return None
    newest = latest_slot(cron, timezone, now)
    done = record.since if record.slot is None else max(record.slot, record.since)
    return newest if newest > done else None


def read_record(home: Home, name: str) -> RunRecord | None:
    """Read what is known of a scheduled run; None where it was never served.

    Raises:
        StateError: The file is there and cannot be read.
    """
    path = home.schedules / f"{name}.json"
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StateError(f"{path} cannot be read.", "Delete it: the schedule then counts from now on.") from error


def write_record(home: Home, name: str, record: RunRecord) -> None:
    """Keep what is known of a scheduled run."""
    write_atomically(home.schedules / f"{name}.json", record.model_dump_json(indent=1))


def begin_serving(home: Home, params: ScheduleParams, now: datetime) -> list[str]:
    """Note when each schedule was first served, and list those that missed a run."""
    missed = []
    for name, schedule in params.runs.items():
        record = read_record(home, name)
        if record is None:
            write_record(home, name, RunRecord(since=now))
        elif due_slot(schedule.cron, params.timezone, record, now) is not None:
            missed.append(name)
    return missed
