"""Real processes that act on one lab: run as a script, which forks them once its imports are done.

A fork of the test's own process would take its threads' locks along; this one has no threads and has opened nothing yet.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

# For the children: importing it takes seconds.
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import psycopg2  # noqa: F401

from pipelines.lab import Lab
from registry.evidence import approve_on_evidence
from registry.history import At, open_history, unobserved
from registry.identity import RefusedError, Rules
from registry.lifecycle import trusted
from registry.stages import read_state
from serving.release import Released, release, roll_back
from tests.registry.desk import BOB, VERSIONS, Doubles, ask, person

TRACED = tuple(str(Path(__file__).parents[2] / folder) for folder in ("registry/", "serving/release.py"))
ROUNDS = 3


def fork(work: Callable[[], None]) -> int:
    """Run something in a process of its own; gives its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        sys.stdout.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


def status_of(pid: int) -> int:
    """Wait for a child: its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def say(**told: Any) -> None:
    """Print one line, whole, whoever else prints."""
    os.write(1, (json.dumps(told) + "\n").encode())


# 20 processes


def member(lab: Lab, number: int, gate: int) -> None:
    """Promote or roll back, over and over; what is refused is told."""
    os.read(gate, 1)  # all start at once: the end of the file, when the parent closes its side
    choose = random.Random(number)
    steps = Doubles(lab.home_folder / "packages" / str(number))
    for turn in range(ROUNDS):
        try:
            if choose.random() < 0.6:
                say(**promote_something(lab, number, choose, steps).model_dump(mode="json"))
            else:
                reason = f"{number} does not like it, {turn}"
                done = roll_back(lab, open_history(lab), "asr", person(f"p{number}"), reason, Rules(), steps)
                say(**done.model_dump(mode="json"))
        except RefusedError as refusal:
            say(refused=refusal.message)


def promote_something(lab: Lab, number: int, choose: random.Random, steps: Doubles) -> Released:
    """Ask for a version in place of what is in production, approve as somebody else, release."""
    now = read_state(lab).of("asr").production
    what = choose.choice([version for version in VERSIONS.values() if version != now])
    request = ask(lab, what, now, person(f"p{number}"))
    approve_on_evidence(lab, request.id, person(f"boss of p{number}"), "go")
    return release(lab, open_history(lab), request.id, person(f"boss of p{number}"), steps)


def crowd(lab: Lab, count: int) -> None:
    """Let so many processes act at once."""
    gate, start = os.pipe()
    pids = []
    for number in range(count):

        def work(number: int = number) -> None:
            os.close(start)
            member(lab, number, gate)

        pids.append(fork(work))
    os.close(start)
    codes = [status_of(pid) for pid in pids]
    assert codes == [0] * count, codes


# SIGKILL


def run_release(lab: Lab, at: At = unobserved) -> None:
    """What `modellab approve` does, on the request that is there."""
    (request,) = read_state(lab).requests.values()
    approve_on_evidence(lab, request.id, BOB, "looks good")
    release(lab, open_history(lab, at), request.id, BOB, Doubles(lab.home_folder / "packages"))


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_step(lab: Lab, number: int) -> None:
    """Release, and die at the so manyth step."""
    seen = 0

    def at(step: str) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            kill_self()

    run_release(lab, at)


def killed_at_line(lab: Lab, number: int | None) -> None:
    """Release, and die before the so manyth line of the lifecycle's own code is run; None counts them."""
    seen = 0

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == number:
                kill_self()
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code.co_filename.startswith(TRACED) else None

    sys.settrace(on_call)
    run_release(lab)
    sys.settrace(None)
    if number is None:
        say(lines=seen)


def steps_of(lab: Lab) -> None:
    """Release, and tell the steps."""
    steps: list[str] = []
    run_release(lab, steps.append)
    say(steps=steps)


def check(lab: Lab, *, finished: bool) -> None:
    """Say what is so; what must always be so is asserted."""
    import mlflow

    state = trusted(open_history(lab).events())
    production = state.of("asr").production
    assert production in (VERSIONS["old"], VERSIONS["new"])
    assert list(state.of("asr").stages.values()).count("production") == 1
    versions = mlflow.MlflowClient(lab.tracking_uri)
    alias = versions.get_model_version_by_alias("modellab-asr", "production")
    tagged = [
        v.version
        for v in versions.search_model_versions("name='modellab-asr'")
        if v.tags.get("modellab.stage") == "production"
    ]
    if finished:
        assert production == VERSIONS["new"]
        assert alias.tags["modellab.fingerprint"] == production.version
        assert tagged == [alias.version]
        kinds = [event.kind for event in open_history(lab).events()]
        assert (kinds.count("approval"), kinds.count("release")) == (1, 1), kinds
        assert [path.name for path in (lab.home_folder / "packages").iterdir()] == [production.version]
    say(production=production.model)


def run_again(lab: Lab) -> None:
    """Look at what a killed release left, run it again, and look at what it made."""
    check(lab, finished=False)
    run_release(lab)
    check(lab, finished=True)


def main() -> None:
    what, labs, argument = sys.argv[1], [Lab.model_validate(lab) for lab in json.loads(sys.stdin.read())], sys.argv[2:]
    if what == "crowd":
        crowd(labs[0], int(argument[0]))
    elif what == "count":
        assert status_of(fork(lambda: steps_of(labs[0]))) == 0
        assert status_of(fork(lambda: killed_at_line(labs[1], None))) == 0
    else:
        killed = {"step": killed_at_step, "line": killed_at_line}
        for lab, point in zip(labs, argument, strict=True):
            kind, _, number = point.partition(":")

            def work(lab: Lab = lab, kind: str = kind, number: str = number) -> None:
                killed[kind](lab, int(number))

            say(point=point, ended=status_of(fork(work)))
            assert status_of(fork(lambda lab=lab: run_again(lab))) == 0, point


if __name__ == "__main__":
    main()
