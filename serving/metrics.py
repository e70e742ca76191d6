"""What a service counts: for Prometheus (``/metrics``) and as one JSON object (``/v1/statistics``)."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

from serving.queue import Queue

__all__ = ["CONTENT_TYPE", "Metrics"]

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
REMEMBERED = 1000
"""Answers whose times the percentiles are of."""


class Metrics:
    """Counts of one process, since it started."""

    def __init__(self, queue: Queue) -> None:
        """Begin at nothing."""
        self._queue = queue
        self._began = time.monotonic()
        self._recent: deque[float] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()
        self._models: dict[str, dict[str, float]] = {}
        self._statuses: dict[str, int] = {}
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "modellab_requests", "Requests answered", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "modellab_request_seconds", "From the request's head to the answer's end", ["route"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.engine_seconds = Counter(
            "modellab_engine_seconds", "Time in the engine", ["model", "task"], registry=self.registry
        )
        self.audio_seconds = Counter(
            "modellab_audio_seconds", "Audio heard or spoken", ["model", "task"], registry=self.registry
        )
        self.engine_calls = Counter(
            "modellab_engine_calls", "Engine calls; requests that went together share one", ["model", "task"],
            registry=self.registry,
        )  # fmt: skip
        self.live_turns = Counter("modellab_live_turns", "Turns of live transcriptions", ["outcome"], registry=self.registry)
        self.live_audio_seconds = Counter(
            "modellab_live_received_seconds", "Audio received in live transcriptions", registry=self.registry
        )
        self.live_sessions = Gauge("modellab_live_sessions", "Live transcriptions under way", registry=self.registry)
        for name, help_, read in (
            ("modellab_queue_running", "Engine calls under way", lambda: queue.running),
            ("modellab_queue_waiting", "Requests let in that have no turn", lambda: queue.waiting),
        ):
            Gauge(name, help_, registry=self.registry).set_function(read)

    def answered(self, route: str, method: str, status: int, duration_s: float) -> None:
        """Count an answer. `route` is the template, so that clients cannot make up series."""
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route).observe(duration_s)
        self._statuses[str(status)] = self._statuses.get(str(status), 0) + 1
        if route.startswith("/v1/audio/") and status == 200:
            self._recent.append(duration_s)

    def computed(self, model: str, task: str, audio_s: float, engine_s: float, calls: int = 1) -> None:
        """Count what an engine did for some requests; from any thread."""
        self.engine_seconds.labels(model, task).inc(engine_s)
        self.audio_seconds.labels(model, task).inc(audio_s)
        self.engine_calls.labels(model, task).inc()
        with self._lock:
            counts = self._models.setdefault(model, {"calls": 0, "audio_s": 0.0, "engine_s": 0.0})
            counts["calls"] += calls
            counts["audio_s"] += audio_s
            counts["engine_s"] += engine_s

    def prometheus(self) -> bytes:
        """The text that Prometheus reads."""
        return bytes(generate_latest(self.registry))

    def summary(self) -> dict[str, Any]:
        """The same in one object; percentiles are of the last `REMEMBERED` answers, null before there are two."""
        cuts = statistics.quantiles(self._recent, n=100, method="inclusive") if len(self._recent) > 1 else None
        return {
            "object": "statistics",
            "uptime_s": time.monotonic() - self._began,
            "queue": {"running": self._queue.running, "waiting": self._queue.waiting},
            "answers": dict(self._statuses),
            "latency_s": {name: cuts[at - 1] if cuts else None for name, at in (("p50", 50), ("p95", 95), ("p99", 99))},
            "models": self._models,
        }
