"""Cards of the toy recogniser, and a corpus for it, in a project that is used through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.conftest import Project
from tests.pipelines.toy_engine import toy_card, write_corpus


def add_toy(project: Project, name: str, signal: str, recordings: int, **args: Any) -> Path:
    """Write a card, and a corpus whose middle recording gives this signal."""
    scratch = project.root / name
    card = toy_card(scratch, name=name, args={"scratch": str(scratch), **args})
    (Path(project.environment["MODELLAB_CARDS"]) / f"{name}.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json")))
    # So long that no shard takes more than two of them.
    rows = [
        {"id": f"u{n}", "seconds": 50 - n, "signal": signal if n == recordings // 2 else "speech"} for n in range(recordings)
    ]
    write_corpus(project.root / "data" / "calls", rows)
    return scratch
