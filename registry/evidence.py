"""Evidence: what a promotion rests on, found where it is fresh, and held to what is so now."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from models.audio import file_sha256
from models.errors import StateError
from models.types import Task
from pipelines.dataversion import data_version
from pipelines.decision import Comparison
from pipelines.lab import Lab
from pipelines.policy import read_policy
from pipelines.prepare import EvaluationRequest, choose_corpora, choose_prompts
from pipelines.types import Evaluation
from registry.history import open_history
from registry.identity import Actor, read_rules
from registry.lifecycle import trusted
from registry.requests import Circumstances, approve, find_request
from registry.state import Evidence, Request, Version


def data_identity(lab: Lab) -> str:
    """Name the data as it lies there: DVC's version, and where that does not vouch for it, the digest of every file too.

    Raises:
        CorpusError: ``data.dvc`` is broken.
    """
    version = data_version(lab.project)
    if is_versioned(version):
        return version
    files = sorted(path for path in lab.data.rglob("*") if path.is_file()) if lab.data.is_dir() else []
    lines = (f"{file_sha256(path)}  {path.relative_to(lab.data).as_posix()}\n" for path in files)
    return f"{version}#{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def is_versioned(version: str) -> bool:
    """Whether a data version says all: DVC tracks the data, and the working tree is what it tracks."""
    return len(version) > 16 and not set("+#") & set(version)


def circumstances(lab: Lab, task: Task) -> Circumstances:
    """Say what data and policy are now.

    Raises:
        CorpusError: ``data.dvc`` is broken.
        PolicyError: ``params.yaml`` is wrong.
    """
    return Circumstances(data_version=data_identity(lab), policy_digest=read_policy(lab.params, task).digest)


def read_evaluation(lab: Lab, run_id: str) -> Evaluation | None:
    """Read an evaluation; None where it is not here, or was written by another version of modellab."""
    path = lab.home.evaluations / run_id / "evaluation.json"
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def find_comparison(lab: Lab, task: Task, candidate: Version, production: Version, now: Circumstances) -> Comparison | None:
    """Find the newest comparison of exactly these two, on all of today's data, by today's policy, whatever it says.

    None as well where DVC does not vouch for the data: it might have been other data of the same name.
    """
    if not is_versioned(now.data_version):
        return None
    corpora = default_corpora(lab, candidate.model, task)
    found: list[Comparison] = []
    for path in lab.home.comparisons.glob("*/comparison.json"):
        try:
            comparison = Comparison.model_validate_json(path.read_bytes())
        except ValidationError:
            continue
        if comparison.policy_digest != now.policy_digest or comparison.data_version != now.data_version:
            continue
        sides = {side: read_evaluation(lab, run) for side, run in comparison.evaluations.items()}
        if _is_of(sides.get("candidate"), candidate, corpora) and _is_of(sides.get("baseline"), production, corpora):
            found.append(comparison)
    return max(found, key=lambda comparison: comparison.created_at, default=None)


def default_corpora(lab: Lab, model: str, task: Task) -> tuple[str, ...]:
    """Name the corpora that an evaluation of everything is of."""
    request = EvaluationRequest(model=model, task=task)
    if task == "tts":
        return tuple(corpus.name for corpus, _ in choose_prompts(lab, request))
    return tuple(corpus.name for corpus, _ in choose_corpora(lab, request, task))


def _is_of(evaluation: Evaluation | None, version: Version, corpora: tuple[str, ...]) -> bool:
    return (
        evaluation is not None
        and evaluation.fingerprint.model == version.version
        and not evaluation.selection
        and sorted(evaluation.corpora) == sorted(corpora)
    )


def evidence_of_comparison(
    lab: Lab, comparison: Comparison, candidate: Version, production: Version, now: Circumstances
) -> Evidence:
    """Bind a comparison to what it is about."""
    return Evidence(
        verdict=comparison.verdict,
        comparison=comparison.run_id,
        evaluations=comparison.evaluations,
        content=_content(lab.home.comparisons / comparison.run_id / "comparison.json"),
        report=comparison.report,
        data_version=now.data_version,
        policy_digest=now.policy_digest,
        candidate=candidate,
        production=production,
    )


def evidence_of_evaluation(lab: Lab, evaluation: Evaluation, candidate: Version, now: Circumstances) -> Evidence:
    """Bind an evaluation that met the absolute rules, where nothing is in production to compare with."""
    return Evidence(
        verdict="pass",
        evaluations={"candidate": evaluation.run_id},
        content=_content(lab.home.evaluations / evaluation.run_id / "evaluation.json"),
        report=evaluation.report,
        data_version=now.data_version,
        policy_digest=now.policy_digest,
        candidate=candidate,
        production=None,
    )


def check_unaltered(lab: Lab, evidence: Evidence) -> None:
    """Hold the result file to the digest that was taken of it when the request was opened.

    Raises:
        StateError: It is gone, or another.
    """
    path = (
        lab.home.comparisons / evidence.comparison / "comparison.json"
        if evidence.comparison
        else lab.home.evaluations / evidence.evaluations["candidate"] / "evaluation.json"
    )
    if not evidence.content or _content(path) != evidence.content:
        raise StateError(
            f"The evidence {path} is not what the request was opened on.",
            f"Ask anew: modellab promote {evidence.candidate.model} --to production",
        )


def approve_on_evidence(lab: Lab, request_id: str, actor: Actor, reason: str) -> tuple[Request, bool]:
    """Approve a request after its evidence was found unaltered; the release is to follow. See `registry.requests.approve`.

    Raises:
        RefusedError: They may not, it is theirs, or it is stale.
        StateError: The evidence was altered.
    """
    history = open_history(lab)
    request = find_request(trusted(history.events()), request_id)
    if request.state == "open":
        check_unaltered(lab, request.evidence)
    now = circumstances(lab, request.task)
    return approve(history, request.id, actor, reason, read_rules(lab.params), now)


def _content(path: Path) -> str:
    return file_sha256(path) if path.is_file() else ""
