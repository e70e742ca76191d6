"""Running a command that ends with whoever asked for it, however that one ended: `python -m serving.guard COMMAND …`.

A process that is killed cannot stop its service, which would keep its model in memory and its port for ever. So the service
is a child of this one, whose standard input is a pipe that nobody writes to: the system closes it with the last of its
owners, and then the service is ended as `serving.run.stop` would.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

STOP_TIMEOUT_S = 60.0
"""How long what is in flight may take; then the service is killed."""


def command(guarded: Sequence[str]) -> list[str]:
    """Write the command that guards another; give it a pipe as standard input, and a session of its own."""
    return [sys.executable, "-m", __name__, *guarded]


def main() -> None:
    """Run the command, hand on SIGTERM, and exit as it does."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=_end_with_owner, args=(child,), daemon=True).start()
    code = child.wait()
    sys.exit(code if code >= 0 else 128 - code)  # as a shell tells of a signal


def _end_with_owner(child: subprocess.Popen[bytes]) -> None:
    os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock the interpreter wants when it ends
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)  # the session: its workers, and this process


if __name__ == "__main__":
    main()
