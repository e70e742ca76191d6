"""The gate's policy is read strictly: a rule that says nothing, or something else than was meant, is refused when loaded."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.errors import PolicyError
from pipelines.metrics import MACHINE_METRICS, TIMED, metrics_of
from pipelines.policy import AbsoluteRule, Policy, read_policy

RULES: dict[str, dict[str, Any]] = {
    "absolute": {"name": "usable", "kind": "absolute", "metric": "wer", "max": 0.25},
    "non_inferiority": {"name": "no worse", "kind": "non_inferiority", "metric": "wer", "margin": 0.02},
    "superiority": {"name": "better", "kind": "superiority", "metric": "cer"},
    "ratio": {"name": "fast", "kind": "ratio", "metric": "rtf", "max": 1.2},
    "gap": {"name": "fair", "kind": "gap", "metric": "wer", "key": "accent", "max": 0.1},
}


def read(tmp_path: Path, *rules: dict[str, Any], **top: Any) -> Policy:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"gate": {**top, "rules": list(rules)}, "evaluate": {"models": ["x"]}}))
    return read_policy(path)


def digest_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return read_policy(path).digest


def test_the_shipped_policy_holds(repository: Path) -> None:
    policy = read_policy(repository / "params.yaml")
    assert {rule.kind for rule in policy.rules} >= {"absolute", "non_inferiority", "ratio"}
    assert policy.level == 0.95


def test_each_kind_is_read_with_its_defaults(tmp_path: Path) -> None:
    policy = read(tmp_path, *RULES.values())
    assert [rule.kind for rule in policy.rules] == list(RULES)
    assert (policy.level, policy.resamples, policy.seed, policy.many_slices) == (0.95, 2000, 1729, "holm")
    assert [(rule.slice, rule.min_n, rule.min_blocks) for rule in policy.rules] == [
        ("all", 20, 1),
        ("all", 20, 1),
        ("all", 20, 1),
        ("all", 8, 1),
        ("all", 10, 1),
    ]
    usable = policy.rules[0]
    assert isinstance(usable, AbsoluteRule) and usable.judge == "interval", "the stricter is the default"


def test_a_rules_level_wins_over_the_policys(tmp_path: Path) -> None:
    policy = read(tmp_path, RULES["absolute"], {**RULES["superiority"], "level": 0.9}, level=0.99)
    assert [policy.level_of(rule) for rule in policy.rules] == [0.99, 0.9]
    assert [policy.alpha_of(rule) for rule in policy.rules] == pytest.approx([0.005, 0.05])


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("absolute", {"max": None}, "either max or min"),
    ("absolute", {"min": 0.1}, "either max or min"),
    ("absolute", {"judge": "guess"}, r"gate\.rules\.0\.absolute\.judge"),
    ("absolute", {"margin": 0.1}, r"margin: Extra inputs"),
    ("absolute", {"metric": "wre"}, r"rule 'usable': There is no metric named 'wre'.*Did you mean 'wer'"),
    ("absolute", {"metric": "rtf"}, r"rtf is a cost, timed side by side, and absolute cannot judge it.*ratio"),
    ("absolute", {"metric": "peak_memory"}, "is a cost"),
    ("absolute", {"max": "a lot"}, r"absolute\.max"),
    ("absolute", {"min_n": 0}, r"min_n"),
    ("absolute", {"min_blocks": 0}, r"min_blocks"),
    ("absolute", {"level": 1.0}, r"level"),
    ("absolute", {"level": 0.5}, r"level"),
    ("absolute", {"slice": "domain"}, "slice 'domain' must be 'all', 'key=value' or 'key="),
    ("absolute", {"slice": "=digits"}, "must be 'all'"),
    ("absolute", {"slice": "domain="}, "must be 'all'"),
    ("absolute", {"slice": "*"}, "must be 'all'"),
    ("absolute", {"slise": "all"}, "slise: Extra inputs"),
    ("absolute", {"name": None}, r"name"),
    ("absolute", {"kind": "guess"}, "guess"),
    ("absolute", {"kind": None}, r"gate\.rules\.0"),
    ("non_inferiority", {"margin": 0}, r"margin: .*greater than 0"),
    ("non_inferiority", {"margin": -0.02}, r"margin: .*greater than 0"),
    ("non_inferiority", {"margin": float("nan")}, r"margin"),
    ("non_inferiority", {"margin": None}, r"margin"),
    ("non_inferiority", {"metric": "latency_p95"}, "is a cost"),
    ("superiority", {"margin": 0.1}, "margin: Extra inputs"),
    ("superiority", {"metric": "load_time"}, "is a cost"),
    ("ratio", {"max": 0}, r"max: .*greater than 0"),
    ("ratio", {"max": -1}, r"max: .*greater than 0"),
    ("ratio", {"metric": "wer"}, r"wer is not timed side by side, and ratio cannot judge it.*absolute, non_inferiority"),
    ("ratio", {"slice": "bandwidth=narrow"}, r"slice: .*'all'"),
    ("ratio", {"min_blocks": 2}, r"min_blocks"),
    ("ratio", {"metric": "latency_p95"}, "needs 72 timed recordings .* at level 0.95, and timed_recordings is 16"),
    ("ratio", {"metric": "latency_p50", "level": 0.9999999}, "needs 25 timed recordings"),
    ("gap", {"key": None}, r"key"),
    ("gap", {"max": 0}, r"max: .*greater than 0"),
    ("gap", {"metric": "rtf"}, "is a cost"),
]


@pytest.mark.parametrize(("kind", "change", "told"), WRONG, ids=[f"{kind} {change}" for kind, change, _ in WRONG])
def test_a_wrong_rule_is_refused_with_its_place(tmp_path: Path, kind: str, change: dict[str, Any], told: str) -> None:
    read(tmp_path, RULES[kind])
    with pytest.raises(PolicyError, match=told):
        read(tmp_path, {key: value for key, value in {**RULES[kind], **change}.items() if value is not None})


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ({"level": 0.4}, r"gate\.level"),
        ({"level": 1}, r"gate\.level"),
        ({"resamples": 10}, r"gate\.resamples: .*200"),
        ({"seed": "x"}, r"gate\.seed"),
        ({"timed_recordings": 1}, r"gate\.timed_recordings"),
        ({"many_slices": "none"}, r"gate\.many_slices: .*holm"),
        ({"resample": 500}, r"gate\.resample: Extra inputs"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_by_name(tmp_path: Path, top: dict[str, Any], told: str) -> None:
    with pytest.raises(PolicyError, match=rf"params\.yaml: {told}"):
        read(tmp_path, RULES["absolute"], **top)


def test_names_are_unique(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="rule names occur twice: usable"):
        read(tmp_path, RULES["absolute"], RULES["ratio"], {**RULES["superiority"], "name": "usable"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gate: [", "is not valid YAML"),
        ("- gate", "is not valid YAML"),
        ("", r"params\.yaml: gate"),
        ("other: 1", r"params\.yaml: gate"),
        ("gate: {rules: []}", r"gate\.rules: .*at least 1"),
        ("gate: {}", r"gate\.rules: Field required"),
        ("gate: 5", r"params\.yaml: gate"),
    ],
)
def test_a_file_without_rules_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PolicyError, match=told):
        digest_of(tmp_path, text)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"params\.yaml does not exist"):
        read_policy(tmp_path / "params.yaml")


def test_every_metric_can_be_judged_by_some_kind(tmp_path: Path) -> None:
    """None is left without a rule: costs have ratio, the rest the others."""
    for metric in (*metrics_of("asr"), *MACHINE_METRICS):
        kind = "ratio" if metric in (*TIMED, *MACHINE_METRICS) else "absolute"
        assert read(tmp_path, {**RULES[kind], "metric": metric}, timed_recordings=72).rules[0].metric == metric


# The digest

LONG = """
# A comment, and an order of its own.
evaluate: {models: [a, b]}
gate:
  rules:
    - {metric: wer, max: 0.250, kind: absolute, name: usable, slice: all, min_n: 20}
    - kind: "ratio"
      name: 'fast'
      metric: rtf
      max: 1.20
  seed: 1729
  level: 0.95
