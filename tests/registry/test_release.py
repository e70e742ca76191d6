"""A release swaps after package and parity or not at all; a rollback likewise; MLflow's aliases follow."""

from __future__ import annotations

from typing import Any

import mlflow
import pytest

from models.errors import StateError
from pipelines.lab import Lab
from registry.history import open_history
from registry.identity import RefusedError, Rules
from registry.projection import bring_up_to_date
from registry.stages import read_state
from registry.versions import loadable
from serving.release import ReleaseError, release, roll_back
from tests.registry.desk import BOB, NEW, OLD, OTHER, Doubles, approved, ask, person, start


class Broken(Doubles):
    """A package that cannot be built."""

    def package(self, what: Any, task: str, comparison: str | None) -> Any:
        raise StateError("The disk is full.", "Make room.")


@pytest.fixture(autouse=True)
def started(mlflow_lab: Lab) -> None:
    start(mlflow_lab)


def doubles(lab: Lab, **changes: Any) -> Doubles:
    return Doubles(lab.home_folder / "packages", **changes)


def alias(lab: Lab, name: str = "production") -> str | None:
    client = mlflow.MlflowClient(lab.tracking_uri)
    number = client.get_registered_model("modellab-asr").aliases.get(name)
    return client.get_model_version("modellab-asr", number).tags["modellab.fingerprint"] if number else None


@pytest.mark.parametrize(("step", "told"), [("package", "The disk is full"), ("parity", "1 of 2 answers")])
def test_what_fails_before_the_swap_changes_nothing_and_is_written_down(mlflow_lab: Lab, step: str, told: str) -> None:
    request = approved(mlflow_lab)
    steps = doubles(mlflow_lab, different=True) if step == "parity" else Broken(mlflow_lab.home_folder / "packages")
    with pytest.raises(ReleaseError, match=rf"stopped at {step}, and old .* is in production as before: {told}") as caught:
        release(mlflow_lab, open_history(mlflow_lab), request.id, BOB, steps)
    assert f"modellab approve {request.id}" in caught.value.remedy and caught.value.exit_code == 1
    state = read_state(mlflow_lab)
    assert state.of("asr").production == OLD and told in (state.requests[request.id].failure or "")
    # Once what was wrong is mended the same approval does.
    done = release(mlflow_lab, open_history(mlflow_lab), request.id, BOB, doubles(mlflow_lab))
    assert (done.production, done.replaced, done.already) == (NEW, OLD, False)
    assert release(mlflow_lab, open_history(mlflow_lab), request.id, BOB, doubles(mlflow_lab)).already
    assert read_state(mlflow_lab).requests[request.id].failure is None


def test_what_is_not_approved_is_not_released(mlflow_lab: Lab) -> None:
    with pytest.raises(RefusedError, match="is open, not approved"):
        release(mlflow_lab, open_history(mlflow_lab), ask(mlflow_lab).id, BOB, doubles(mlflow_lab))


def test_aliases_and_tags_follow_each_event(mlflow_lab: Lab) -> None:
    history = open_history(mlflow_lab)
    assert bring_up_to_date(mlflow_lab, history) and not bring_up_to_date(mlflow_lab, history)
    assert (alias(mlflow_lab), alias(mlflow_lab, "candidate")) == (OLD.version, OTHER.version)
    release(mlflow_lab, history, approved(mlflow_lab).id, BOB, doubles(mlflow_lab))
    assert alias(mlflow_lab) == NEW.version
    tags = {v.tags["modellab.fingerprint"]: v.tags["modellab.stage"]
            for v in mlflow.MlflowClient(mlflow_lab.tracking_uri).search_model_versions("name='modellab-asr'")}  # fmt: skip
    assert tags == {OLD.version: "archived", NEW.version: "production", OTHER.version: "candidate"}
    assert loadable(mlflow_lab, "asr") == "models:/modellab-asr@production"


def test_an_alias_that_was_moved_by_hand_is_put_right(mlflow_lab: Lab) -> None:
    history = open_history(mlflow_lab)
    bring_up_to_date(mlflow_lab, history)
    mlflow.MlflowClient(mlflow_lab.tracking_uri).set_registered_model_alias("modellab-asr", "production", "3")
    assert not bring_up_to_date(mlflow_lab, history), "nobody looks where no event came"
    assert bring_up_to_date(mlflow_lab, history, always=True)
    assert alias(mlflow_lab) == OLD.version


def test_a_rollback_checks_first_and_is_the_same_one_when_it_is_run_again(mlflow_lab: Lab) -> None:
    history, rules = open_history(mlflow_lab), Rules(roll_back=("carol",))
    carol = person("carol")
    release(mlflow_lab, history, approved(mlflow_lab).id, BOB, doubles(mlflow_lab))

    def back(who: Any = carol, reason: str = "worse at night", **changes: Any) -> Any:
        return roll_back(mlflow_lab, history, "asr", who, reason, rules, doubles(mlflow_lab, **changes))

    with pytest.raises(RefusedError, match="bob may not roll back"):
        back(BOB)
    with pytest.raises(RefusedError, match="reason"):
        back(reason=" ")
    with pytest.raises(ReleaseError, match=r"new .* is in production as before"):
        back(different=True)
    assert read_state(mlflow_lab).of("asr").production == NEW
    done = back()
    assert (done.production, done.replaced, done.already, alias(mlflow_lab)) == (OLD, NEW, False, OLD.version)
    assert back().event == done.event and back().already
    with pytest.raises(RefusedError, match="no earlier production"):
        back(reason="another")
