"""The program's entry point, which imports nothing: worker processes import the main module again when they start."""

from __future__ import annotations


def main() -> None:
    """Run the command line, and end the process."""
    import atexit

    codes: list[int] = []
    atexit.register(_leave, codes)  # who is registered first is called last
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
