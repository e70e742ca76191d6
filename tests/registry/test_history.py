"""The history grows, is read as of a date, and shows what was done to it."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import StateError
from pipelines.lab import Lab
from registry import lifecycle
from registry.database import EVENTS, Database, database_uri
from registry.events import Entry, faults
from registry.history import as_of, open_history, record
from registry.identity import RefusedError
from tests.registry.desk import ADA, NEW, start


def note(reason: str, **changes: Any) -> Entry:
    known = {"kind": "regression", "task": "asr", "model": "old", "actor": "nightly", "origin": "schedule", "reason": reason}
    return Entry.model_validate({**known, **changes})


def tamper(lab: Lab, *statements: str) -> None:
    """Do what somebody with the database's password can do."""
    database = Database(database_uri(lab))
    guards = [f"DROP TRIGGER {EVENTS}_no_{what}" for what in ("update", "delete")]
    with database.writing() as connection:
        for statement in [*(guards if database.sqlite else [f"DROP TRIGGER {EVENTS}_guard ON {EVENTS}"]), *statements]:
            connection.exec_driver_sql(statement)


def test_nothing_is_made_by_looking(lab: Lab) -> None:
    assert open_history(lab).events() == []
    assert not lab.home.mlflow_database.exists()


def test_events_come_back_as_they_were_written(lab: Lab) -> None:
    written = [
        record(lab, note(f"WER rose: {number}", details={"wer": 0.1 + number, "näme": ["é", None]})) for number in range(3)
    ]
    assert open_history(lab).events() == written
    assert [event.seq for event in written] == [1, 2, 3]
    assert written[2].previous == written[1].hash
    assert faults(written) == []


def test_what_changes_a_stage_cannot_be_recorded_past_the_lifecycle(lab: Lab) -> None:
    for wrong in (note("", kind="release"), note("", to_stage="production")):
        with pytest.raises(StateError, match="lifecycle"):
            record(lab, wrong)
    assert open_history(lab).events() == []


def test_the_database_refuses_to_change_what_was_written(lab: Lab) -> None:
    record(lab, note("one"))
    database = Database(database_uri(lab))
    for statement in (f"UPDATE {EVENTS} SET actor = 'nobody'", f"DELETE FROM {EVENTS}"):
        with pytest.raises(StateError, match="append-only"), database.writing() as connection:
            connection.exec_driver_sql(statement)
    assert open_history(lab).events()[0].actor == "nightly"


@pytest.mark.parametrize(
    ("statement", "seq", "told"),
    [
        (f"UPDATE {EVENTS} SET actor = 'nobody' WHERE seq = 2", 2, "altered"),
        (f"UPDATE {EVENTS} SET details = '{{}}' WHERE seq = 3", 3, "altered"),
        (f"DELETE FROM {EVENTS} WHERE seq = 2", 3, "event 2 before it is gone"),
        (f"DELETE FROM {EVENTS} WHERE seq < 4", 4, "event 1 to 3 before it is gone"),
    ],
)
def test_tampering_shows_which_event(lab: Lab, statement: str, seq: int, told: str) -> None:
    for number in range(5):
        record(lab, note(str(number), details={"n": number}))
    tamper(lab, statement)
    (found,) = faults(open_history(lab).events())
    assert (found.seq, told in found.fault) == (seq, True), found


def test_a_chain_that_was_made_anew_or_cut_does_not_have_the_head_that_was_noted(lab: Lab) -> None:
    events = [record(lab, note(str(number))) for number in range(4)]
    head = (4, events[3].hash[:16])
    assert faults(events, head) == []
    tamper(lab, f"DELETE FROM {EVENTS} WHERE seq = 4")
    cut = open_history(lab).events()
    assert faults(cut) == []
    assert [fault.seq for fault in faults(cut, head)] == [4]
    record(lab, note("another fourth"))
    assert "anew" in faults(open_history(lab).events(), head)[0].fault


def test_nobody_decides_on_a_history_that_was_altered(lab: Lab) -> None:
    history = start(lab)
    tamper(lab, f"UPDATE {EVENTS} SET model = 'new' WHERE seq = 1")
    with pytest.raises(RefusedError, match="altered at event 1"):
        lifecycle.archive(history, "asr", NEW, "candidate", ADA, "why")
    assert record(lab, note("regressions are still written down")).seq == 4


def test_as_of_a_date() -> None:
    from registry.events import chained

    first = chained(note("a"), None, "2026-03-02T23:59:59.000000+00:00")
    second = chained(note("b"), first, "2026-03-03T12:00:00.000000+00:00")
    third = chained(note("c"), second, "2026-03-04T00:00:00.000000+00:00")
    events = [first, second, third]
    for moment, count in {
        "2026-03-01": 0, "2026-03-03": 2, "2026-03-03T11:59": 1, "2026-03-03T12:00": 2, "2026-03-03T13:30+02:00": 1,
        "2026-03-04": 3, None: 3,
    }.items():  # fmt: skip
        assert len(as_of(events, moment)) == count, moment
    with pytest.raises(StateError, match="no date"):
        as_of(events, "3 March")


def test_a_clock_that_goes_back_does_not_take_the_history_with_it() -> None:
    from registry.events import chained

    first = chained(note("a"), None, "2026-03-03T12:00:00.000000+00:00")
    assert chained(note("b"), first, "2026-03-03T11:00:00.000000+00:00").at == first.at


def test_a_server_of_mlflow_is_no_database(lab: Lab) -> None:
    behind = lab.model_copy(update={"mlflow_uri": "http://127.0.0.1:5000"})
    with pytest.raises(StateError, match="MODELLAB_HISTORY_URI"):
        open_history(behind)
    named = behind.model_copy(update={"history_uri": f"sqlite:///{lab.home_folder}/history.db"})
    assert record(named, note("kept")).seq == 1


def test_a_password_is_not_shown() -> None:
    assert "secret" not in Database("postgresql://ada:secret@127.0.0.1:1/x").shown
