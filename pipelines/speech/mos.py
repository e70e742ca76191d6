"""Predicted mean opinion scores: DNSMOS P.835 and P.808, as the package speechmos ships them.

These are the only numbers called MOS here. Microsoft trained the models on listeners' votes for noise suppressors (Reddy
et al. 2021, 2022), not for voices: they rank noise and distortion well, and know nothing of the text.
"""

from __future__ import annotations

import os
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
    import soxr

    assert len(samples)
    heard = np.clip(soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ), -1.0, 1.0)
    votes = scorer()(heard, SAMPLE_RATE_HZ, False)
    return {ours: float(votes[theirs]) for theirs, ours in NAMES.items()}


@cache
def scorer() -> Any:
    """Load the models, once a process, on as many threads as ``OMP_NUM_THREADS`` says, else as ONNX Runtime chooses.

    Returns:
        A ``speechmos.dnsmos.DNSMOS``.

    Raises:
        LabError: speechmos or a library that it needs is not installed.
    """
    onnxruntime, shipped = library("onnxruntime"), library("speechmos.dnsmos")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get(THREADS, 0))
    options.inter_op_num_threads = 1
    folder = Path(shipped.__file__).parent / "dnsmos_models"

    def session(name: str) -> Any:
        return onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])

    # Its constructor takes no session options, and would use all cores.
    made = shipped.DNSMOS.__new__(shipped.DNSMOS)
    made.onnx_sess = session("sig_bak_ovr.onnx")
    made.p808_onnx_sess = session("model_v8.onnx")
    return made


def warm_up() -> None:
    """Load the models and let them hear one second, so that no recording's time holds what is paid once a process.

    Raises:
        LabError: As `scorer`.
    """
    noise = np.random.default_rng(0).normal(0, 1e-3, SAMPLE_RATE_HZ).astype(np.float32)
    dnsmos(noise, SAMPLE_RATE_HZ)
