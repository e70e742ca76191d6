"""What serving costs over the engine itself: latency, throughput, first audio, and percentiles under load.

Everything is measured in one run, the service and the bare engine in turn, over loopback; the service is a package in
processes of its own, with the settings that it ships with but for the rate of one client.

    python benchmarks/service_speed.py [--model faster-whisper-tiny.en] [--voice hibari] [--rounds 3] [--requests 48] ...
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from bento_service import Client, Served, clip, closed_loop, open_lab, service_of

from models.audio import decode
from models.engine import available_cores, build_engine, calls_at_once, placement_of
from models.weights import fetch
from pipelines.lab import Lab
from serving.bento import ModelService
from serving.encoding import wav_head
from serving.parity import default_voice

CLIP = "digits-george-0"
CLIENTS = (1, 4, 8, 16)
LATENCY_TARGET, THROUGHPUT_TARGET, FIRST_AUDIO_TARGET = 1.10, 0.95, 1 / 3
BATCH = 8
TEXT = (
    "The morning train left the station a little late, and nobody on the platform seemed to mind. A thin fog lay over the "
    "river, so the bridge looked shorter than it was. Two children counted the wagons and argued about the number. "
    "When the last one had passed, an old man folded his paper, smiled, and walked home without hurry."
)
"""Sixty words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="faster-whisper-tiny.en")
    parser.add_argument("--voice", default="hibari")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=48, help="a load level")
    parser.add_argument("--out", type=Path, help="folder for serving.json and serving.png; default: benchmarks/ in the home")
    options = parser.parse_args()
    lab = open_lab()
    out = options.out or lab.home.root / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    path = clip(lab, CLIP)
    result: dict[str, Any] = {"model": options.model, "voice": options.voice, "clip": CLIP, "cores": available_cores()}
    with service_of(lab, options.model) as served:
        result["one_client"] = one_client(lab, served, path, options.rounds * 10)
        result["eight_clients"] = eight_clients(lab, served, path, options.rounds * 2, options.requests)
        result["load"] = load(served, path, options.requests)
    with service_of(lab, options.voice) as served:
        result["first_audio"] = first_audio(lab, served, options.rounds * 5)
    (out / "serving.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    draw(result["load"], out / "serving.png")
    print(f"written: {out / 'serving.json'}, {out / 'serving.png'}")


def as_served() -> None:
    """Start anew in the environment that a service has, so that the engine is at its best here too."""
    wanted = {**os.environ, **{variable.name: variable.value for variable in ModelService.envs}}
    if wanted != os.environ:
        os.execve(sys.executable, sys.orig_argv, wanted)


def said(name: str, value: float, target: float, *, most: bool) -> None:
    met = value <= target if most else value >= target
    print(f"{name}: {value:.2f} (target {'at most' if most else 'at least'} {target:.2f}: {'met' if met else 'NOT met'})")


def engine_of(lab: Lab, model: str, threads: int | None = None, calls: int = 1) -> Any:
    cards = lab.cards()
    card = cards[model]
    weights = fetch(card, cards, lab.home.weights, print).folder
    return build_engine(card, weights, replace(placement_of(card, threads=threads), calls=calls), card.tasks[0])


def timed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def one_client(lab: Lab, served: Served, path: Path, pairs: int) -> dict[str, float]:
    """One request and one direct call in turn: both read the file, decode it and transcribe it with all cores."""
    engine, content, client = engine_of(lab, served.model), path.read_bytes(), Client(served)

    def direct() -> None:
        engine.transcribe(decode(path).samples, language="en")

    def asked() -> None:
        answer = client.transcribe(path, content)
        assert answer.status == 200, answer.text

    direct(), asked()
    seconds: dict[str, list[float]] = {"direct": [], "http": []}
    for number in range(pairs):
        both = [("direct", direct), ("http", asked)]
        for name, call in both if number % 2 else reversed(both):
            seconds[name].append(timed(call))
    client.close()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["http"] / medians["direct"]
    http_ms, direct_ms = (round(medians[name] * 1000) for name in ("http", "direct"))
    print(f"one client, {pairs} pairs: median {http_ms} ms over HTTP, {direct_ms} ms direct")
    said("  latency over the engine's", ratio, LATENCY_TARGET, most=True)
    return {"http_s": medians["http"], "direct_s": medians["direct"], "ratio": ratio}


def in_process_layouts(lab: Lab, model: str, path: Path) -> dict[str, Callable[[int], None]]:
    """Every way to keep the machine busy with one process that an engine has: layout → do so many recordings."""
    cores = available_cores()
    card = lab.cards()[model]
    calls = calls_at_once(card, placement_of(card))
    whole = engine_of(lab, model)
    narrow = [engine_of(lab, model, threads=1) for _ in range(cores)] if cores > 1 else []

    def hear(engine: Any) -> None:
        engine.transcribe(decode(path).samples, language="en")

    def side_by_side(engines: Sequence[Any]) -> Callable[[int], None]:
        def run(count: int) -> None:
            with ThreadPoolExecutor(len(engines)) as pool:
                list(pool.map(hear, islice(cycle(engines), count)))

        return run

    def batched(count: int) -> None:
        for at in range(0, count, BATCH):
            whole.transcribe_batch([decode(path).samples for _ in range(min(BATCH, count - at))], language="en")

    layouts = {f"one call at a time on {cores} cores": side_by_side([whole])}
    if narrow:
        layouts[f"{cores} engines of one core"] = side_by_side(narrow)
    if calls > 1:
        layouts[f"{calls} calls at once in one engine"] = side_by_side([engine_of(lab, model, calls=calls)] * calls)
    if hasattr(whole, "transcribe_batch"):
        layouts[f"batches of {BATCH}"] = batched
    return layouts


def eight_clients(lab: Lab, served: Served, path: Path, rounds: int, requests: int) -> dict[str, Any]:
    """Recordings a second of eight clients over HTTP, against the best that the engine does in one process.

    Each round does all in turn, every other one backwards, and the ratios are those of a round: a machine that others use as
    well is not equally fast for minutes.
    """

    def over_http(count: int) -> None:
        answers, _ = closed_loop(served, [path], 8, count)
        assert all(answer.status == 200 for answer in answers)

    layouts = in_process_layouts(lab, served.model, path)
    ways = {**layouts, "http": over_http}
    for run in ways.values():
        run(8)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, run in list(ways.items())[:: 1 if number % 2 else -1]:
            rates[name].append(requests / timed(lambda run=run: run(requests)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = max(layouts, key=lambda name: medians[name])
    ratios = [http / own for http, own in zip(rates["http"], rates[best], strict=True)]
    ratio = statistics.median(ratios)
    print("eight clients: " + ", ".join(f"{name} {rate:.2f}/s" for name, rate in medians.items()))
    print(f"  over {best}, round by round: {', '.join(f'{one:.2f}' for one in ratios)}")
    said(f"  throughput over the best in one process ({best})", ratio, THROUGHPUT_TARGET, most=False)
    return {"per_s": medians, "best": best, "ratios": ratios, "ratio": ratio}


def load(served: Served, path: Path, requests: int) -> list[dict[str, float]]:
    """Percentiles of the latency at several numbers of clients."""
    rows = []
    for clients in CLIENTS:
        answers, wall_s = closed_loop(served, [path], clients, max(requests, 3 * clients))
        assert all(answer.status == 200 for answer in answers), {answer.status for answer in answers}
        p50, p95, p99 = np.quantile([answer.seconds for answer in answers], (0.5, 0.95, 0.99))
        row = {"clients": clients, "requests": len(answers), "per_s": len(answers) / wall_s}
        rows.append(row | {"p50_s": float(p50), "p95_s": float(p95), "p99_s": float(p99)})
        print(
            f"{clients:2} clients: p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s, "
            f"{len(answers) / wall_s:.2f} requests/s ({len(answers)} requests)"
        )
    return rows


def first_audio(lab: Lab, served: Served, rounds: int) -> dict[str, float]:
    """Time to the first audio of a text of sixty words over HTTP, against the whole synthesis by the engine itself."""
    assert len(TEXT.split()) == 60
    engine = engine_of(lab, served.model)
    head = len(wav_head(engine.synthesize("Ready.").sample_rate_hz))
    first, whole, direct = [], [], []
    with httpx2.Client(base_url=served.url, timeout=300, trust_env=False) as client:
        body = {"model": served.model, "input": TEXT, "voice": default_voice(client, served.model), "response_format": "wav"}
        client.post("/v1/audio/speech", json=body).raise_for_status()  # the first answer of a connection is not timed
        for _ in range(rounds):
            direct.append(timed(lambda: engine.synthesize(TEXT)))
            began, received = time.monotonic(), 0
            with client.stream("POST", "/v1/audio/speech", json=body) as answer:
                assert answer.status_code == 200
                for block in answer.iter_bytes():
                    if received <= head < received + len(block):
                        first.append(time.monotonic() - began)
                    received += len(block)
            whole.append(time.monotonic() - began)
    medians = {"first_s": first, "whole_http_s": whole, "whole_direct_s": direct}
    told = {name: statistics.median(values) for name, values in medians.items()}
    ratio = told["first_s"] / told["whole_direct_s"]
    print(
        f"{served.model}, 60 words: first audio after {told['first_s']:.2f} s, all after {told['whole_http_s']:.2f} s, "
        f"{told['whole_direct_s']:.2f} s by the engine itself"
    )
    said("  first audio over the full synthesis", ratio, FIRST_AUDIO_TARGET, most=True)
    return told | {"ratio": ratio}


def draw(rows: Sequence[dict[str, float]], target: Path) -> None:
    """Plot the percentiles and the throughput over the number of clients."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    clients = [row["clients"] for row in rows]
    for name in ("p50", "p95", "p99"):
        left.plot(clients, [row[f"{name}_s"] for row in rows], marker="o", label=name)
    left.set(xlabel="clients", ylabel="latency in s", xticks=clients, ylim=(0, None))
    left.legend()
    right.plot(clients, [row["per_s"] for row in rows], marker="o")
    right.set(xlabel="clients", ylabel="requests a second", xticks=clients, ylim=(0, None))
    figure.savefig(target, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    as_served()
    main()
