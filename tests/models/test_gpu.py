"""The CUDA path of the engines; runs where a device is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.card import ModelCard
from models.engine import build_engine, placement_of


def cuda_is_there() -> bool:
    import ctranslate2
    import torch

    return bool(torch.cuda.is_available()) and int(ctranslate2.get_cuda_device_count()) > 0


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["faster-whisper-tiny.en", "whisper-tiny.en", "whisper-tiny.en-transformers"])
def test_a_cuda_device_hears_the_same_sentence(
    name: str,
    cards: Mapping[str, ModelCard],
    weights_of: Callable[[str], Path],
    clip: Callable[[str], NDArray[np.float32]],
) -> None:
    if not cuda_is_there():
        pytest.skip("no CUDA device that both torch and CTranslate2 can use: run on a machine with one and CUDA builds")
    card = cards[name]
    engine = build_engine(card, weights_of(name), placement_of(card, "cuda"))
    text = engine.transcribe(clip("jfk-inaugural.flac"), language="en").text
    assert "ask not what your country can do for you" in text.lower()
