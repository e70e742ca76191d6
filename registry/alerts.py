"""Alerts: production got worse, and somebody must know. A webhook gets a JSON body; without one the log has it.

An alert is written into the home before it is sent, so that a kill or a dead receiver loses none: what was not delivered is
tried again in the next run. The same finding raises one alert, not one a night.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from models.backoff import RETRIED, SYSTEM_CLOCK, Clock, pause_before, retry_after_s
from models.errors import LabError, StateError
from models.types import Record, Task
from pipelines.home import Home, write_atomically
from pipelines.lab import Lab
from pipelines.regression import Regression, now_text
from registry.events import Entry
from registry.history import record

WEBHOOK_VARIABLE = "MODELLAB_ALERT_WEBHOOK"
"""Its address. An environment variable and no line of ``params.yaml``, for such addresses hold a secret."""
ATTEMPTS = 5
TIMEOUT_S = 15.0
FAILURE_KIND = "regression"
BLIND_KIND = "production-not-evaluated"

log = logging.getLogger("modellab.alerts")


class AlertRule(Record):
    """A rule that failed."""

    rule: str
    slice: str
    metric: str
    reason: str


class Alert(Record):
    """The JSON body of an alert."""

    kind: str
    """``regression``: production got worse or breaks a rule; ``production-not-evaluated``: nobody can tell."""
    id: str
    """The same for the same finding; a receiver can use it to tell repetitions."""
    at: str
    """When it was found, ISO 8601, UTC."""
    text: str
    """A sentence or two; chat services show this field."""
    schedule: str
    """The run that found it."""
    task: Task
    """What the model does."""
    model: str
    """The card's name."""
    fingerprint: str
    """Digest of the model's fingerprint."""
    data_version: str
    """DVC's hash of the data."""
    run_id: str
    """The evaluation."""
    known_good_run_id: str | None
    """The evaluation that it was held against."""
    rules: tuple[AlertRule, ...]
    """What failed."""
    report: str
    """Path of the report."""


class Kept(Record):
    """An alert in the home, and what became of it."""

    alert: Alert
    recorded: bool = False
    """Whether the history has it."""
    delivered_at: str | None = None
    """When the webhook took it; None while it has not."""
    attempts: int = Field(default=0, ge=0)
    """Runs that tried."""


def alert_of(found: Regression, schedule: str, at: str) -> Alert | None:
    """Say whether a finding is worth an alert: production got worse, or could not be evaluated."""
    blind = found.verdict == "inconclusive" and not found.run_id
    if found.role != "production" or not (found.verdict == "fail" or blind):
        return None
    kind = BLIND_KIND if blind else FAILURE_KIND
    rules = tuple(AlertRule(rule=r.rule, slice=r.slice, metric=r.metric, reason=r.reason) for r in found.failing)
    subject = [kind, found.task, found.model, found.fingerprint, found.data_version, [(r.rule, r.slice) for r in rules]]
    if blind:
        subject.append(found.reason)
    elif found.known_good is not None:
        subject.append(found.known_good.run_id)  # once mended, the same would be news again
    reasons = " ".join(f"{rule.rule}, {rule.slice}: {rule.reason}" for rule in rules)
    return Alert(
        kind=kind,
        id=hashlib.sha256(json.dumps(subject).encode("utf-8")).hexdigest()[:16],
        at=at,
        text=f"{found.model}, in production for {found.task}: {found.reason} {reasons}".strip(),
        schedule=schedule,
        task=found.task,
        model=found.model,
        fingerprint=found.fingerprint,
        data_version=found.data_version,
        run_id=found.run_id,
        known_good_run_id=found.known_good.run_id if found.known_good else None,
        rules=rules,
        report=found.report,
    )


def entry_of(alert: Alert) -> Entry:
    """The line that the history gets."""
    return Entry(
        kind=alert.kind,
        task=alert.task,
        model=alert.model,
        version=alert.fingerprint,
        actor=f"schedule {alert.schedule}",
        origin="schedule",
        reason=alert.text,
        details={
            "alert": alert.id,
            "evaluation": alert.run_id,
            "known_good": alert.known_good_run_id,
            "data_version": alert.data_version,
            "rules": [rule.model_dump() for rule in alert.rules],
        },
    )


