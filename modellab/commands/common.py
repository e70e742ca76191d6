"""What commands share: options, the lab, and running a flow under the eyes of a person."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Annotated, TypeVar

import psutil
import typer

from modellab.console import TerminalProgress
from modellab.quiet import quiet_dependencies
from modellab.servers import use_running_prefect
from modellab.settings import Settings, read_settings
from pipelines.lab import Lab
from pipelines.progress import listener

T = TypeVar("T")

INTERRUPTED = "Interrupted. What was finished is kept; the same command goes on from there."
EXIT_INTERRUPTED = 130
"""As shells report a process ended by Ctrl-C."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Corpora = Annotated[
    list[str] | None, typer.Option("--corpus", help="A corpus by name or path; repeat for more. Default: all.")
]
Slices = Annotated[list[str] | None, typer.Option("--slice", help="key=value, for example domain=digits; repeat for more.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first K recordings of each corpus.")]
NormalizerName = Annotated[
    str | None,
    typer.Option("--normalizer", help="Score by this preset, not the corpus's; infers nothing anew."),
]
Device = Annotated[
    str | None, typer.Option("--device", help="A device of the card: cpu, cuda, remote. Default: cpu, if it has it.")
]
TaskName = Annotated[
    str | None, typer.Option("--task", help="asr or tts, of a model that does several. Default: the card's first.")
]
DataRev = Annotated[
    str | None,
    typer.Option("--data-rev", help="Read data/ of this git revision through DVC, not the working tree's."),
]
ComputeType = Annotated[str | None, typer.Option("--compute-type", help="Number format. Default: the card's.")]


def open_lab() -> tuple[Settings, Lab]:
    """Read the settings, silence the dependencies, and open the lab."""
    settings = read_settings()
    lab = settings.lab()
    quiet_dependencies(lab.home_folder, debug=settings.debug)
    return settings, lab


@contextlib.contextmanager
def with_progress() -> Iterator[None]:
    """Show the progress of what runs inside on standard error."""
    token = listener.set(TerminalProgress())
    try:
        yield
    finally:
        listener.reset(token)


def leave_at_once(number: int, frame: FrameType | None) -> None:
    """End this process and its children now; the prediction store holds whole shards only, so nothing finished is lost."""
    sys.stderr.write(f"\n{INTERRUPTED}\n")
    sys.stderr.flush()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(EXIT_INTERRUPTED)


def run_watched(lab: Lab, work: Callable[[], T]) -> T:
    """Run a flow with its progress on standard error, on the running Prefect server or an embedded one."""
    progress = TerminalProgress()
    use_running_prefect(lab.home)
    signal.signal(signal.SIGTERM, leave_at_once)
    if "PREFECT_API_URL" not in os.environ:
        # Ctrl-C reaches the embedded server too, and Prefect would try to tell the dead server for a minute.
        signal.signal(signal.SIGINT, leave_at_once)
        progress.say("Starting an embedded Prefect server (`modellab up` keeps one running and saves this time)")
    token = listener.set(progress)
    try:
        return work()
    finally:
        listener.reset(token)
