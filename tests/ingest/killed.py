"""Ending a process with SIGKILL at a known moment: the n-th call of a named function, in a fork of this process."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from typing import Any


def kill_at(target: str, call: int, work: Callable[[], object]) -> None:
    """Run in a fork, which kills itself when ``module:name`` is called for the ``call``-th time; checks that it was."""
    pid = os.fork()
    if pid == 0:
        try:
            arm(target, call)
            work()
        finally:
            os._exit(1)  # the moment never came: the parent's check fails
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"{target} was not called {call} times"


def arm(target: str, call: int) -> None:
    """Replace a function by one that kills the process at its n-th call, and does its work before."""
    module_name, _, name = target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    real = getattr(owner, last)
    seen = [0]

    def armed(*arguments: Any, **keywords: Any) -> Any:
        seen[0] += 1
        if seen[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)

    setattr(owner, last, armed)
