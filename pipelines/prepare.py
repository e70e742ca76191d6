"""From a request to a plan: which model, which recordings, what is known already and what must be inferred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from models.card import ModelCard, find_card
from models.engine import Placement, placement_of
from models.errors import CardError, CorpusError, unknown_name
from models.fingerprint import ModelFingerprint, model_fingerprint
from models.types import Record, Task
from models.weights import fetch
from pipelines.corpus import Corpus, corpus_tasks, find_corpus, list_corpora, parse_slice, select
from pipelines.dataversion import recorded_version
from pipelines.inference import EngineSpec
from pipelines.lab import Lab
from pipelines.normalize import find_normalizer
from pipelines.policy import read_policy
from pipelines.progress import listener
from pipelines.prompts import Prompt, PromptCorpus, find_prompts
from pipelines.store import PredictionStore
from pipelines.tracking import download_artifacts
from pipelines.transcribe import Plan, Selection, plan, select_items, transcribe_shard
from pipelines.types import Utterance
from pipelines.workers import WorkerPool

Say = Callable[[str], None]
EVALUATED: tuple[Task, ...] = ("asr", "tts")
"""Tasks that can be evaluated."""


class EvaluationRequest(Record):
    """What to evaluate, as typed on the command line or given to the flow."""

    model: str
    """The card's name."""
    corpora: tuple[str, ...] = ()
    """Names under ``data/`` or paths; empty for every corpus with the model's task."""
    slices: tuple[str, ...] = ()
    """``key=value``, all of which must match."""
    limit: int | None = None
    """The first K recordings of each corpus; None for all."""
    device: str | None = None
    """Device instead of the default, ``cpu``."""
    compute_type: str | None = None
    """Number format instead of the card's."""
    task: Task | None = None
    """What to evaluate of a model that does several; None for the card's first."""
    normalizer: str | None = None
    """Preset for every utterance, instead of what the corpora choose; stored predictions are scored anew by it."""

    @property
    def selection(self) -> dict[str, str]:
        """What narrows the data, for the result."""
        out: dict[str, str] = {}
        if self.slices:
            out["slice"] = " and ".join(self.slices)
        if self.limit is not None:
            out["limit"] = str(self.limit)
        if self.normalizer is not None:
            out["normalizer"] = self.normalizer
        return out


@dataclass(frozen=True)
class Resolved:
    """A request whose model is known and ready to be loaded."""

    request: EvaluationRequest
    card: ModelCard
    task: Task
    spec: EngineSpec
    fingerprint: ModelFingerprint


@dataclass(frozen=True)
class Prepared(Resolved):
    """Everything an evaluation of a recogniser needs before the first inference."""

    corpora: tuple[str, ...]
    selection: Selection
    store: PredictionStore
    plan: Plan


def resolve(lab: Lab, request: EvaluationRequest, task: Task, say: Say) -> Resolved:
    """Find the model and get its weights.

    Raises:
        CardError: The model is unknown or does not do the task.
        WeightsError: No source has the weights.
    """
    cards = lab.cards()
    card = find_card(request.model, cards)
    placement = placement_of(card, request.device, request.compute_type, lab.layout.threads)
    located = fetch(card, cards, lab.home.weights, say, partial(download_artifacts, lab))
    fingerprint = model_fingerprint(card, placement, located.sha256, task)
    return Resolved(
        request=request,
        card=card,
        task=task,
        spec=EngineSpec(card, located.folder, placement, fingerprint.digest, task),
        fingerprint=fingerprint,
    )


def prepare(lab: Lab, request: EvaluationRequest, say: Say) -> Prepared:
    """Resolve a request to transcribe; fetches the weights if they are not there.

    Raises:
        CardError: The model is unknown or has no recognition task.
        CorpusError: A corpus is unknown or broken, or the slice is empty.
        WeightsError: No source has the weights.
    """
    card = find_card(request.model, lab.cards())
    # Corpora first: a typo in a corpus's name should not wait for a download.
    chosen = choose_corpora(lab, request, "asr")
    selection = select_items(chosen, card, request.normalizer)
    return with_plan(lab, resolve(lab, request, "asr", say), tuple(corpus.name for corpus, _ in chosen), selection)


def with_plan(lab: Lab, resolved: Resolved, corpora: tuple[str, ...], selection: Selection) -> Prepared:
    """Look into the store, and plan what it lacks."""
    store = PredictionStore(lab.home.predictions, resolved.fingerprint.digest)
    return Prepared(
        **vars(resolved),
        corpora=corpora,
        selection=selection,
        store=store,
        plan=plan(selection.items, "asr", store),
    )


def workers_for(lab: Lab, items: int) -> int:
    """Worker processes that so many recordings or texts can keep busy."""
    return min(lab.layout.workers, items)


