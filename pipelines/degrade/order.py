"""From what a person asks for to variants of a corpus: `modellab corpus degrade`, and the stages of ``dvc.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.errors import CorpusError
from pipelines.corpus import Corpus, find_corpus
from pipelines.degrade.build import Order, build
from pipelines.degrade.effects import Means
from pipelines.degrade.recipe import Recipe, VariantReport, libraries, sounds_used
from pipelines.degrade.sounds import SoundFile, find_sounds
from pipelines.degrade.steps import VARIANT, DegradeParams, Step, read_degrade
from pipelines.lab import Lab
from pipelines.progress import listener


def degrade_corpus(
    lab: Lab,
    name: str,
    variants: Sequence[str] = (),
    *,
    noise: Path | None = None,
    rooms: Path | None = None,
    into: Path | None = None,
) -> list[VariantReport]:
    """Make variants of a corpus.

    Args:
        lab: The project.
        name: The corpus, by name or path.
        variants: Which of ``params.yaml``; none for all.
        noise: A folder of noises, or one, instead of the policy's.
        rooms: A folder of impulse responses, or one, instead of the policy's.
        into: Folder for the new corpora; None for where ``--corpus`` finds them by name.

    Raises:
        PolicyError: ``params.yaml`` is wrong, or a variant is not in it.
        CorpusError: The corpus is unknown, broken, or a variant itself; or there is no noise or no room.
    """
    params = read_degrade(lab.params)
    chosen = {variant: params.find(variant) for variant in variants or params.variants}
    corpus = find_corpus(name, lab.data)
    _refuse_variants(corpus)
    means = gather_means(lab, params, [step for steps in chosen.values() for step in steps], noise, rooms)
    told = listener.get()
    reports = []
    for variant, steps in chosen.items():
        order = Order(
            corpus,
            Recipe(
                source=corpus.name,
                variant=variant,
                steps=steps,
                seed=params.seed,
                sounds=sounds_used(steps, means),
                libraries=libraries(),
            ),
            means,
            (into or lab.derived).expanduser().resolve(),
        )
        told.start(variant, len(corpus.utterances))
        try:
            reports.append(build(order, lab.layout.workers * lab.layout.threads, told.advance))
        finally:
            told.finish()
    return reports


def gather_means(lab: Lab, params: DegradeParams, steps: Sequence[Step], noise: Path | None, rooms: Path | None) -> Means:
    """Find the noises and rooms that the steps need.

    Raises:
        CorpusError: There are none.
    """
    kinds = {step.kind for step in steps}

    def sounds(kind: str, given: Path | None, usual: Path) -> tuple[SoundFile, ...]:
        if kind not in kinds:
            return ()
        option = "--noise" if kind == "noise" else "--rooms"
        path = lab.project / usual if given is None else given.expanduser()
        return find_sounds(path, "noise" if kind == "noise" else "rooms", option)

    return Means(params.seed, sounds("noise", noise, params.noise), sounds("room", rooms, params.rooms))


def _refuse_variants(corpus: Corpus) -> None:
    for utterance in corpus.utterances:
        if utterance.variant_of or VARIANT in utterance.tags:
            raise CorpusError(
                f"{corpus.name} is a variant already: its {utterance.id} has the tag {VARIANT}.",
                "Degrade the corpus that it was made of; a variant in params.yaml can have several steps.",
            )
