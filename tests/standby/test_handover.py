"""Commands in forks of the standby process give what they give by themselves, and run by themselves where they must."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from modellab import handover, standby
from pipelines.home import Home, write_atomically
from tests.conftest import Answer, Project
from tests.pipelines.toy_engine import notes, toy_card
from tests.standby.conftest import forks, wait_until

EXIT_USAGE = 2


def work_of_forks(waiting: psutil.Process) -> float:
    """Processor seconds of all forks that have ended: they grow with each command that was handed over."""
    times = waiting.cpu_times()
    return float(times.children_user + times.children_system)


def evaluate(project: Project, model: str = "toy", corpus: str = "beeps", **variables: str) -> Answer:
    return project.run("evaluate", model, "--corpus", corpus, "--json", **variables)


def test_a_command_gives_what_it_gives_by_itself(project: Project, waiting: psutil.Process) -> None:
    forked = evaluate(project)
    assert forked.code == 0, forked.err
    worked = work_of_forks(waiting)
    assert worked > 0, "it was handed over"
    alone = evaluate(project, MODELLAB_DEBUG="0", MODELLAB_HOME=str(project.root / "other"))
    assert alone.code == 0 and work_of_forks(waiting) == worked, "and this one was not"
    assert settled(forked.json()) == settled(alone.json())
    assert "3 to do" in forked.err, "progress goes to the standard error of whoever typed it"


def settled(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What of an evaluation does not depend on its run, its home or the machine's speed."""
    of_speed = {"rtf", "latency_p50", "latency_p95", "load_time", "peak_memory"}
    metrics = {name: value for name, value in evaluation["metrics"].items() if name not in of_speed}
    assert metrics
    return {"metrics": metrics, **{key: evaluation[key] for key in ("model", "fingerprint", "slices", "environment")}}


def test_it_runs_where_and_as_it_was_typed(project: Project, waiting: psutil.Process, tmp_path: Path) -> None:
    """Its folder, and variables that are read when it runs: here the cards, of which only this command knows."""
    worked = work_of_forks(waiting)
    card = toy_card(tmp_path / "private", name="private")
    write_atomically(tmp_path / "cards" / "private.yaml", yaml.safe_dump(card.model_dump(mode="json", exclude_none=True)))
    command = project.command("evaluate", "private", "--corpus", "beeps", "--out", "results")
    environment = {**project.environment, "MODELLAB_CARDS": str(tmp_path / "cards")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results").iterdir()) and "private on beeps" in done.stdout
    assert {note["pid"] for note in notes(tmp_path / "private", "load")} and work_of_forks(waiting) > worked


def test_wrong_input_is_answered_as_ever(project: Project, waiting: psutil.Process) -> None:
    worked = work_of_forks(waiting)
    answer = evaluate(project, "toi")
    assert answer.code == EXIT_USAGE and "Did you mean 'toy'?" in answer.err and answer.json()["error"]
    typo = project.run("evaluate", "toy", "--corpsu", "beeps")
    assert typo.code == EXIT_USAGE and "--corpsu" in typo.err and "modellab evaluate" in typo.err
    assert "standby" not in answer.err + typo.err, "nobody need know where it ran"
    assert work_of_forks(waiting) > worked


def fewer_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))


@pytest.mark.parametrize(
    "different",
    [
        pytest.param({"variables": {"PREFECT_LOGGING_LEVEL": "ERROR"}}, id="variable"),
        pytest.param({"umask": 0o077}, id="umask"),
        pytest.param({"preexec_fn": partial(os.nice, 1)}, id="priority"),
        pytest.param({"preexec_fn": fewer_files}, id="limit"),
    ],
)
def test_a_command_under_other_circumstances_runs_by_itself(
    project: Project, waiting: psutil.Process, different: dict[str, Any]
) -> None:
    worked = work_of_forks(waiting)
    settings = {"variables": {}, **different}
    done = subprocess.run(
        project.command("evaluate", "toy", "--corpus", "beeps"),
        cwd=project.root,
        env={**project.environment, **settings.pop("variables")},
        capture_output=True,
        text=True,
        timeout=300,
        **settings,
    )
    assert done.returncode == 0, done.stderr
    assert work_of_forks(waiting) == worked


