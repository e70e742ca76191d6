"""Pools of toy workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from models.engine import Placement
from pipelines.inference import EngineSpec, Job
from pipelines.workers import WorkerPool
from tests.pipelines.toy_engine import toy_card

Write = Callable[..., Job]


def make_spec(scratch: Path, threads: int = 1, **changes: Any) -> EngineSpec:
    return EngineSpec(toy_card(scratch, **changes), scratch, Placement("cpu", "none", threads), "m" * 64, "asr")


def processes_of(pool: WorkerPool) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in pool._executor._processes]
