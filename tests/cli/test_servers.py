"""`modellab up`, `status` and `down` for real: both servers answer, twice changes nothing, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from modellab import servers
from modellab.servers import ServerRecord, ServerSpec
from models.errors import StateError
from pipelines.home import Home, write_atomically
from tests.conftest import Project, free_port
from tests.pipelines.toy_engine import toy_card, write_corpus

EXIT_USAGE = 2
NAMES = ["prefect", "mlflow", "standby"]
WITH_PAGES = NAMES[:2]


# The real servers


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, repository: Path, ports: tuple[int, int]) -> Iterator[Project]:
    """A project that knows no server but its own."""
    root = tmp_path_factory.mktemp("served")
    shutil.copyfile(repository / "params.yaml", root / "params.yaml")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MODELLAB_", "PREFECT_", "MLFLOW_"))}
    ours = {
        "MODELLAB_PROJECT": str(root),
        "MODELLAB_PREFECT_PORT": str(ports[0]),
        "MODELLAB_MLFLOW_PORT": str(ports[1]),
        "PYTHONPATH": str(repository),
    }
    project = Project(root, {**kept, **ours})
    yield project
    project.run("down")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert [row["name"] for row in rows] == NAMES
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def up(project: Project) -> dict[str, dict[str, Any]]:
    assert not any(row["running"] for row in project.run("status", "--json").json())
    answer = project.run("up", "--json")
    assert answer.code == 0, answer.err
    return by_name(answer.json())


@pytest.mark.real
def test_both_servers_run_on_the_ports_that_were_asked_for_and_answer(
    up: dict[str, dict[str, Any]], ports: tuple[int, int]
) -> None:
    for name, port, health in zip(WITH_PAGES, ports, ("/api/health", "/health"), strict=True):
        assert up[name]["running"] and up[name]["url"] == f"http://127.0.0.1:{port}"
        assert psutil.pid_exists(up[name]["pid"])
        assert answers(up[name]["url"] + health)
        assert answers(up[name]["url"]), "the user interface"


@pytest.mark.real
def test_prefects_pages_ask_the_server_that_sent_them(up: dict[str, dict[str, Any]]) -> None:
    """Left alone they would ask port 4200, and show nothing but an error on any other."""
    with urllib.request.urlopen(f"{up['prefect']['url']}/ui-settings", timeout=30) as answer:
        told = json.load(answer)
    assert told["api_url"] == f"{up['prefect']['url']}/api"


@pytest.mark.real
def test_their_state_lies_in_the_home(up: dict[str, dict[str, Any]], project: Project) -> None:
    assert (project.home / "mlflow.db").is_file()
    assert list((project.home / "prefect").glob("*.db"))
    assert {path.name for path in (project.home / "servers").glob("*.json")} == {f"{name}.json" for name in NAMES}
    assert {path.name for path in (project.home / "servers").glob("*.log")} == {f"{name}.log" for name in NAMES}


@pytest.mark.real
def test_mlflow_has_no_processes_for_jobs_that_nobody_here_runs(up: dict[str, dict[str, Any]]) -> None:
    (worker,) = psutil.Process(up["mlflow"]["pid"]).children(recursive=True)
    assert worker.is_running()


@pytest.mark.real
def test_they_listen_on_this_machine_alone(up: dict[str, dict[str, Any]], ports: tuple[int, int]) -> None:
    family = [process for row in up.values() for process in with_children(row["pid"])]
    listening = {c.laddr for process in family for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert set(ports) <= {address.port for address in listening}
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.real
def test_an_evaluation_logs_to_a_server_and_prints_one_document(
    up: dict[str, dict[str, Any]], project: Project, tmp_path: Path
) -> None:
    """MLflow's client of a server would print the run's address into it."""
    card = toy_card(tmp_path)
    cards = tmp_path / "cards"
    write_atomically(cards / "toy.yaml", yaml.safe_dump(card.model_dump(mode="json", exclude_none=True)))
    write_corpus(project.root / "data" / "beeps", [{"language": "en"}])
    variables = {"MODELLAB_CARDS": str(cards), "MODELLAB_MLFLOW_URI": up["mlflow"]["url"]}
    answer = project.run("evaluate", "toy", "--corpus", "beeps", "--json", **variables)
    assert answer.code == 0, answer.err
    run = f"{up['mlflow']['url']}/api/2.0/mlflow/runs/get?run_id={answer.json()['run_id']}"
    with urllib.request.urlopen(run, timeout=30) as told:
        assert json.load(told)["run"]["info"]["status"] == "FINISHED"


@pytest.mark.real
def test_a_second_up_starts_nothing_and_status_says_the_same(up: dict[str, dict[str, Any]], project: Project) -> None:
    started = time.monotonic()
    again = project.run("up", "--json")
    assert again.code == 0 and by_name(again.json()) == up
    assert time.monotonic() - started < 15
    assert by_name(project.run("status", "--json").json()) == up
    told = project.run("status").out
    assert all(f"running at {up[name]['url']} (process {up[name]['pid']})" in told for name in WITH_PAGES)
    assert f"standby  running (process {up['standby']['pid']})" in told


@pytest.mark.real
def test_a_second_project_is_told_that_the_ports_are_taken(
    up: dict[str, dict[str, Any]], project: Project, ports: tuple[int, int], tmp_path: Path
) -> None:
    answer = project.run("up", MODELLAB_HOME=str(tmp_path / "home"))
    assert answer.code == EXIT_USAGE
    assert f"Port {ports[0]} for prefect is taken" in answer.err and "MODELLAB_PREFECT_PORT" in answer.err
    assert not list((tmp_path / "home" / "servers").glob("*.json"))
    assert answers(up["prefect"]["url"] + "/api/health"), "and the first project's servers go on"


@pytest.mark.real
def test_down_leaves_no_process_and_free_ports(
    up: dict[str, dict[str, Any]], project: Project, ports: tuple[int, int]
) -> None:
    family = [process for row in up.values() for process in with_children(row["pid"])]
    assert len(family) > 2, "MLflow has a worker of its own"
    answer = project.run("down", "--json")
    assert answer.code == 0 and sorted(answer.json()["stopped"]) == sorted(NAMES)
    psutil.wait_procs(family, timeout=5)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(project.home) in " ".join(p.info["cmdline"] or [])]
    assert not any(answers(up[name]["url"]) for name in WITH_PAGES)
    assert not any(row["running"] for row in project.run("status", "--json").json())
    assert not list((project.home / "servers").glob("*.json"))
    assert "Nothing was running" in project.run("down").out


def with_children(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


# Records of what runs, with small programs in the servers' place


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").open()
    home.servers.mkdir()
    return home


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """A process that is nobody's server."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


