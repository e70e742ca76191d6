"""What ends, pauses or kills a command does so to its fork, and the other way round."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.conftest import Project
from tests.pipelines.toy_engine import notes
from tests.standby.conftest import forks, stand_by, wait_until

EXIT_ERROR, EXIT_INTERRUPTED = 2, 130

Started = tuple[subprocess.Popen[str], psutil.Process]


@pytest.fixture
def begun(project: Project) -> Iterator[Started]:
    """A long evaluation whose workers have just been started, and its fork."""
    assert not forks(project)
    process = subprocess.Popen(
        project.command("evaluate", "slow", "--corpus", "many"),
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: any(len(fork.children()) > 1 for fork in forks(project)) or process.poll() is not None)
    (fork,) = forks(project)
    yield process, fork
    process.kill()
    process.communicate()
    wait_until(lambda: not forks(project))


@pytest.fixture
def started(begun: Started, slow: Path) -> Started:
    """A long evaluation that infers, and its fork."""
    before = len(notes(slow, "call"))
    wait_until(lambda: len(notes(slow, "call")) > before)
    return begun


def all_gone(family: list[psutil.Process]) -> bool:
    return not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_a_command_ends_its_fork(started: Started, number: signal.Signals) -> None:
    process, fork = started
    family = [fork, *fork.children(recursive=True)]
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, said
    assert "What was finished is kept" in said and "Traceback" not in said
    wait_until(lambda: all_gone(family))


@pytest.mark.parametrize("when", ["begun", "started"])
def test_a_killed_command_leaves_nothing_behind(request: pytest.FixtureRequest, when: str) -> None:
    """Also where its workers have not come to look after their parent yet."""
    process, fork = request.getfixturevalue(when)
    family = [fork, *fork.children(recursive=True)]
    process.kill()
    wait_until(lambda: all_gone(family))


def test_a_killed_fork_is_told_as_shells_do(started: Started) -> None:
    process, fork = started
    fork.kill()
    assert process.wait(timeout=60) == 128 + signal.SIGKILL


def test_a_paused_command_pauses_its_workers_and_goes_on(started: Started) -> None:
    process, fork = started
    workers = fork.children(recursive=True)
    process.send_signal(signal.SIGTSTP)
    wait_until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in (fork, *workers)))
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: all(one.status() != psutil.STATUS_STOPPED for one in (fork, *workers)))
    assert process.poll() is None


def test_down_ends_a_running_command_and_its_code_is_told(project: Project, started: Started) -> None:
    process, _ = started
    answer = project.run("down", "--json")
    assert answer.json()["stopped"] == ["standby"]
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED and "What was finished is kept" in said and "cannot say" not in said
    stand_by(project)


def test_where_nobody_can_say_how_it_went_that_is_an_error_and_no_verdict(project: Project, started: Started) -> None:
    process, fork = started
    fork.parent().kill()
    fork.kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_ERROR and "cannot say how this went" in said
    stand_by(project)
