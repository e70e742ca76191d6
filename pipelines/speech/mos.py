"""Predicted mean opinion scores: DNSMOS P.835 and P.808, and PLCMOS, as the package speechmos ships them.

These are the only numbers called MOS here. Microsoft trained the first on listeners' votes for noise suppressors (Reddy
et al. 2021, 2022), the last on votes for speech with lost packets and what was put in their place (Diener et al. 2023).
None was trained on voices: they rank noise, distortion and breaks, and know nothing of the text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.speech.libraries import library
from pipelines.speech.signal import FloatSamples

SAMPLE_RATE_HZ = 16_000
"""What the models hear; nothing above 8 kHz counts."""
NAMES = {
    "ovrl_mos": "dnsmos_overall",
    "sig_mos": "dnsmos_signal",
    "bak_mos": "dnsmos_background",
    "p808_mos": "dnsmos_p808",
}
"""speechmos's name → ours."""
PLCMOS_MODEL = "plcmos_v2"
"""The model of the paper without a test set held out, as speechmos names it."""
PLCMOS_MIN_SAMPLES = 5 * 256 + 1
"""What its layers need at least, in steps of 256 samples: 0.08 s."""
RATERS, RATERS_SEED = 15, 0
"""PLCMOS averages over raters drawn at random, 15 unless told otherwise. Drawn anew they move a vote by up to 0.05, so the
same are asked each time."""
THREADS = "OMP_NUM_THREADS"
"""Environment variable by which the lab's processes are told their share of the cores."""


def dnsmos(samples: FloatSamples, sample_rate_hz: int) -> dict[str, float]:
    """Predict what listeners would vote, on a scale from 1 to 5.

    The result is ``speechmos.dnsmos.run`` of the same samples, resampled to 16 kHz by soxr and clipped to [-1, 1], which
    speechmos demands. It hears windows of 9.01 s, one second apart, and averages. A shorter recording is repeated until it
    fills one. Of a longer one, up to the last two seconds may lie in no window.

    Args:
        samples: Shape (n,), n ≥ 1: none at all would repeat for ever.
        sample_rate_hz: Their rate.

    Returns:
        ``dnsmos_overall``, ``dnsmos_signal``, ``dnsmos_background`` (P.835) and ``dnsmos_p808``.

    Raises:
        LabError: speechmos or a library that it needs is not installed.
    """
    votes = scorer()(_as_heard(samples, sample_rate_hz), SAMPLE_RATE_HZ, False)
    return {ours: float(votes[theirs]) for theirs, ours in NAMES.items()}


def plcmos(samples: FloatSamples, sample_rate_hz: int) -> float | None:
    """Predict what listeners would vote of speech that may have breaks in it, on a scale from 1 to 5.

    The result is ``speechmos.plcmos.run`` of the same samples, resampled and clipped as for `dnsmos`, with the same raters
    drawn each time. It hears the whole recording.

    Args:
        samples: Shape (n,), n ≥ 1.
        sample_rate_hz: Their rate.

    Returns:
        None for less than 0.08 s.

    Raises:
        LabError: speechmos or a library that it needs is not installed.
    """
    heard = _as_heard(samples, sample_rate_hz)
    if len(heard) < PLCMOS_MIN_SAMPLES:
        return None
    with _same_raters():
        return float(break_scorer()(heard)["plcmos"])


def _as_heard(samples: FloatSamples, sample_rate_hz: int) -> FloatSamples:
    import soxr

    assert len(samples)
    heard: FloatSamples = np.clip(soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ), -1.0, 1.0)
    return heard


@contextmanager
def _same_raters() -> Iterator[None]:
    """Set NumPy's global generator, which PLCMOS draws from, and leave it as it was."""
    before = np.random.get_state()
    np.random.seed(RATERS_SEED)
    try:
        yield
    finally:
        np.random.set_state(before)


@cache
def scorer() -> Any:
    """Load DNSMOS, once a process, on as many threads as ``OMP_NUM_THREADS`` says, else as ONNX Runtime chooses.

    Returns:
        A ``speechmos.dnsmos.DNSMOS``.

    Raises:
        LabError: speechmos or a library that it needs is not installed.
    """
    shipped = library("speechmos.dnsmos")
    # Its constructor takes no session options, and would use all cores.
    made = shipped.DNSMOS.__new__(shipped.DNSMOS)
    folder = Path(shipped.__file__).parent / "dnsmos_models"
    made.onnx_sess = _session(folder / "sig_bak_ovr.onnx")
    made.p808_onnx_sess = _session(folder / "model_v8.onnx")
    return made


@cache
def break_scorer() -> Any:
    """Load PLCMOS, as `scorer` does DNSMOS.

    Returns:
        A ``speechmos.plcmos.PLCMOS``.

    Raises:
        LabError: speechmos or a library that it needs is not installed.
    """
    shipped = library("speechmos.plcmos")
    made = shipped.PLCMOS.__new__(shipped.PLCMOS)
    made.session = _session(Path(shipped.__file__).parent / "plcmos_models" / f"{PLCMOS_MODEL}.onnx")
    made.model_name, made.embed_rounds, made.max_lens = PLCMOS_MODEL, RATERS, float("inf")
    return made


def _session(path: Path) -> Any:
    onnxruntime = library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get(THREADS, 0))
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def warm_up() -> None:
    """Load the models and let them hear one second, so that no recording's time holds what is paid once a process.

    Raises:
        LabError: As `scorer`.
    """
    noise = np.random.default_rng(0).normal(0, 1e-3, SAMPLE_RATE_HZ).astype(np.float32)
    dnsmos(noise, SAMPLE_RATE_HZ)
    plcmos(noise, SAMPLE_RATE_HZ)