def write_record(home: Home, pid: int, started: float, name: str = "prefect") -> Path:
    path = home.servers / f"{name}.json"
    write_atomically(path, ServerRecord(name=name, url="http://127.0.0.1:1", pid=pid, started=started).model_dump_json())
    return path


def make_spec(code: str, port: int, name: str = "prefect") -> ServerSpec:
    url = f"http://127.0.0.1:{port}"
    return ServerSpec(name=name, url=url, health=f"{url}/", port=port, command=(sys.executable, "-c", code))


def test_a_record_of_a_dead_process_is_no_running_server(home: Home) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(child.pid).create_time()
    child.wait()
    path = write_record(home, child.pid, started)
    assert not any(row.running or row.url or row.pid for row in servers.status(home))
    assert servers.stop(home) == [] and not path.exists(), "and down clears it away"


def test_a_stale_record_does_not_stand_in_the_way_of_up(home: Home) -> None:
    write_record(home, 2**22 + 1, 0.0)
    port = free_port()
    code = f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    try:
        (prefect, *_) = servers.start(home, [make_spec(code, port)], lambda line: None)
        assert prefect.running and prefect.url == f"http://127.0.0.1:{port}" and answers(prefect.url)
    finally:
        assert servers.stop(home) == ["prefect"]
    assert not psutil.pid_exists(prefect.pid or 0) or psutil.Process(prefect.pid).status() == psutil.STATUS_ZOMBIE


def test_another_process_with_the_same_id_is_never_taken_for_a_server_nor_stopped(
    home: Home, sleeper: psutil.Process
) -> None:
    write_record(home, sleeper.pid, sleeper.create_time() - 100)
    assert not any(row.running for row in servers.status(home))
    assert servers.stop(home) == []
    assert sleeper.is_running()


def test_a_record_of_a_living_process_is(home: Home, sleeper: psutil.Process) -> None:
    """The counterpart, so that the test above can fail."""
    write_record(home, sleeper.pid, sleeper.create_time())
    assert [row.running for row in servers.status(home)] == [True, False, False]
    assert servers.stop(home) == ["prefect"]
    assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("content", ["", "{", '{"name": "prefect"}'])
def test_a_broken_record_is_no_server(home: Home, content: str) -> None:
    (home.servers / "prefect.json").write_text(content)
    assert not any(row.running for row in servers.status(home))
    assert servers.stop(home) == [] and not list(home.servers.glob("*.json"))


def test_a_server_that_ends_while_starting_is_said_with_its_log(home: Home) -> None:
    with pytest.raises(StateError, match=r"The prefect server ended while starting\. Its log is .*prefect\.log"):
        servers.start(home, [make_spec("print('no luck', flush=True); raise SystemExit(3)", free_port())], lambda line: None)
    assert "no luck" in (home.servers / "prefect.log").read_text()
    assert not list(home.servers.glob("*.json"))


def test_a_server_that_never_answers_is_stopped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_PATIENCE_S", 0.6)
    code = "import pathlib, os, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"
    with pytest.raises(StateError, match="did not answer within 1 s"):
        servers.start(home, [make_spec(code, free_port())], lambda line: None)
    pid = int((home.root / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_server_that_fails_to_start_takes_no_running_one_with_it(home: Home, sleeper: psutil.Process) -> None:
    """As when a nightly run uses Prefect and somebody starts what is missing beside it."""
    write_record(home, sleeper.pid, sleeper.create_time(), "prefect")
    wanted = [make_spec("", free_port()), make_spec("raise SystemExit(3)", free_port(), "mlflow")]
    with pytest.raises(StateError, match="The mlflow server ended while starting"):
        servers.start(home, wanted, lambda line: None)
    assert sleeper.is_running() and [row.running for row in servers.status(home)] == [True, False, False]
    assert [path.name for path in home.servers.glob("*.json")] == ["prefect.json"]


def test_a_running_prefect_is_used_unless_the_user_chose_another(
    home: Home, sleeper: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    servers.use_running_prefect(home)
    assert "PREFECT_API_URL" not in os.environ, "nothing runs"
    write_record(home, sleeper.pid, sleeper.create_time())
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    servers.use_running_prefect(home)
    assert os.environ["PREFECT_API_URL"] == "http://elsewhere/api"
    monkeypatch.delenv("PREFECT_API_URL")
    servers.use_running_prefect(home)
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
