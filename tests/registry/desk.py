"""A lab for tests of the lifecycle: no models, no Bentos, but the real database and the real MLflow registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipelines import tracking
from pipelines.home import write_atomically
from pipelines.lab import Lab, Layout
from registry import lifecycle
from registry.evidence import approve_on_evidence, circumstances
from registry.history import History, open_history
from registry.identity import Actor, named
from registry.requests import open_request
from registry.state import Evidence, Request, Version
from registry.versions import FINGERPRINT, model_name
from serving.parity import Difference, ParityReport
from serving.release import Packed

POLICY = "gate:\n  rules:\n  - {name: usable, kind: absolute, metric: wer, max: 0.25}\n"
VERSIONS = {
    name: Version(model=name, version=(f"{number:x}" * 64)[:64]) for number, name in enumerate(["old", "new", "other"], 1)
}
OLD, NEW, OTHER = VERSIONS.values()


def person(name: str) -> Actor:
    return named(name, "option")


ADA, BOB = person("ada"), person("bob")


def make_lab(root: Path, uri: str | None) -> Lab:
    """Make an empty lab whose database is in its home, or at an address."""
    (root / "home").mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    (root / "params.yaml").write_text(POLICY)
    return Lab(project=root, home_folder=root / "home", mlflow_uri=uri, layout=Layout(workers=1, threads=1))


def register_versions(lab: Lab) -> None:
    """Make an MLflow version of each, without anything in it."""
    client = tracking.connect(lab)
    client.create_registered_model(model_name("asr"))
    for version in VERSIONS.values():
        client.create_model_version(model_name("asr"), "file:///nowhere", tags={FINGERPRINT: version.version})


def start(lab: Lab) -> History:
    """Begin with the old version in production and the others as candidates."""
    history = open_history(lab)
    lifecycle.bootstrap(history, "asr", OLD, {})
    for version in (NEW, OTHER):
        lifecycle.to_candidate(history, "asr", version, "experimental", ADA, {})
    return history


def evidence(lab: Lab, candidate: Version, production: Version | None, **changes: Any) -> Evidence:
    """Write the result of a comparison that passed, and bind it."""
    from models.audio import file_sha256

    run = f"{candidate.model}-against-{production.model if production else 'nothing'}"
    path = lab.home.comparisons / run / "comparison.json"
    if not path.is_file():  # several processes may write it at once: it appears whole
        write_atomically(path, "{}")
    now = circumstances(lab, "asr")
    known = {
        "verdict": "pass", "comparison": run, "content": file_sha256(path), "report": "report.html",
        "data_version": now.data_version, "policy_digest": now.policy_digest,
        "candidate": candidate, "production": production,
    }  # fmt: skip
    return Evidence.model_validate({**known, **changes})


def ask(lab: Lab, candidate: Version = NEW, production: Version | None = OLD, actor: Actor = ADA, **changes: Any) -> Request:
    return open_request(open_history(lab), "asr", actor, "better", evidence(lab, candidate, production, **changes))


def approved(lab: Lab, candidate: Version = NEW, production: Version | None = OLD) -> Request:
    return approve_on_evidence(lab, ask(lab, candidate, production).id, BOB, "looks good")[0]


class Doubles:
    """Packages that are empty folders, written whole or not at all, and answers that are right unless told otherwise."""

    def __init__(self, folder: Path, different: bool = False) -> None:
        self.folder, self.different = folder, different

    def package(self, what: Version, task: str, comparison: str | None) -> Packed:
        target = self.folder / what.version
        if not target.is_dir():
            partial = self.folder / f".{what.version}"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            partial.rename(target)
        return Packed(tag=f"{what.model}:{what.version[:6]}")

    def parity(self, packed: Packed, what: Version, task: Any) -> ParityReport:
        assert (self.folder / what.version).is_dir(), "what is not packaged cannot be asked"
        different = (Difference(id="a", expected="yes", found="no"),) if self.different else ()
        return ParityReport(
            model=what.model, url="", fingerprint=what.version, task=task, checked=("a", "b"), different=different
        )