def webhook_address() -> str | None:
    """The address that alerts go to; None where there is none.

    Raises:
        StateError: It is no address of a web server.
    """
    address = os.environ.get(WEBHOOK_VARIABLE, "").strip()
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StateError(f"{WEBHOOK_VARIABLE} is no http(s) address.", "Write it as https://host/path.")
    return address


def raise_alerts(
    lab: Lab,
    found: Sequence[Regression],
    schedule: str,
    *,
    warn: Callable[[str], None] = log.error,
    clock: Clock = SYSTEM_CLOCK,
    write: Callable[[Lab, Entry], object] = record,
) -> list[Kept]:
    """Write down, record and send what production's findings are worth; also what an earlier run could not deliver.

    Args:
        lab: Its home keeps the alerts, its history gets a line for each.
        found: Of one run.
        schedule: The run.
        warn: Gets every alert that goes to no webhook, and every failure to deliver.
        clock: Patience between attempts.
        write: Writes into the history.

    Returns:
        Every alert that this run dealt with, as it is kept now.
    """
    alerts = [alert for one in found if (alert := alert_of(one, schedule, now_text())) is not None]
    for alert in alerts:
        path = _path(lab.home, alert)
        if not path.is_file():
            _keep(path, Kept(alert=alert))
    address = webhook_address()
    dealt = []
    for path in sorted((lab.home.schedules / "alerts").glob("*.json")):
        kept = _read(path)
        if kept is None or (kept.recorded and kept.delivered_at is not None):
            continue
        if not kept.recorded:
            try:
                write(lab, entry_of(kept.alert))
            except LabError as error:  # the alert goes out all the same, and the next run writes it down
                warn(f"The history could not be written: {error}")
            else:
                kept = kept.model_copy(update={"recorded": True})
                _keep(path, kept)
        if address is None:
            if kept.alert.id in {alert.id for alert in alerts}:
                warn(kept.alert.text)
        elif kept.delivered_at is None:
            kept = _deliver(kept, address, warn, clock)
            _keep(path, kept)
        dealt.append(kept)
    return dealt


def _deliver(kept: Kept, address: str, warn: Callable[[str], None], clock: Clock) -> Kept:
    tried = kept.model_copy(update={"attempts": kept.attempts + 1})
    fault = send(kept.alert.model_dump(mode="json"), address, clock)
    if fault is None:
        return tried.model_copy(update={"delivered_at": now_text()})
    # The address is a secret: only its host is told.
    host = urlsplit(address).hostname
    warn(f"{kept.alert.text} (The webhook at {host} did not take this: {fault}; the next run tries again.)")
    return tried


def send(body: object, address: str, clock: Clock = SYSTEM_CLOCK) -> str | None:
    """Post a JSON body, patiently.

    Args:
        body: What JSON holds.
        address: Where to.
        clock: Waits between attempts (`models.backoff`).

    Returns:
        None once it was taken (2xx), else the last fault. Answers that would be the same again are not asked for again.
    """
    import httpx2

    fault = ""
    with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
        for attempt in range(1, ATTEMPTS + 1):
            asked = None
            try:
                answer = client.post(address, json=body)
            except httpx2.HTTPError as error:
                fault = f"{type(error).__name__}"
            else:
                if answer.is_success:
                    return None
                fault = f"it answered {answer.status_code}"
                if answer.status_code not in RETRIED:
                    return fault
                asked = retry_after_s(answer.headers.get("Retry-After"))
            if attempt < ATTEMPTS:
                clock.pause(pause_before(attempt, asked))
    return f"{fault}, {ATTEMPTS} times"


def _path(home: Home, alert: Alert) -> Path:
    day = datetime.fromisoformat(alert.at).strftime("%Y-%m-%d")
    known = sorted((home.schedules / "alerts").glob(f"*-{alert.id}.json"))
    return known[0] if known else home.schedules / "alerts" / f"{day}-{alert.id}.json"


def _keep(path: Path, kept: Kept) -> None:
    write_atomically(path, kept.model_dump_json(indent=1))


def _read(path: Path) -> Kept | None:
    try:
        return Kept.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
