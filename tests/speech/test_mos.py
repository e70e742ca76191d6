"""DNSMOS and PLCMOS are what speechmos says, from models loaded once, on the threads given, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soxr
from speechmos import dnsmos as speechmos
from speechmos import plcmos as speechmos_plcmos

from pipelines.speech.mos import NAMES, RATERS_SEED, SAMPLE_RATE_HZ, dnsmos, plcmos
from pipelines.speech.signal import FloatSamples
from tests.speech.conftest import Said

pytestmark = pytest.mark.real


def direct(samples: FloatSamples, rate_hz: int) -> dict[str, float]:
    """Speechmos called as its documentation says."""
    heard = np.clip(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ), -1.0, 1.0)
    votes = speechmos.run(heard, sr=SAMPLE_RATE_HZ)
    return {ours: float(votes[theirs]) for theirs, ours in NAMES.items()}


@pytest.mark.parametrize("seconds", [None, 0.5, 12.5])
def test_it_equals_speechmos(said: list[Said], seconds: float | None) -> None:
    """A clip as it is, a short one that speechmos repeats, and a long one of several windows."""
    samples, rate_hz = said[0].samples, said[0].rate_hz
    if seconds is not None:
        samples = np.resize(samples, int(seconds * rate_hz))
    assert dnsmos(samples, rate_hz) == pytest.approx(direct(samples, rate_hz), abs=1e-6)


@pytest.mark.parametrize("seconds", [None, 0.1, 12.5])
def test_plcmos_equals_speechmos_with_the_same_raters(said: list[Said], seconds: float | None) -> None:
    samples, rate_hz = said[0].samples, said[0].rate_hz
    if seconds is not None:
        samples = np.resize(samples, int(seconds * rate_hz))
    heard = np.clip(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ), -1.0, 1.0)
    np.random.seed(RATERS_SEED)
    expected = speechmos_plcmos.run(heard, sr=SAMPLE_RATE_HZ)["plcmos"]
    assert plcmos(samples, rate_hz) == pytest.approx(expected, abs=1e-6)


def test_plcmos_needs_a_few_frames() -> None:
    votes = [plcmos(np.zeros(n, np.float32), SAMPLE_RATE_HZ) for n in (1, 1280, 1281)]
    assert votes[:2] == [None, None] and votes[2] is not None


def test_plcmos_asks_the_same_raters_and_leaves_the_generator_alone(said: list[Said]) -> None:
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    first = plcmos(said[0].samples, said[0].rate_hz)
    assert np.random.random() == expected, "what others draw does not depend on measuring"
    assert plcmos(said[0].samples, said[0].rate_hz) == first


def test_its_models_load_once_on_their_threads_and_ask_no_network(repository: Path) -> None:
    """In a process of its own, from the first import on, in which sockets raise and sessions are counted."""
    code = """
import json, pathlib, socket
def refuse(*arguments, **options): raise SystemExit("NETWORK")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np, onnxruntime
loaded, real = [], onnxruntime.InferenceSession
def count(path, options, **more):
    loaded.append([pathlib.Path(path).name, options.intra_op_num_threads])
    return real(path, options, **more)
onnxruntime.InferenceSession = count
from pipelines.speech.mos import dnsmos, plcmos, warm_up
warm_up()
dnsmos(np.zeros(1000, np.float32), 22050)
plcmos(np.zeros(9000, np.float32), 22050)
print(json.dumps(loaded))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.stdout, done.stderr[-2000:]
    assert json.loads(done.stdout) == [["sig_bak_ovr.onnx", 1], ["model_v8.onnx", 1], ["plcmos_v2.onnx", 1]]