"""
SHORT = """
gate: {rules: [{name: usable, kind: absolute, metric: wer, max: 0.25}, {name: fast, kind: ratio, metric: rtf, max: 1.2}]}
"""


def test_the_digest_is_blind_to_formatting_defaults_and_the_rest_of_the_file(tmp_path: Path) -> None:
    assert digest_of(tmp_path, LONG) == digest_of(tmp_path, SHORT)


OTHER: dict[str, Any] = {
    "name": "another",
    "metric": "mer",
    "slice": "domain=read",
    "min_n": 77,
    "min_blocks": 7,
    "level": 0.8,
    "max": 0.77,
    "min": 0.07,
    "judge": "value",
    "margin": 0.77,
    "key": "gender",
    "kind": "superiority",
}


def variants() -> list[tuple[str, str, dict[str, Any]]]:
    """Every field of every kind of rule, given another value."""
    found = []
    for kind, rule in RULES.items():
        for field in type(Policy.model_validate({"rules": [rule]}).rules[0]).model_fields:
            if field == "kind" or (kind, field) in {("ratio", "slice"), ("ratio", "min_blocks")}:
                continue
            value = "latency_p50" if (kind, field) == ("ratio", "metric") else OTHER[field]
            changed = {**rule, field: value}
            if field == "min":
                del changed["max"]
            found.append((kind, field, changed))
    return found


@pytest.mark.parametrize(("kind", "field", "changed"), variants(), ids=lambda value: value if isinstance(value, str) else "")
def test_the_digest_changes_with_every_field_of_a_rule(
    tmp_path: Path, kind: str, field: str, changed: dict[str, Any]
) -> None:
    assert read(tmp_path, changed).digest != read(tmp_path, RULES[kind]).digest, field


def test_the_digest_changes_with_every_setting_and_with_rules_and_their_order(tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [{}, {"level": 0.9}, {"resamples": 500}, {"seed": 1}, {"timed_recordings": 20}]
    assert {field for change in settings for field in change} | {"rules", "many_slices"} == set(Policy.model_fields)
    policies = [read(tmp_path, RULES["absolute"], **top) for top in settings]
    policies += [read(tmp_path, *rules) for n in (1, 2) for rules in itertools.permutations(list(RULES.values())[1:4], n)]
    assert len({policy.digest for policy in policies}) == len(policies)


def test_a_digest_is_the_same_in_every_process(tmp_path: Path, repository: Path) -> None:
    """An approval is bound to it: it must not depend on the hash seed, or on what was read before."""
    here = digest_of(tmp_path, LONG)
    path = str(tmp_path / "params.yaml")
    code = f"from pathlib import Path; from pipelines.policy import read_policy; print(read_policy(Path({path!r})).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(repository)}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
    assert there.strip() == here and len(here) == 64
