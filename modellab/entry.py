"""The program's entry point, which imports nothing: worker processes import the main module again when they start."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from models.collector import collector_paused

    with collector_paused():
        from modellab.cli import main as run

    run()
