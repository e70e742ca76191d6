"""Alerts over a real web server: patient with one that fails, silent about what was told, lost to nobody."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from models.backoff import Clock
from models.errors import StateError
from pipelines.decision import RuleResult, Verdict
from pipelines.lab import Lab, Layout
from pipelines.regression import KnownGood, Regression
from registry.alerts import ATTEMPTS, WEBHOOK_VARIABLE, alert_of, raise_alerts, webhook_address
from registry.history import open_history


@dataclass
class Receiver:
    """A web server that answers what it is told to, then 204."""

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            state.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            code, headers = state.answers.pop(0) if state.answers else (204, {})
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}/hooks/secret"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(project=tmp_path, home_folder=tmp_path / "home", layout=Layout(workers=1, threads=1))
    lab.home.open()
    return lab


def found(verdict: Verdict = "fail", role: str = "production", known: str = "run0", **more: Any) -> Regression:
    failed = RuleResult(
        rule="no worse overall", kind="non_inferiority", metric="wer", slice="all", verdict=verdict, candidate=0.2,
        baseline=0.1, delta=0.1, ci_low=0.05, ci_high=0.15, margin=0.02, n=50, reason="+10 points: worse.",
    )  # fmt: skip
    good = KnownGood(run_id=known, fingerprint="f", corpora={}, data_version="d", data_commit=None, at="2026-11-24")
    values = {
        "task": "asr", "model": "whisper-base", "role": role, "verdict": verdict, "reason": "It got worse.",
        "rules": (failed,), "data_version": "d1.dir", "run_id": "run1", "fingerprint": "f1", "known_good": good, **more,
    }  # fmt: skip
    return Regression.model_validate(values)


class Waits(list[float]):
    """Notes how long it was told to wait, and does not."""

    @property
    def clock(self) -> Clock:
        return Clock(pause=self.append)


def events(lab: Lab) -> list[Any]:
    return [event for event in open_history(lab).events() if event.kind in ("regression", "production-not-evaluated")]


def test_a_receiver_that_fails_twice_gets_it_the_third_time(
    lab: Lab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, receiver.address)
    receiver.answers = [(500, {}), (503, {"Retry-After": "7"})]
    waits, told = Waits(), []
    (kept,) = raise_alerts(lab, [found()], "nightly", warn=told.append, clock=waits.clock)
    assert len(receiver.bodies) == 3 and receiver.bodies[0] == receiver.bodies[2]
    assert len(waits) == 2 and 0.5 <= waits[0] <= 1 and waits[1] == 7
    body = receiver.bodies[0]
    assert (body["kind"], body["model"], body["task"], body["schedule"]) == ("regression", "whisper-base", "asr", "nightly")
    assert body["rules"] == [{"rule": "no worse overall", "slice": "all", "metric": "wer", "reason": "+10 points: worse."}]
    assert "in production for asr" in body["text"] and body["known_good_run_id"] == "run0"
    assert kept.delivered_at is not None and told == []
    (event,) = events(lab)
    assert (event.actor, event.origin, event.model, event.version) == ("schedule nightly", "schedule", "whisper-base", "f1")
    assert event.details["alert"] == body["id"] and event.from_stage == event.to_stage == ""


def test_the_same_finding_is_told_once_and_news_again_after_it_was_mended(
    lab: Lab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, receiver.address)
    for _ in range(3):
        raise_alerts(lab, [found(run_id="another run")], "nightly")
    assert len(receiver.bodies) == 1 == len(events(lab))
    raise_alerts(lab, [found(known="run9")], "nightly")
    assert len(receiver.bodies) == 2 == len(events(lab))


def test_what_was_not_delivered_is_tried_again_in_the_next_run(
    lab: Lab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, receiver.address)
    receiver.answers = [(502, {})] * ATTEMPTS
    told: list[str] = []
    (kept,) = raise_alerts(lab, [found()], "nightly", warn=told.append, clock=Waits().clock)
    assert kept.delivered_at is None and len(receiver.bodies) == ATTEMPTS
    assert "it answered 502, 5 times" in told[0] and "secret" not in told[0]
    (kept,) = raise_alerts(lab, [], "nightly", clock=Waits().clock)
    assert kept.delivered_at is not None and kept.attempts == 2 and len(receiver.bodies) == ATTEMPTS + 1
    assert len(events(lab)) == 1
    assert raise_alerts(lab, [], "nightly") == []


def test_a_refusal_is_not_repeated_and_a_redirect_not_followed(
    lab: Lab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, receiver.address)
    receiver.answers = [(404, {}), (302, {"Location": "http://127.0.0.1:9/elsewhere"})]
    for expected in ("it answered 404;", "it answered 302;"):
        told: list[str] = []
        raise_alerts(lab, [found()], "nightly", warn=told.append, clock=Waits().clock)
        assert expected in told[0]
    assert len(receiver.bodies) == 2


def test_nobody_there_loses_nothing(lab: Lab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, "http://127.0.0.1:9/nobody")
    waits = Waits()
    raise_alerts(lab, [found()], "nightly", warn=lambda line: None, clock=waits.clock)
    assert len(waits) == ATTEMPTS - 1
    monkeypatch.setenv(WEBHOOK_VARIABLE, receiver.address)
    raise_alerts(lab, [], "nightly")
    assert len(receiver.bodies) == 1


def test_without_a_webhook_the_log_and_the_history_have_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
    with caplog.at_level(logging.ERROR):
        raise_alerts(lab, [found()], "nightly")
    assert "in production for asr: It got worse." in caplog.text and len(events(lab)) == 1


def test_a_history_that_cannot_be_written_holds_up_no_alert(
    lab: Lab, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, receiver.address)

    def broken(lab: Lab, entry: Any) -> None:
        raise StateError("The database is gone.", "Bring it back.")

    told: list[str] = []
    (kept,) = raise_alerts(lab, [found()], "nightly", warn=told.append, write=broken)
    assert kept.delivered_at is not None and not kept.recorded and "The database is gone." in told[0]
    raise_alerts(lab, [], "nightly")
    assert len(events(lab)) == 1 and len(receiver.bodies) == 1, "the next run writes it down, and sends it no second time"


@pytest.mark.parametrize(
    ("finding", "kind"),
    [
        (found(), "regression"),
        (found("pass"), None),
        (found("inconclusive"), None),
        (found(role="candidate"), None),
        (found(role="asked for"), None),
        (found("inconclusive", run_id="", known_good=None, rules=()), "production-not-evaluated"),
    ],
)
def test_only_production_that_got_worse_or_cannot_be_seen_is_worth_an_alert(finding: Regression, kind: str | None) -> None:
    alert = alert_of(finding, "nightly", "2026-11-25T02:31:00+00:00")
    assert (alert.kind if alert else None) == kind


@pytest.mark.parametrize("address", ["ftp://host/x", "host/x", "file:///etc/passwd", "http://"])
def test_a_wrong_address_is_said_without_being_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, address)
    with pytest.raises(StateError, match="is no http") as error:
        webhook_address()
    assert address not in str(error.value)
