"""Packaging: one tested model becomes a Bento that runs where there is no checkout of this project.

The Bento's ``src/`` holds the packages ``models`` and ``serving``, and ``model/`` (`serving.bundle`). Nothing is downloaded
at the build: versions are those installed here, which are the ones that the evaluation ran with.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import yaml

import models
import serving
from models.card import ModelCard, find_card
from models.engine import engine_class, interpreter_of, placement_of
from models.errors import EngineError
from models.fingerprint import model_fingerprint
from models.types import Record
from models.weights import Located, fetch, take_verified
from pipelines.confidence import map_path
from pipelines.home import write_atomically
from pipelines.lab import Lab
from pipelines.tracking import download_artifacts
from serving.bundle import BUNDLE, CALIBRATION, CARD, DECISION, PARITY, WEIGHTS, Bundle
from serving.parity import ParityReport, check_parity
from serving.requirements import SERVICE, pinned
from serving.run import running
from serving.samples import SAMPLE, newest_comparison, parity_samples
from serving.store import Bento, Store

BENTOML = "bentoml"
SERVICE_OBJECT = "serving.bento:ModelService"
LAB_ONLY = (
    "export.py",
    "guard.py",
    "package.py",
    "parity.py",
    "release.py",
    "requirements.py",
    "run.py",
    "samples.py",
    "ship.py",
    "store.py",
)
"""Modules of `serving` that package and check; a running service needs none of them."""

PYTHON_VERSION = ".".join(platform.python_version_tuple()[:2])

Say = Callable[[str], None]


class Packaged(Record):
    """What packaging made. `package --json` prints it."""

    model: str
    """The card's name."""
    tag: str
    """The Bento's."""
    path: str
    """Its folder."""
    fingerprint: str
    """Of the model that was tested and packaged."""
    verdict: str
    """What the gate said of this version; ``none`` where it never did."""
    warnings: tuple[str, ...]
    """What a release manager must know."""
    size_mib: float
    """Of the folder."""
    requirements: int
    """Pinned distributions."""
    parity: ParityReport
    """What came of asking the started Bento; if it did not pass, the Bento was deleted again."""


def bento_name(card: ModelCard) -> str:
    """Name of a model's Bentos: BentoML wants lower case."""
    return card.name.lower()