# What the process that waits does


def listens(project: Project) -> bool:
    connection = handover.connect(Home(project.home))
    if connection is not None:
        connection.close()
    return connection is not None


def socket_file(project: Project) -> Path:
    return project.home / "servers" / handover.SOCKET


def test_nobody_else_can_hand_it_a_command(project: Project, waiting: psutil.Process) -> None:
    mode = socket_file(project).stat().st_mode
    assert stat.S_ISSOCK(mode) and not mode & (stat.S_IRWXG | stat.S_IRWXO)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\n", b"\n{}\n", b"\n[1]\n", b'\n{"circumstances": {}}\n'])
def test_nonsense_does_not_end_it(project: Project, waiting: psutil.Process, said: bytes) -> None:
    connection = handover.connect(Home(project.home))
    assert connection is not None
    with connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(100)
    assert waiting.is_running() and not forks(project)


def test_it_starts_anew_when_prefect_has_moved(project: Project, waiting: psutil.Process) -> None:
    """The same as when code was changed; the command that finds it so runs by itself, and the next in a fork again."""
    record = {"name": "prefect", "url": project.environment["PREFECT_API_URL"].removesuffix("/api"), "pid": os.getpid()}
    write_atomically(
        project.home / "servers" / "prefect.json", json.dumps({**record, "started": psutil.Process().create_time()})
    )
    old = socket_file(project).stat().st_ctime_ns
    try:
        assert evaluate(project).code == 0
        wait_until(lambda: listens(project) and socket_file(project).stat().st_ctime_ns > old)
        worked = work_of_forks(waiting)
        assert evaluate(project).code == 0 and work_of_forks(waiting) > worked
    finally:
        (project.home / "servers" / "prefect.json").unlink()


def test_changed_and_missing_code_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "fresh.py"
    module.write_text("one = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import fresh  # type: ignore[import-not-found]

    monkeypatch.setitem(sys.modules, "pipelines.fresh", fresh)
    before = standby.stamps_of_code()
    assert standby.stamps_of_code() == before and str(module) in before
    module.write_text("one = 1; two = 2\n")
    changed = standby.stamps_of_code()
    module.unlink()
    assert before != changed != standby.stamps_of_code() != before


def test_it_imports_what_an_evaluation_needs_and_nothing_that_a_fork_would_break(project: Project) -> None:
    """Modules that an evaluation still imports would be imported again in each; OpenMP's threads do not survive a fork."""
    code = f"""
import sys, threading
from modellab import handover, standby
from modellab.quiet import quiet_dependencies
home = handover.find_home_here()
quiet_dependencies(home.root)
standby.import_all(home)
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
before = set(sys.modules)
assert not before & {{"torch", "ctranslate2", "sklearn", "numba", "faster_whisper", "whisper"}}
sys.argv = ["modellab", "evaluate", "toy", "--corpus", "beeps", "--limit", "2", "--json"]
import modellab.cli
try:
    modellab.cli.main()
except SystemExit as end:
    assert not end.code
late = sorted(name for name in set(sys.modules) - before if not name.startswith({standby.OURS!r}))
print("LATE", *late)
"""
    done = subprocess.run([sys.executable, "-c", code], env=project.environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    late = done.stdout.splitlines()[-1].split()[1:]
    heavy = {"prefect", "mlflow", "sqlalchemy", "scipy", "pandas", "pyarrow", "dvc", "dulwich", "jinja2", "ruamel"}
    assert heavy.isdisjoint(late), "none of them is imported late as a whole"
    assert len(late) < 100, " ".join(late)  # a plain evaluation imports thousands
