"""The program's entry point, which imports nothing: worker processes import the main module again when they start."""

from __future__ import annotations


def main() -> None:
    """Run the command line, here or in the standby process, and end the process."""
    import sys

    from modellab.handover import hand_over

    code = hand_over(sys.argv[1:])
    if code is None:
        run_command(end_at_once())
    sys.exit(code)


def end_at_once() -> list[int]:
    """Let this process end without delay, after all exit handlers registered later; gives where its exit code goes."""
    import atexit

    codes: list[int] = []
    atexit.register(_leave, codes)  # who is registered first is called last
    return codes


def run_command(codes: list[int]) -> None:
    """Run the command line in this process.

    Args:
        codes: From `end_at_once`.

    Raises:
        SystemExit: Always.
    """
    from models.collector import collector_paused

    with collector_paused():
        from modellab.cli import main as run

    try:
        run()
    except SystemExit as end:
        if isinstance(end.code, int):
            codes.append(end.code)
        raise


def _leave(codes: list[int]) -> None:
    """End the process where the interpreter would free a million objects, one by one, for a tenth of a second to two."""
    import os
    import sys

    if not codes:  # an error that was not foreseen, which Python tells
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # who read it is gone, which Python tells too
        return
    os._exit(codes[0])