def begin_early(lab: Lab, request: EvaluationRequest) -> None:
    """Start the workers of an evaluation that is about to run, if it has anything to infer, and give them work.

    They load their engines and transcribe while the caller imports the orchestrator, which takes over a second.
    """
    if task_of(lab, request) != "asr":
        return
    prepared = prepare(lab, request, listener.get().say)
    if prepared.plan.shards:
        workers = workers_for(lab, prepared.plan.recordings)
        shards = prepared.plan.shards[: lab.layout.shards_in_flight]
        WorkerPool.begin(prepared.spec, workers, shards, partial(transcribe_shard, prepared.store))
        _begun[lab, request] = prepared


def begun_early(lab: Lab, request: EvaluationRequest) -> Prepared | None:
    """Take the plan that `begin_early` made and works on; None where it did not."""
    return _begun.pop((lab, request), None)


_begun: dict[tuple[Lab, EvaluationRequest], Prepared] = {}


def check_request(lab: Lab, request: EvaluationRequest) -> None:
    """Refuse a request that cannot be met before anything is started for it.

    Raises:
        CardError: The model is unknown, or has no such device.
        CorpusError: A corpus is unknown or broken, the slice is empty, or ``data.dvc`` is broken.
        PolicyError: ``params.yaml`` is wrong.
    """
    card = find_card(request.model, lab.cards())
    placement_of(card, request.device, request.compute_type, lab.layout.threads)
    task = task_of(lab, request)
    read_policy(lab.params, task)
    if lab.pinned is None:
        recorded_version(lab.project)
    if request.normalizer is not None:
        find_normalizer(request.normalizer)
    if task == "asr":
        choose_corpora(lab, request, task)
    else:
        choose_prompts(lab, request)


def task_of(lab: Lab, request: EvaluationRequest) -> Task:
    """The task that a request is about: as asked for, else the first of the card's that can be evaluated.

    Raises:
        CardError: The model is unknown, or does no such task.
    """
    card = find_card(request.model, lab.cards())
    if request.task is not None:
        if request.task not in card.tasks or request.task not in EVALUATED:
            raise CardError(*unknown_name(f"task of {card.name} that can be evaluated", request.task, _evaluated(card)))
        return request.task
    if not (known := _evaluated(card)):
        raise CardError(
            f"{card.name} does {', '.join(card.tasks)}; evaluation knows {' and '.join(EVALUATED)}.",
            "Choose a model that transcribes or speaks.",
        )
    return known[0]


def _evaluated(card: ModelCard) -> list[Task]:
    return [task for task in card.tasks if task in EVALUATED]


def choose_prompts(lab: Lab, request: EvaluationRequest) -> list[tuple[PromptCorpus, Sequence[Prompt]]]:
    """Read the prompt corpora of a request, and choose from each; as `choose_corpora`."""
    names = request.corpora or [name for name in list_corpora(lab.data) if "tts" in corpus_tasks(lab.data / name)]
    if not names:
        raise CorpusError(f"{lab.data} holds no prompts.", "Run `dvc pull` first, or name a corpus with the task tts.")
    chosen: list[tuple[PromptCorpus, Sequence[Prompt]]] = []
    for name in names:
        corpus = find_prompts(name, lab.data)
        prompts = select(corpus.prompts, [parse_slice(text) for text in request.slices])
        chosen.append((corpus, prompts[: request.limit]))
    _refuse_twice([corpus.name for corpus, _ in chosen])
    return chosen


def choose_corpora(lab: Lab, request: EvaluationRequest, task: Task) -> list[tuple[Corpus, Sequence[Utterance]]]:
    """Read the corpora of a request, and choose from each.

    Raises:
        CorpusError: A corpus is unknown, broken or named twice, or the slice is empty.
    """
    chosen: list[tuple[Corpus, Sequence[Utterance]]] = []
    for name in request.corpora or _corpora_for(lab, task):
        corpus = find_corpus(name, lab.data, [parse_slice(text) for text in request.slices])
        chosen.append((corpus, corpus.utterances[: request.limit]))
    _refuse_twice([corpus.name for corpus, _ in chosen])
    return chosen


def _refuse_twice(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise CorpusError(f"A corpus is named twice: {', '.join(names)}.", "Name each once.")


def describe_model(prepared: Resolved) -> dict[str, Any]:
    """The model's fingerprint as it goes into results."""
    return {**prepared.fingerprint.model_dump(mode="json"), "digest": prepared.fingerprint.digest}


def with_threads(spec: EngineSpec, threads: int) -> EngineSpec:
    """The same engine with another number of threads."""
    placement = Placement(spec.placement.device, spec.placement.compute_type, threads)
    return EngineSpec(spec.card, spec.weights, placement, spec.fingerprint, spec.task)


def _corpora_for(lab: Lab, task: Task) -> Sequence[str]:
    names = [name for name in list_corpora(lab.data) if task in corpus_tasks(lab.data / name)]
    # An empty folder is answered by the look-up of a name, which says `dvc pull`.
    return names or ["starter"]
