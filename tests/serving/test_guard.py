"""A service ends with the process that started it, however that one ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from serving import guard

REPOSITORY = Path(__file__).parents[2]
SERVICE = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
OWNER = f"""
import subprocess, sys, time
from serving import guard
command = guard.command([sys.executable, "-c", {SERVICE!r}])
subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""
ENDS_S = 60.0
"""Far more than it takes, on a busy machine too."""


def start(*command: str, stdin: int) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=REPOSITORY, stdin=stdin, stdout=subprocess.PIPE, text=True)


def pid_of(process: subprocess.Popen[str]) -> int:
    """Wait until the service runs; it says its pid where its owner's output goes."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_a_service_ends_when_its_owner_is_killed() -> None:
    owner = start(sys.executable, "-c", OWNER, stdin=subprocess.DEVNULL)
    service = psutil.Process(pid_of(owner))
    warden = service.parent()
    assert warden is not None
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs([service, warden], timeout=ENDS_S)
    assert not alive


@pytest.mark.parametrize(("does", "code"), [("lambda *_: sys.exit(7)", 7), ("signal.SIG_DFL", 128 + signal.SIGTERM)])
def test_sigterm_is_handed_on_and_the_exit_code_back(does: str, code: int) -> None:
    script = f"import signal, sys; signal.signal(signal.SIGTERM, {does}); {SERVICE}"
    process = start(*guard.command([sys.executable, "-c", script]), stdin=subprocess.PIPE)
    pid_of(process)
    process.terminate()
    assert process.wait(ENDS_S) == code
