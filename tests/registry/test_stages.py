"""The history has the word on stages, and the cards where it is silent; what that means for promotion."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from models.card import read_cards
from models.errors import CardError
from pipelines.evaluate import Evaluated, gather, score
from pipelines.lab import Lab
from pipelines.policy import Policy
from registry import lifecycle
from registry.evidence import circumstances, data_identity, is_versioned
from registry.history import open_history
from registry.identity import RefusedError
from registry.listing import list_rows
from registry.promotion import PromotionRequest, check_promotion, judge_alone
from registry.stages import production_model, read_state, stage_of
from registry.state import State, Version
from tests.pipelines.toy_lab import Desk
from tests.registry.desk import ADA, start

SMALL = Version(model="faster-whisper-tiny.en", version="a" * 64)
CARDS = read_cards()


def test_the_cards_stand_until_there_is_a_history(lab: Lab) -> None:
    state = read_state(lab)
    assert state == State({}, {})
    assert stage_of(CARDS["whisper-base"], state) == "production"
    found = production_model("asr", CARDS, state)
    assert found is not None and found.name == "whisper-base"
    assert [(row.task, row.model, row.by) for row in list_rows(lab, open_history(lab))] == [
        ("asr", "whisper-base", "its card"), ("tts", "piper-joe", "its card"),
    ]  # fmt: skip


def test_a_card_cannot_claim_what_the_history_gave_to_another(lab: Lab) -> None:
    lifecycle.bootstrap(open_history(lab), "asr", SMALL, {})
    state = read_state(lab)
    stages = {name: stage_of(CARDS[name], state) for name in (SMALL.model, "whisper-base", "piper-joe", "hibari")}
    assert stages == {
        SMALL.model: "production",
        "whisper-base": "experimental",
        "piper-joe": "production",
        "hibari": "candidate",
    }
    found = production_model("asr", CARDS, state)
    assert found is not None and found.name == SMALL.model


def test_production_without_its_card_is_named(lab: Lab) -> None:
    start(lab)
    with pytest.raises(CardError, match=r"old .* is in production for asr, and there is no such card"):
        production_model("asr", CARDS, read_state(lab))


def test_behind_a_server_without_a_database_the_cards_stand(lab: Lab) -> None:
    assert read_state(lab.model_copy(update={"mlflow_uri": "http://127.0.0.1:1"})) == State({}, {})


@pytest.mark.parametrize(
    ("model", "to", "told"),
    [
        ("faster-whisper-base-float32", "production", "is experimental, and only a candidate"),
        ("faster-whisper-tiny.en", "candidate", "is in production for asr"),
        ("faster-whisper-tiny.en", "production", "is in production for asr"),
        ("faster-whisper-tiny.en", "archived", "is in production for asr"),
        ("nothing", "candidate", "no model named"),
    ],
)
def test_what_cannot_be_promoted_is_refused_at_once(lab: Lab, model: str, to: str, told: str) -> None:
    lifecycle.bootstrap(open_history(lab), "asr", SMALL, {})
    request = PromotionRequest.model_validate({"model": model, "to": to, "actor": ADA, "task": "asr"})
    with pytest.raises((RefusedError, CardError), match=told):
        check_promotion(lab, request, read_state(lab))


def test_a_candidate_by_its_card_may_ask_for_production(lab: Lab) -> None:
    request = PromotionRequest(model="faster-whisper-base", to="production", actor=ADA, task="asr")
    check_promotion(lab, request, read_state(lab))


def test_data_is_named_by_what_lies_there_where_dvc_does_not_vouch_for_it(lab: Lab) -> None:
    first = data_identity(lab)
    (lab.data / "a.txt").write_text("a")
    second = data_identity(lab)
    assert first != second != "untracked" and not is_versioned(second)
    assert circumstances(lab, "asr").data_version == second
    assert is_versioned("0a4cd3ae8b0a4cd3ae8b0a4cd3ae8b0a.dir") and not is_versioned("0a4cd3ae8b0a4cd3ae8b0a4c.dir+modified")


def test_only_rules_about_the_model_alone_decide_on_a_candidate(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.corpus([{"id": "a", "text": "one two three four"}, {"id": "b", "text": "five six"}])
    rules = [
        {"name": "usable", "kind": "absolute", "metric": "wer", "max": 0.2, "judge": "value", "min_n": 1},
        {"name": "no worse", "kind": "non_inferiority", "metric": "wer", "margin": 0.02},
    ]
    policy = Policy.model_validate({"resamples": 200, "rules": rules})
    for texts, failing, verdict in (
        ({}, (), "pass"),
        ({"a": "nothing at all of it"}, (), "fail"),
        ({}, ("b",), "inconclusive"),
    ):
        prepared = desk.prepare()

        shard = desk.heard(prepared, texts, failing)
        gathered = gather(prepared, [shard])
        evaluated = Evaluated(desk.conclude(prepared, [shard]), score(gathered), prepared, gathered)
        decision = judge_alone(evaluated, policy)
        assert decision.verdict == verdict, decision.rules
        assert [rule.rule for rule in decision.rules] == ["nothing left out", "usable"]
        assert decision.policy_digest == policy.digest


def test_the_form_in_prefects_interface_is_typed(lab: Lab) -> None:
    from flows.release import decision_deployment

    made = decision_deployment(lab)
    deployment = asyncio.run(made) if asyncio.iscoroutine(made) else made
    schema = deployment._parameter_openapi_schema.model_dump()
    form = schema["definitions"]["Decision"]
    assert set(form["properties"]) == set(form["required"]) == {"request", "decision", "by", "reason"}
    assert form["properties"]["decision"]["enum"] == ["approve", "reject"]
