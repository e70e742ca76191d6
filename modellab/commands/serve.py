"""`modellab package`, `serve` and `parity`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modellab.commands.common import ComputeType, Device, Json, open_lab
from modellab.commands.keys import VARIABLE, keys_file
from modellab.console import TerminalProgress, err, out, print_json
from pipelines.lab import Lab

if TYPE_CHECKING:
    from serving.package import Packaged
    from serving.parity import ParityReport
    from serving.store import Bento, Store

EXIT_DIFFERENT = 1
SHOWN = 10
"""Differing items that are printed."""

Model = Annotated[str, typer.Argument(help="A model's name; see `modellab models list`.")]
Items = Annotated[int | None, typer.Option("--sample", min=1, help="Items of the evaluation to ask for. Default: 12.")]
API_KEY = "MODELLAB_API_KEY"
BUNDLES = "MODELLAB_BUNDLES"
"""Tells a service of packages that it serves beside its own (`serving.bento`, which cannot be imported without starting)."""


def package(
    model: Model,
    device: Device = None,
    compute_type: ComputeType = None,
    sample: Items = None,
    export_to: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Also write it to a .tar, .tar.gz or .bento file."),
    ] = None,
    json_: Json = False,
) -> None:
    """Build a Bento of a model, start it, and hold its answers to those that were evaluated."""
    _, lab = open_lab()
    from serving.export import check_target, export

    target = check_target(export_to) if export_to is not None else None
    store = store_of(lab)
    packaged = _package(lab, store, model, device, compute_type, sample)
    exported = export(store, store.get(packaged.tag), target) if target is not None and packaged.parity.passed else None
    for warning in packaged.warnings:
        err.print(f"[yellow]Warning:[/] {warning}")
    if json_:
        told = {"passed": packaged.parity.passed, "exported": exported.model_dump(mode="json") if exported else None}
        print_json(packaged.model_dump(mode="json") | told)
    else:
        print_parity(packaged.parity)
        if packaged.parity.passed:
            size = f"{packaged.size_mib:.0f} MiB, {packaged.requirements} pinned requirements"
            out.print(f"{packaged.tag}: {size}, in {packaged.path}", markup=False)
            out.print(f"Serve it with: modellab serve {model}", markup=False)
        if exported:
            out.print(f"\nWritten to {exported.file} ({exported.size_mib:.0f} MiB). On another machine:\n", markup=False)
            out.print("\n".join(exported.commands), markup=False)
    if not packaged.parity.passed:
        err.print("[bold red]Not packaged:[/] the Bento does not answer as it was tested, and was deleted.")
        raise typer.Exit(EXIT_DIFFERENT)


def serve(
    models: Annotated[
        list[str],
        typer.Argument(help="Names of models (`modellab models list`), or asr or tts for what is in production."),
    ],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on 127.0.0.1.")] = 3000,
    device: Device = None,
    compute_type: ComputeType = None,
    json_: Json = False,
) -> None:
    """Serve packaged models on this machine until Ctrl-C; packages first what is not packaged yet."""
    _, lab = open_lab()
    from serving.package import find_packaged, log_path
    from serving.run import check_port, running

    check_port(port)
    store, say = store_of(lab), TerminalProgress().say
    bentos = {}
    for asked in models:
        model, bento = _in_production(lab, asked)
        if bento is None:
            bento = find_packaged(lab, store, model, say, device, compute_type)
        if bento is None:
            say(f"{model} is not packaged as it is now; packaging it first")
            packaged = _package(lab, store, model, device, compute_type)
            if not packaged.parity.passed:
                print_parity(packaged.parity)
                raise typer.Exit(EXIT_DIFFERENT)
            bento = store.get(packaged.tag)
        bentos[model] = bento
    first, *others = bentos.values()
    os.environ[BUNDLES] = os.pathsep.join(str(bento.bundle) for bento in others)
    if keys_file(lab.home.root).is_file():
        os.environ.setdefault(VARIABLE, str(keys_file(lab.home.root)))
    say(f"Starting {', '.join(bento.tag for bento in bentos.values())}")
    stop = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running(store, first, log_path(store, first), port=port) as (url, process):
            _announce(bentos, url, log_path(store, first), as_json=json_)
            _wait(process)
    finally:
        signal.signal(signal.SIGTERM, stop)


def parity(
    model: Model,
    url: Annotated[str | None, typer.Option("--url", help="A service. Default: the packaged Bento, started here.")] = None,
    device: Device = None,
    compute_type: ComputeType = None,
    sample: Items = None,
    json_: Json = False,
) -> None:
    """Ask a service for a sample of the evaluation, and compare its answers with the stored ones.

    The API key, where the service wants one, is read from MODELLAB_API_KEY.
    """
    _, lab = open_lab()
    from models.errors import StateError
    from serving.package import describe, find_packaged, log_path
    from serving.parity import check_parity
    from serving.run import running
    from serving.samples import SAMPLE, parity_samples

    say = TerminalProgress().say
    bundle, _ = describe(lab, model, say, device, compute_type)
    samples = parity_samples(lab, model, bundle.digest, bundle.task, sample or SAMPLE)
    key = os.environ.get(API_KEY)
    if url is not None:
        report = check_parity(url.rstrip("/").removesuffix("/v1"), model, bundle.digest, samples, key=key, say=say)
    else:
        store = store_of(lab)
        bento = find_packaged(lab, store, model, say, device, compute_type)
        if bento is None:
            raise StateError(f"{model} is not packaged as it is now.", f"Run: modellab package {model}")
        say(f"Starting {bento.tag}")
        with running(store, bento, log_path(store, bento)) as (address, _):
            report = check_parity(address, model, bundle.digest, samples, key=key, say=say)
    if json_:
        print_json(report.model_dump(mode="json") | {"passed": report.passed})
    else:
        print_parity(report)
    if not report.passed:
        raise typer.Exit(EXIT_DIFFERENT)


def _in_production(lab: Lab, model: str) -> tuple[str, Bento | None]:
    """Take a task for the model in production for it, and find its package; another name stays as it is."""
    from models.errors import StateError
    from registry.stages import production_model, production_version, read_state, task_named
    from serving.package import describe
    from serving.release import production_package

    task = task_named(model)
    if task is None:
        return model, None
    state = read_state(lab)
    card, version = production_model(task, lab.cards(), state), production_version(state, task)
    if card is None:
        raise StateError(f"No model is in production for {task}.", "Run: modellab promote MODEL --to production")
    if version is None:
        return card.name, None
    bento = production_package(lab, version)
    if bento is None and describe(lab, card.name, TerminalProgress().say)[0].digest != version.version:
        raise StateError(
            f"{version} is in production for {task}, its package is not here, and {card.name} has changed since.",
            "Bring back the package, or the card, weights and libraries that it was released with.",
        )
    return card.name, bento


def store_of(lab: Lab) -> Store:
    """Give the lab's Bento store."""
    from serving.store import Store

    return Store(lab.home.root / "bentoml")


