"""BentoML's store in the lab's home, used through BentoML's own command line.

Its commands run as processes of their own: the library reads ``BENTOML_HOME`` once, when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from models.errors import StateError

MODULE = (sys.executable, "-m", "bentoml")
COMMAND_TIMEOUT_S = 1800.0
"""Copying and packing tens of GB from a slow disk; nothing is downloaded."""
NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "BENTOML_CONFIG", "BENTOML_PORT", "BENTOML_HOST")
"""What would make a Bento run other code, or run otherwise, than the one that was built."""
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}
"""No telemetry."""

_TAG = "tag="
_BUILD = f"""
import json, sys
import bentoml
print("{_TAG}" + str(bentoml.build(**json.load(sys.stdin)).tag))
"""


@dataclass(frozen=True)
class Bento:
    """One package in the store."""

    tag: str
    """``name:version``."""
    path: Path
    """Its folder."""
    labels: dict[str, str]
    """As written at the build."""
    created: str
    """ISO 8601; sorts by time."""

    @property
    def bundle(self) -> Path:
        """Folder of the model (`serving.bundle`)."""
        return self.path / "src" / "model"


@dataclass(frozen=True)
class Store:
    """A Bento store."""

    home: Path
    """``BENTOML_HOME``."""

    def environment(self) -> dict[str, str]:
        """Environment of BentoML's processes: this store, no telemetry, and no code but the Bento's own."""
        kept = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        # Without -P or this, `python -m` puts the working folder first.
        return {**kept, **QUIET, "BENTOML_HOME": str(self.home), "PYTHONSAFEPATH": "1"}

    def run(self, *arguments: str) -> str:
        """Run one of BentoML's commands and give what it printed.

        Raises:
            StateError: It failed; its last line is told.
        """
        return self._run(arguments[0], [*MODULE, *arguments])

    def build(self, context: Path, options: Mapping[str, Any]) -> Bento:
        """Build a Bento from a folder.

        Args:
            context: The folder.
            options: Of ``bentoml.build``.

        Raises:
            StateError: BentoML refused.
        """
        # The command `bentoml build` reads its options from a file only, and none below a hidden folder such as `.modellab`.
        told = json.dumps({**options, "build_ctx": str(context)})
        printed = self._run("build", [sys.executable, "-c", _BUILD], told).split()
        tag = next((word.removeprefix(_TAG) for word in reversed(printed) if word.startswith(_TAG)), "")
        return self.get(tag)

    def _run(self, what: str, command: Sequence[str], told: str = "") -> str:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                command,
                cwd=self.home,
                env=self.environment(),
                input=told,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StateError(f"bentoml {what} cannot be run ({error}).", "Mend that and try again.") from error
        if done.returncode:
            raise StateError(
                f"bentoml {what} failed: {last_line(done.stderr or done.stdout)}.",
                "Mend that and try again; if it is not installed: pip install 'modellab[serve]'",
            )
        return done.stdout

    def get(self, tag: str) -> Bento:
        """Look a Bento up.

        Raises:
            StateError: It is not there.
        """
        name, _, version = tag.partition(":")
        folder = self.home / "bentos" / name / version
        if not version or not (folder / "bento.yaml").is_file():
            raise StateError(f"There is no package {tag!r} in {self.home}.", "Run: modellab package MODEL")
        data = yaml.safe_load((folder / "bento.yaml").read_text(encoding="utf-8"))
        return Bento(tag, folder, dict(data.get("labels") or {}), str(data["creation_time"]))

    def bentos(self, name: str, **labels: str) -> list[Bento]:
        """Give the Bentos of a name with these labels, the newest first."""
        folders = (self.home / "bentos" / name).glob("*/bento.yaml")
        found = [self.get(f"{name}:{path.parent.name}") for path in folders if path.parent.is_dir()]
        fitting = [bento for bento in found if labels.items() <= bento.labels.items()]
        return sorted(fitting, key=lambda bento: bento.created, reverse=True)

    def delete(self, tag: str) -> None:
        """Remove a Bento."""
        self.run("delete", "--yes", tag)


def last_line(text: str) -> str:
    """Give the last line that says something, without its full stop; tracebacks end with the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:500] if lines else "it said nothing"


def serve_command(bento: str | Path, port: int, host: str) -> Sequence[str]:
    """Write the command that serves a Bento: a tag, or the folder of one."""
    return [*MODULE, "serve", str(bento), "--host", host, "--port", str(port)]
