"""The gate's policy: rules read from ``params.yaml``, validated when loaded, and named by a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.errors import PolicyError, unknown_name
from models.types import Record, Task
from pipelines.metrics import MACHINE_METRICS, TIMED, TIMED_QUANTILES, metrics_of
from pipelines.params import read_section
from pipelines.stats.quantiles import blocks_for_quantile

EVERYTHING = "all"
ANY_VALUE = "*"


class _Rule(Record):
    name: str
    """Unique name, for people."""
    metric: str
    """Name of a metric (docs/metrics.md)."""
    slice: str = EVERYTHING
    """``all``, ``key=value``, or ``key=*`` for every value of the key."""
    min_n: int = Field(default=20, ge=1)
    """Utterances below which the rule is inconclusive."""
    level: float | None = Field(default=None, gt=0.5, lt=1)
    """Two-sided level of this rule's interval; None for the policy's."""
    min_blocks: int = Field(default=1, ge=1)
    """Speakers below which the rule is inconclusive; see docs/gate.md for when one is enough."""

    @model_validator(mode="after")
    def _slice_is_well_formed(self) -> _Rule:
        if self.slice != EVERYTHING and not all(self.slice.partition("=")):
            raise ValueError(f"slice {self.slice!r} must be 'all', 'key=value' or 'key=*'")
        return self


class AbsoluteRule(_Rule):
    """The candidate's own value must be within a limit, whatever the baseline does."""

    kind: Literal["absolute"]
    max: float | None = None
    """Upper limit, for metrics where lower is better."""
    min: float | None = None
    """Lower limit, for metrics where higher is better."""
    judge: Literal["value", "interval"] = "interval"
    """``interval``: the whole interval must be within the limit; ``value``: the point value is enough."""

    @model_validator(mode="after")
    def _one_limit(self) -> AbsoluteRule:
        if (self.max is None) == (self.min is None):
            raise ValueError("an absolute rule has either max or min")
        return self


class NonInferiorityRule(_Rule):
    """The candidate may be worse than the baseline by less than a margin, with confidence."""

    kind: Literal["non_inferiority"]
    margin: float = Field(gt=0)
    """Largest harm that does not matter, in the metric's unit."""


class SuperiorityRule(_Rule):
    """The candidate must be better than the baseline, with confidence."""

    kind: Literal["superiority"]


class RatioRule(_Rule):
    """Candidate over baseline must stay within a limit; for speed and memory, measured side by side."""

    kind: Literal["ratio"]
    slice: Literal["all"] = "all"
    """The recordings that are timed are chosen over all of them."""
    min_blocks: Literal[1] = 1
    """Recordings are what is resampled, see `min_n`."""
    max: float = Field(gt=0)
    """Largest allowed ratio of candidate over baseline."""
    min_n: int = Field(default=8, ge=1)
    """Recordings that must have been timed; loading time and memory are measured once and need none."""


class GapRule(_Rule):
    """The worst-served value of a tag may not be worse than the best-served one by more than a limit."""

    kind: Literal["gap"]
    key: str
    """The tag: accent, gender, bandwidth …"""
    max: float = Field(gt=0)
    """Largest allowed gap, in the metric's unit."""
    min_n: int = Field(default=10, ge=1)
    """Utterances that a group needs to be compared."""


class LossRule(_Rule):
    """On a degraded variant the candidate may lose at most so much against the same recordings as they were."""

    kind: Literal["loss"]
    slice: str = "variant=*"
    """``variant=NAME``, or ``variant=*`` for each that was evaluated."""
    max: float = Field(gt=0)
    """Largest allowed loss, in the metric's unit."""

    @model_validator(mode="after")
    def _slice_is_a_variant(self) -> LossRule:
        if not self.slice.startswith("variant=") or self.slice == "variant=original":
            raise ValueError(f"slice {self.slice!r} of a loss rule must be 'variant=NAME' or 'variant=*'")
        return self


Rule = Annotated[
    AbsoluteRule | NonInferiorityRule | SuperiorityRule | RatioRule | GapRule | LossRule, Field(discriminator="kind")
]


class Policy(Record):
    """``gate:`` in ``params.yaml``."""

    level: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level of every interval (two-sided)."""
    resamples: int = Field(default=2000, ge=200)
    """Bootstrap resamples."""
    seed: int = 1729
    """Seed of the resamples, so that a decision can be made again."""
    timed_recordings: int = Field(default=16, ge=2)
    """Recordings on which ratio rules time both models in turn."""
    many_slices: Literal["holm"] = "holm"
    """How claims of harm in many slices are kept honest (docs/gate.md)."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """All of them must pass."""

    @property
    def digest(self) -> str:
        """Digest of everything above: what a decision was made by."""
        return hashlib.sha256(self.model_dump_json().encode("utf-8")).hexdigest()

    def level_of(self, rule: Rule) -> float:
        """Two-sided level of a rule's interval."""
        return rule.level or self.level

    def alpha_of(self, rule: Rule) -> float:
        """One-sided level of a rule's claims: either end of its interval alone."""
        return (1 - self.level_of(rule)) / 2

    @model_validator(mode="after")
    def _enough_is_timed(self) -> Policy:
        """Refuse a rule that no data could ever decide."""
        for rule in self.rules:
            if isinstance(rule, RatioRule) and (q := TIMED_QUANTILES.get(rule.metric)) is not None:
                needed = blocks_for_quantile(q, self.level_of(rule))
                if self.timed_recordings < needed:
                    raise ValueError(
                        f"rule {rule.name!r} needs {needed} timed recordings for an interval of {rule.metric} at level "
                        f"{self.level_of(rule):g}, and timed_recordings is {self.timed_recordings}"
                    )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Policy:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rule names occur twice: {', '.join(twice)}")
        return self


SECTIONS: Mapping[Task, str] = {"asr": "gate", "tts": "gate_tts"}
"""Task → where its policy stands in ``params.yaml``."""


def read_policy(path: Path, task: Task = "asr") -> Policy:
    """Read and validate the policy of a task in ``params.yaml``.

    Raises:
        PolicyError: The file is missing, broken, or a rule is wrong; the first fault is named.
    """
    section = SECTIONS[task]
    policy = read_section(path, section, Policy, "docs/gate.md", holds=f"holds the rules for {task}")
    metrics = {*metrics_of(task), *MACHINE_METRICS}
    for rule in policy.rules:
        if rule.metric not in metrics:
            message, remedy = unknown_name("metric", rule.metric, metrics)
            raise PolicyError(f"{path.name}: rule {rule.name!r}: {message}", remedy)
        _check_kind(path, rule)
    return policy


def _check_kind(path: Path, rule: Rule) -> None:
    """Refuse a kind that cannot judge the metric: costs are held by ratio rules, the rest by the others."""
    costs = rule.metric in TIMED or rule.metric in MACHINE_METRICS
    if costs == isinstance(rule, RatioRule):
        return
    told = "is a cost, timed side by side" if costs else "is not timed side by side"
    kind = "ratio" if costs else "absolute, non_inferiority, superiority, gap or loss"
    raise PolicyError(
        f"{path.name}: rule {rule.name!r}: {rule.metric} {told}, and {rule.kind} cannot judge it.", f"Use kind: {kind}."
    )