def _package(
    lab: Lab,
    store: Store,
    model: str,
    device: str | None = None,
    compute_type: str | None = None,
    sample: int | None = None,
) -> Packaged:
    from serving.package import package as build
    from serving.samples import SAMPLE

    say = TerminalProgress().say
    return build(lab, store, model, say, device=device, compute_type=compute_type, sample=sample or SAMPLE)


def print_parity(report: ParityReport) -> None:
    """Print what came of a parity check."""
    said = f"{len(report.checked) - len(report.different)} of {len(report.checked)} answers are those that were tested"
    out.print(f"[{'green' if report.passed else 'red'}]parity {'passed' if report.passed else 'failed'}[/]: {said}")
    for item in report.different[:SHOWN]:
        out.print(f"  {item.id}: expected {item.expected!r}, found {item.found!r}", markup=False)


def _announce(bentos: Mapping[str, Bento], url: str, log: Path, *, as_json: bool) -> None:
    model, bento = next(iter(bentos.items()))
    if as_json:
        tags = {name: other.tag for name, other in bentos.items()}
        print_json({"url": url, "tag": bento.tag, "model": model, "models": tags, "log": str(log)})
        return
    names, are = ", ".join(bentos), "is" if len(bentos) == 1 else "are"
    out.print(f"{names} {are} served on {url} (docs: {url}/docs, log: {log}). Ctrl-C stops it.", markup=False)
    if keys := os.environ.get(VARIABLE):
        out.print(f"A key is needed: one of {keys} (modellab keys add NAME).", markup=False)
    for model, bento in bentos.items():
        _show_calls(bento, model, url)


def _show_calls(bento: Bento, model: str, url: str) -> None:
    if bento.labels.get("task") == "tts":
        import httpx2

        from models.errors import StateError
        from serving.parity import default_voice

        voice = "VOICE"
        with httpx2.Client(base_url=url, trust_env=False) as client, contextlib.suppress(StateError):  # it may want a key
            voice = default_voice(client, model)
        body = f'{{"model": "{model}", "voice": "{voice}", "input": "Hello.", "response_format": "wav"}}'
        curl = f"curl {url}/v1/audio/speech -H 'Content-Type: application/json' -d '{body}' -o hello.wav"
        call = f'client.audio.speech.create(model="{model}", voice="{voice}", input="Hello.").write_to_file("hello.mp3")'
    else:
        curl = f"curl {url}/v1/audio/transcriptions -F model={model} -F file=@recording.wav"
        call = f'print(client.audio.transcriptions.create(model="{model}", file=open("recording.wav", "rb")).text)'
    out.print(f"\n{curl}\n", markup=False)
    out.print(f'from openai import OpenAI\nclient = OpenAI(base_url="{url}/v1", api_key="none")\n{call}', markup=False)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for Ctrl-C, or for the service to end by itself."""
    from models.errors import StateError

    try:
        code = process.wait()
    except KeyboardInterrupt:
        TerminalProgress().say("Stopping: what is in flight is finished")
        return
    raise StateError(f"The service ended by itself (exit code {code}).", "See its log.")
