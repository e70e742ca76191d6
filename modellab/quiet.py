"""The switches that keep every dependency quiet and offline.

Set before any of them is imported, because several read their switches then; this module imports the standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Its migrations would announce each table of a new home.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # It would draw bars into our own progress, and say "downloading" of a copy on this disk.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A run that ends at a server would print its address into what `--json` prints.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Python's resource tracker reports the semaphores of workers that Ctrl-C ended; the system has freed them.
    "PYTHONWARNINGS": "ignore:resource_tracker",
    # Git would otherwise be asked for at import, with a warning where it is missing.
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Telemetry of the dependencies, off unless the user has set a variable otherwise."""


def quiet_dependencies(home: Path, *, debug: bool = False) -> None:
    """Set the switches in this process's environment, where its children find them too."""
    for name, value in switches(home, debug=debug).items():
        os.environ.setdefault(name, value)


def switches(home: Path, *, debug: bool = False) -> dict[str, str]:
    """Give all switches as they are unless the user has set them: `QUIET`, and those that depend on the home."""
    return {
        **QUIET,
        "PREFECT_HOME": str(home / "prefect"),
        # Our own progress and errors take the console; Prefect would print the traceback of every error twice.
        "PREFECT_LOGGING_LEVEL": "WARNING" if debug else "CRITICAL",
        # The embedded server needs 15 to 23 s on two cores; its default patience of 20 s is too short.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "MPLCONFIGDIR": str(home / "matplotlib"),
    }
