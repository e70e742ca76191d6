"""Weights groups, and planning from what there is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from models.card import read_cards
from pipelines.metrics import METRICS
from pipelines.planning import Plan, plan_without_models
from pipelines.witnesses import weights_group


@pytest.mark.parametrize(
    ("model", "group"),
    [
        ("faster-whisper-base", "faster-whisper-base"),
        ("whisper-base", "faster-whisper-base"),
        ("faster-whisper-base-float32", "faster-whisper-base"),
        ("whisper-tiny.en", "faster-whisper-tiny.en"),
        ("gone", "gone"),
    ],
)
def test_models_converted_from_one_card_share_its_group(model: str, group: str) -> None:
    assert weights_group(model, read_cards()) == group


def test_more_speakers_detect_smaller_differences() -> None:
    detectable = [
        plan_without_models([20] * (5 * speakers), np.repeat(np.arange(speakers), 5), None, alpha=0.025).detectable
        for speakers in (10, 40, 160)
    ]
    assert detectable[0] > detectable[1] > detectable[2] > 0
    # The standard error falls with the root of the number; few speakers pay for not knowing the spread on top.
    assert 1.8 < detectable[1] / detectable[2] < 3.5


def test_the_plan_for_a_margin_is_the_detectable_difference_turned_round() -> None:
    blocks = np.repeat(np.arange(40), 5)
    plan = plan_without_models([20] * 200, blocks, None, alpha=0.025)
    at_it = plan_without_models([20] * 200, blocks, plan.detectable * 1.001, alpha=0.025)
    beyond = plan_without_models([20] * 200, blocks, plan.detectable / 2, alpha=0.025)
    assert at_it.blocks_needed is not None and at_it.blocks_needed <= 40
    assert beyond.blocks_needed is not None and 100 < beyond.blocks_needed < 240
    assert beyond.utterances_needed == 5 * beyond.blocks_needed


def test_one_speaker_detects_nothing() -> None:
    plan = plan_without_models([20, 20], np.array([0, 0]), 0.01, alpha=0.025)
    assert not np.isfinite(plan.detectable)
    assert plan.sentence(METRICS["wer"]) == ""


def test_a_plan_is_told_in_points() -> None:
    plan = Plan(0.015, 0.01, 16, 55, 34, 117)
    assert plan.sentence(METRICS["wer"]) == (
        "With 16 speakers this data can tell 1.5 points; 1 points would need about 34 speakers (117 recordings) like these"
    )


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (
            Plan(0.05, 0.01, 30, 30, 800, 800),
            "With 30 prompts this data can tell 5 points; 1 points would need about 800 prompts",
        ),
        (
            Plan(0.05, 0.01, 6, 30, 50, 250),
            "6 groups of prompts this data.* about 50 groups of prompts \\(250 prompts\\) like",
        ),
        (Plan(0.05, 0.0001, 30, 30, 10_001, 10_001), "would need over 10000 groups of prompts like these"),
        (Plan(0.05, 0.1, 30, 30, 9, 9), "With 30 prompts this data can tell 5 points, enough for 10 points"),
    ],
)
def test_a_plan_for_voices_counts_prompts(plan: Plan, told: str) -> None:
    assert re.search(told, plan.sentence(METRICS["roundtrip_wer"]))
    assert "speaker" not in plan.sentence(METRICS["roundtrip_wer"])
