"""A run that somebody watches: without Prefect's heartbeat, which ends it up to a second later, or without Prefect."""

from __future__ import annotations

import yaml
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

from flows.running import without_heartbeat
from pipelines.home import write_atomically
from tests.conftest import Project, free_port
from tests.pipelines.toy_engine import toy_card, write_corpus

EXIT_USAGE = 2


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


def test_a_server_that_does_not_answer_is_told_in_one_sentence(project: Project) -> None:
    address = f"http://127.0.0.1:{free_port()}/api"
    write_corpus(project.root / "data" / "beeps", [{"language": "en"}])
    card = toy_card(project.root / "toy").model_dump(mode="json", exclude_none=True)
    write_atomically(project.root / "cards" / "toy.yaml", yaml.safe_dump(card))
    answer = project.run("evaluate", "toy", PREFECT_API_URL=address, MODELLAB_CARDS=str(project.root / "cards"))
    assert answer.code == EXIT_USAGE and "Traceback" not in answer.err
    assert f"The Prefect server at {address} does not answer" in " ".join(answer.err.split()) and "modellab up" in answer.err
