"""The local servers: Prefect, MLflow, and the standby process; start, stop, and say whether they run.

Commands work without them. A running Prefect server saves each command the 15 to 23 s that its embedded one takes to
start; MLflow's adds the user interface over the same database; the standby process (`modellab.standby`) saves the time
that evaluations take to import libraries.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence

import psutil
from pydantic import ValidationError

from modellab import handover
from models.errors import StateError
from models.types import Record
from models.variables import unless_set
from pipelines.home import Home, write_atomically

HOST = "127.0.0.1"
START_PATIENCE_S = 180.0
STOP_PATIENCE_S = 10.0
POLL_S = 0.25
NAMES = ("prefect", "mlflow", "standby")


class ServerSpec(Record):
    """How to start one server and how to know that it answers."""

    name: str
    url: str | None
    """None of the standby process, which has no page."""
    health: str | None
    """An address that answers when it is ready; None of the standby process, whose socket does."""
    port: int | None
    command: tuple[str, ...]
    environment: dict[str, str] = {}
    """Variables for the server's process, besides those of this one."""


class ServerRecord(Record):
    """What was started: kept in the home until it is stopped."""

    name: str
    url: str | None
    pid: int
    started: float
    """Creation time of the process, so that another one with the same id is never taken for it."""


class ServerStatus(Record):
    """What `modellab status` says of one server."""

    name: str
    running: bool
    url: str | None
    pid: int | None


def specs(home: Home, prefect_port: int, mlflow_port: int) -> tuple[ServerSpec, ...]:
    """Describe the servers, in the order in which they are started."""
    python = (sys.executable, "-m")
    servers = (
        ServerSpec(
            name="prefect",
            url=f"http://{HOST}:{prefect_port}",
            health=f"http://{HOST}:{prefect_port}/api/health",
            port=prefect_port,
            command=(*python, "prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)),
            environment={
                # The pages in the browser would ask port 4200, whatever port the server has.
                "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{prefect_port}/api",
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            },
        ),
        ServerSpec(
            name="mlflow",
            url=f"http://{HOST}:{mlflow_port}",
            health=f"http://{HOST}:{mlflow_port}/health",
            port=mlflow_port,
            command=(
                *python, "mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1",
                "--backend-store-uri", f"sqlite:///{home.mlflow_database}",
                "--artifacts-destination", str(home.mlflow_artifacts),
            ),
            # Its jobs judge traces of language models: eight more processes, 1.4 GB and 20 s of processor at the start.
            environment=unless_set({"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}),
        ),
    )  # fmt: skip
    if not handover.SUPPORTED:
        return servers
    standby = ServerSpec(
        name="standby",
        url=None,
        health=None,
        port=None,
        command=(*python, "modellab.standby"),
        environment={"MODELLAB_HOME": str(home.root)},
    )
    return *servers, standby


def start(home: Home, wanted: Sequence[ServerSpec], progress: Callable[[str], None]) -> list[ServerStatus]:
    """Start the servers that do not run yet, and wait until each answers.

    Raises:
        StateError: A port is taken by something else, or a server does not come up; its log is named.
    """
    home.servers.mkdir(parents=True, exist_ok=True)
    idle = [spec for spec in wanted if _living(home, spec.name) is None]
    for spec in idle:
        _check_port(spec)
    try:
        processes = {spec.name: _spawn(home, spec) for spec in idle}
        for spec in idle:
            progress(f"Waiting for {spec.name}" + (f" at {spec.url}" if spec.url else ""))
            _wait(home, spec, processes[spec.name])
    except BaseException:
        stop(home, [spec.name for spec in idle])
        raise
    return status(home)


def stop(home: Home, names: Sequence[str] | None = None) -> list[str]:
    """Stop what was started from this home, or of it only these; returns the names."""
    stopped = []
    for name in reversed(NAMES):  # commands in forks of the standby process need the others to end in order
        path = home.servers / f"{name}.json"
        if names is not None and name not in names:
            continue
        process = _living(home, name)
        if process is not None:
            family = [*process.children(recursive=True), process]
            for member in family:
                _quietly(member.terminate)
            _, alive = psutil.wait_procs(family, timeout=STOP_PATIENCE_S)
            for member in alive:
                _quietly(member.kill)
            stopped.append(name)
        path.unlink(missing_ok=True)
    return stopped


def status(home: Home) -> list[ServerStatus]:
    """Say of each server whether it runs."""
    out = []
    for name in NAMES:
        record = _record(home, name)
        alive = _living(home, name) is not None
        out.append(
            ServerStatus(
                name=name,
                running=alive,
                url=record.url if record and alive else None,
                pid=record.pid if record and alive else None,
            )
        )
    return out


def use_running_prefect(home: Home) -> None:
    """Point Prefect at the local server if it runs and the user has chosen no other; call before importing Prefect."""
    address = running_prefect(home)
    if address is not None:
        os.environ.setdefault("PREFECT_API_URL", address)


def running_prefect(home: Home) -> str | None:
    """Address of the local Prefect server's API; None where it does not run."""
    record = _record(home, "prefect")
    return f"{record.url}/api" if record is not None and _living(home, "prefect") is not None else None


def _record(home: Home, name: str) -> ServerRecord | None:
    path = home.servers / f"{name}.json"
    try:
        return ServerRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def _living(home: Home, name: str) -> psutil.Process | None:
    record = _record(home, name)
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None


def _check_port(spec: ServerSpec) -> None:
    if spec.port is None:
        return
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, spec.port))
        except OSError as error:
            raise StateError(
                f"Port {spec.port} for {spec.name} is taken by another program ({error.strerror}).",
                f"Stop it, or set MODELLAB_{spec.name.upper()}_PORT to a free port.",
            ) from error


def _spawn(home: Home, spec: ServerSpec) -> psutil.Process:
    with (home.servers / f"{spec.name}.log").open("ab") as log:
        # A session of its own, so that Ctrl-C in this terminal does not reach it.
        child = subprocess.Popen(
            spec.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=home.root,
            env={**os.environ, **spec.environment},
        )
    process = psutil.Process(child.pid)
    record = ServerRecord(name=spec.name, url=spec.url, pid=child.pid, started=process.create_time())
    write_atomically(home.servers / f"{spec.name}.json", record.model_dump_json())
    return process


def _wait(home: Home, spec: ServerSpec, process: psutil.Process) -> None:
    log = home.servers / f"{spec.name}.log"
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise StateError(f"The {spec.name} server ended while starting.", f"Its log is {log}.")
        if _answers(home, spec):
            return
        time.sleep(POLL_S)
    raise StateError(f"The {spec.name} server did not answer within {START_PATIENCE_S:.0f} s.", f"Its log is {log}.")


def _answers(home: Home, spec: ServerSpec) -> bool:
    if spec.health is None:
        connection = handover.connect(home)
        if connection is not None:
            connection.close()
        return connection is not None
    try:
        with urllib.request.urlopen(spec.health, timeout=2) as answer:  # noqa: S310 (our own loopback address)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return