def describe(
    lab: Lab, model: str, say: Say, device: str | None = None, compute_type: str | None = None
) -> tuple[Bundle, Located]:
    """Say what would be packaged; fetches the weights if they are not here.

    Raises:
        CardError: The model is unknown.
        EngineError: Its engine lives in an environment of its own.
        WeightsError: No source has the weights.
    """
    cards = lab.cards()
    card = find_card(model, cards)
    if interpreter_of(card) is not None:
        raise EngineError(
            f"{card.name} lives in the environment {card.environment!r}, and a package runs in one environment only.",
            f"Package it from an installation of modellab in {card.environment!r}.",
        )
    placement = placement_of(card, device, compute_type)
    located = fetch(card, cards, lab.home.weights, say, partial(download_artifacts, lab))
    fingerprints = {task: model_fingerprint(card, placement, located.sha256, task) for task in card.tasks}
    comparison = newest_comparison(lab.home, fingerprints[card.tasks[0]].digest)
    bundle = Bundle(
        card=card,
        device=placement.device,
        compute_type=placement.compute_type,
        fingerprints=fingerprints,
        verdict=comparison.verdict if comparison else "none",
        comparison=comparison.run_id if comparison else None,
        packaged_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return bundle, located


def package(
    lab: Lab,
    store: Store,
    model: str,
    say: Say,
    *,
    device: str | None = None,
    compute_type: str | None = None,
    sample: int = SAMPLE,
    then: Callable[[str], None] = lambda url: None,
) -> Packaged:
    """Build a Bento, start it, and hold its answers to the stored ones; one that differs is deleted.

    Only a Bento that passed has a parity report in it: what a killed process left behind is never taken for checked.

    Args:
        lab: The project.
        store: Where the Bento goes.
        model: The card's name.
        say: Told what is going on.
        device: As it was evaluated; None is the card's default.
        compute_type: Likewise.
        sample: Items of the evaluation to ask for.
        then: Called with the service's address when it has passed, before it is stopped.

    Raises:
        LabError: It cannot be built, does not start, or was never evaluated.
    """
    bundle, located = describe(lab, model, say, device, compute_type)
    # First, for it is quick: what was not evaluated is not packaged.
    samples = parity_samples(lab, model, bundle.digest, bundle.task, sample)
    pins = pinned((*SERVICE, *engine_class(bundle.card).packages))
    bento = build(lab, store, bundle, located, pins, say)
    try:
        say(f"Starting {bento.tag} to hold it to {len(samples)} stored answers")
        with running(store, bento, log_path(store, bento)) as (url, _):
            report = check_parity(url, bundle.card.name, bundle.digest, samples, say=say)
            if report.passed:
                write_atomically(bento.bundle / PARITY, report.model_dump_json(indent=1))
                then(url)
    except BaseException:
        store.delete(bento.tag)
        raise
    if not report.passed:
        store.delete(bento.tag)
    return Packaged(
        model=bundle.card.name,
        tag=bento.tag,
        path=str(bento.path),
        fingerprint=bundle.digest,
        verdict=bundle.verdict,
        warnings=warnings_of(bundle),
        size_mib=size_mib(bento.path),
        requirements=len(pins),
        parity=report,
    )


def build(lab: Lab, store: Store, bundle: Bundle, located: Located, pins: dict[str, str], say: Say) -> Bento:
    """Build a Bento of what was described; nothing is started.

    Raises:
        StateError: BentoML refused.
        WeightsError: A weight file is not the verified one.
    """
    store.home.mkdir(parents=True, exist_ok=True)
    # Beside the store, never around it: a context that holds the store would be copied into itself. And near the weights,
    # which are linked then.
    context = Path(tempfile.mkdtemp(prefix="package-", dir=store.home.parent))
    try:
        say(f"Collecting {bundle.card.name} and {len(pins)} pinned requirements")
        _write_context(lab, context, bundle, located)
        say("Building the Bento")
        return store.build(context, _build_options(bundle, pins))
    finally:
        shutil.rmtree(context, ignore_errors=True)


def find_packaged(
    lab: Lab, store: Store, model: str, say: Say, device: str | None = None, compute_type: str | None = None
) -> Bento | None:
    """Give the newest Bento of exactly this version of a model that passed its parity check; None if there is none."""
    bundle, _ = describe(lab, model, say, device, compute_type)
    return newest_checked(store, bento_name(bundle.card), fingerprint=bundle.digest)


def newest_checked(store: Store, name: str, **labels: str) -> Bento | None:
    """Give the newest Bento of a name, with these labels, that passed its parity check; None without one."""
    return next((bento for bento in store.bentos(name, **labels) if (bento.bundle / PARITY).is_file()), None)


def warnings_of(bundle: Bundle) -> tuple[str, ...]:
    """Say what speaks against promoting what was packaged."""
    if bundle.verdict == "pass":
        return ()
    said = "was never compared" if bundle.verdict == "none" else f"did not pass the gate ({bundle.verdict})"
    return (f"This version of {bundle.card.name} {said}; only what passed may be promoted.",)


def log_path(store: Store, bento: Bento) -> Path:
    """Where a service started from here logs."""
    return store.home / "logs" / f"{bento.tag.replace(':', '-')}.log"


def size_mib(folder: Path) -> float:
    """Size of a folder's files, or of one file, in MiB."""
    if folder.is_file():
        return folder.stat().st_size / 2**20
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _write_context(lab: Lab, context: Path, bundle: Bundle, located: Located) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "cards")
    shutil.copytree(Path(models.__path__[0]), context / "models", ignore=ignore)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", *LAB_ONLY)
    shutil.copytree(Path(serving.__path__[0]), context / "serving", ignore=ignore)
    folder = context / "model"
    (folder / WEIGHTS).mkdir(parents=True)
    for name, digest in located.sha256.items():
        take_verified(located.folder / name, folder / WEIGHTS / name, digest)
    write_atomically(folder / BUNDLE, bundle.model_dump_json(indent=1))
    write_atomically(folder / CARD, _yaml(bundle.card.model_dump(mode="json")))
    calibration = map_path(lab.home, bundle.digest)
    if calibration.is_file():
        shutil.copyfile(calibration, folder / CALIBRATION)
    if bundle.comparison is not None:
        shutil.copyfile(lab.home.comparisons / bundle.comparison / "comparison.json", folder / DECISION)


def _build_options(bundle: Bundle, pins: dict[str, str]) -> dict[str, object]:
    labels = {
        "model": bundle.card.name,
        "fingerprint": bundle.digest,
        "task": bundle.task,
        "verdict": bundle.verdict,
        "comparison": bundle.comparison or "none",
        "licence": bundle.card.licence,
    }
    return {
        "service": SERVICE_OBJECT,
        "name": bento_name(bundle.card),
        "labels": labels,
        "description": _readme(bundle),
        "include": ["models/", "serving/", "model/"],
        # BentoML adds itself. Locking would ask the index for what is known already.
        "python": {
            "packages": [f"{name}=={version}" for name, version in pins.items() if name != BENTOML],
            "lock_packages": False,
        },
        # No system packages: every wheel brings its libraries (a test reads what a running service has mapped).
        "docker": {"python_version": PYTHON_VERSION},
    }


def _readme(bundle: Bundle) -> str:
    """Write the Bento's README.md, which BentoML would otherwise make of badges."""
    said = "was never compared" if bundle.verdict == "none" else f"was compared, with the verdict {bundle.verdict}"
    return f"""# {bundle.card.name}

{bundle.card.summary.rstrip(".")}. Licence: {bundle.card.licence}.

Packaged by modellab at {bundle.packaged_at}. What was tested has the fingerprint `{bundle.digest}`; it {said}.
`src/model/` holds the weights, the card and the evidence; `env/python/requirements.txt` what it needs, for CPython
{PYTHON_VERSION}. It has OpenAI's audio API. Without `MODELLAB_SERVE_API_KEYS_FILE` it serves loopback addresses only.
"""


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
