"""A run that somebody watches does without Prefect's heartbeat, which ends it up to a second later."""

from __future__ import annotations

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

from flows.running import without_heartbeat


def heartbeat_s() -> int | None:
    return get_current_settings().flows.heartbeat_frequency


def test_no_heartbeat_inside_and_the_same_as_before_afterwards() -> None:
    before = heartbeat_s()
    assert before is not None, "Prefect sends none by itself: `without_heartbeat` can go"
    with without_heartbeat():
        assert heartbeat_s() is None
        with without_heartbeat():  # a promotion compares
            assert heartbeat_s() is None
    assert heartbeat_s() == before


def test_what_the_user_has_set_stays() -> None:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 60}), without_heartbeat():
        assert heartbeat_s() == 60
