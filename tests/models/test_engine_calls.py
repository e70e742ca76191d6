"""How engines are called: from several threads, side by side, the first time, and no more often than needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from models.card import ModelCard
from models.engine import Placement, build_engine, calls_at_once, placement_of
from models.engines.faster_whisper import FasterWhisper
from models.engines.openai_whisper import OpenAIWhisper
from tests.models.test_engines import BOTH, Clip, Engines


@pytest.mark.real
@pytest.mark.parametrize("name", BOTH)
def test_one_engine_serves_two_threads_without_mixing_them(name: str, engine: Engines, clip: Clip) -> None:
    samples = [clip("harvard-spk1-snt1.wav"), clip("harvard-spk2-snt3.wav")] * 2

    def transcribe(one: NDArray[np.float32]) -> str:
        return engine(name).transcribe(one, language="en").text

    alone = [transcribe(one) for one in samples]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(transcribe, samples)) == alone


@pytest.mark.real
def test_calls_side_by_side_hear_what_one_call_hears(
    cards: dict[str, ModelCard], weights_of: Callable[[str], Path], engine: Engines, clip: Clip
) -> None:
    card = cards["faster-whisper-tiny.en"]
    both = build_engine(card, weights_of(card.name), replace(placement_of(card, threads=2), calls=2))
    samples = [clip("harvard-spk1-snt1.wav"), clip("harvard-spk2-snt3.wav")] * 2
    alone = [engine(card.name).transcribe(one, language="en").text for one in samples]
    with ThreadPoolExecutor(2) as pool:
        assert [heard.text for heard in pool.map(lambda one: both.transcribe(one, language="en"), samples)] == alone


WAITING = """
import os, sys
from pathlib import Path
from models.card import read_cards
from models.engine import Placement, build_engine
build_engine(read_cards()[sys.argv[1]], Path(sys.argv[2]), Placement("cpu", "int8", 2, calls=int(sys.argv[3])))
print(os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.real
@pytest.mark.parametrize(("calls", "spins"), [(1, True), (2, False)])
def test_threads_of_calls_side_by_side_wait_without_spinning(
    calls: int, spins: bool, weights_of: Callable[[str], Path]
) -> None:
    """OpenMP tells what it was loaded with; a single call's threads spin, for that is faster."""
    name = "faster-whisper-tiny.en"
    command = [sys.executable, "-c", WAITING, name, str(weights_of(name)), str(calls)]
    variables = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    variables["OMP_DISPLAY_ENV"] = "verbose"
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120)
    assert ("GOMP_SPINCOUNT = '0'" not in done.stderr) is spins and "GOMP_SPINCOUNT" in done.stderr
    assert done.stdout.split() == ["None"], "what is loaded later is not told"


@pytest.mark.parametrize(
    ("name", "device", "threads", "calls"),
    [
        ("faster-whisper-tiny.en", "cpu", 1, 1),
        ("faster-whisper-tiny.en", "cpu", 2, 2),
        ("faster-whisper-tiny.en", "cpu", 64, 4),
        ("faster-whisper-tiny.en", "cuda", 8, 1),
        ("hibari", "cpu", 8, 8),
        ("whisper-tiny.en", "cpu", 8, 1),
        ("lfm2.5-audio", "cpu", 8, 1),
    ],
)
def test_an_engine_says_how_many_calls_at_once_help(
    name: str, device: str, threads: int, calls: int, cards: dict[str, ModelCard]
) -> None:
    compute_type = cards[name].devices[device].compute_type
    assert calls_at_once(cards[name], Placement(device, compute_type, threads)) == calls


@pytest.mark.real
def test_openai_whisper_encodes_a_window_once_for_decoding_and_alignment(engine: Engines, clip: Clip) -> None:
    heard = engine("whisper-tiny.en")
    assert isinstance(heard, OpenAIWhisper)
    asked: list[bytes] = []
    encoded: list[int] = []
    hooks = [
        heard._encoder.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[0].numpy().tobytes())),
        heard._encoder.encoder.register_forward_hook(lambda *args: encoded.append(1)),
    ]
    try:
        heard.transcribe(clip("harvard-spk1-snt1.wav"), language="en")
        windows = len(set(asked))
        assert len(encoded) == windows < len(asked)
        heard.transcribe(clip("harvard-spk1-snt1.wav"), language="en")
        assert len(encoded) == 2 * windows  # hearing it again is work again, or speed would be overstated
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.real
def test_faster_whisper_warms_up_on_a_second_of_features_and_hears_the_same_afterwards(
    engine: Engines, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `transcribe` encodes are the 30 s of Whisper's window, whose cost the warm-up is there to avoid."""
    warmed = engine("faster-whisper-tiny.en")
    assert isinstance(warmed, FasterWhisper)
    samples = clip("harvard-spk1-snt1.wav")
    before = warmed.transcribe(samples, language="en")
    encode, widths = warmed._model.encode, []

    def noting(features: NDArray[np.float32]) -> Any:
        widths.append(features.shape[-1])
        return encode(features)

    monkeypatch.setattr(warmed._model, "encode", noting)
    warmed.warm_up()
    assert widths == [100]
    assert warmed.transcribe(samples, language="en") == before
    assert set(widths[1:]) == {3000}


@pytest.mark.real
def test_openai_whisper_warms_up_without_encoding_and_hears_the_same_afterwards(
    engine: Engines, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence never reaches the aligner, which is compiled at its first word: the first recording would wait for it."""
    from whisper.timing import dtw_cpu

    warmed = engine("whisper-tiny.en")
    assert isinstance(warmed, OpenAIWhisper)
    samples = clip("harvard-spk1-snt1.wav")
    before = warmed.transcribe(samples, language="en")
    with monkeypatch.context() as patch:
        patch.setattr(warmed._encoder.encoder, "forward", _refuse)
        patch.setattr("whisper.timing.dtw_cpu", aligned := Mock(wraps=dtw_cpu))
        warmed.warm_up()
    aligned.assert_called_once()
    assert warmed._encoder.window is None, "a window that was never encoded is remembered as if it were"
    assert warmed.transcribe(samples, language="en") == before


def _refuse(*arguments: object) -> None:
    raise AssertionError("the warm-up encodes a window")
