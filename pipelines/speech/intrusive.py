"""Measures against a reference: the same signal before something was done to it, sample by sample.

They judge a codec, a channel or a service that should say what the model said. Another reading of the text, a person's
too, is no reference: it is not aligned, and the number would mean nothing.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from models.errors import AudioError
from pipelines.speech.libraries import library
from pipelines.speech.signal import FloatSamples


def stoi(samples: FloatSamples, reference: FloatSamples, sample_rate_hz: int) -> float | None:
    """Measure short-time objective intelligibility (Taal et al. 2011, through pystoi): correlation of envelopes, at most 1.

    Args:
        samples: Shape (n,).
        reference: The same signal undisturbed, (n,), at the same rate.
        sample_rate_hz: Of both.

    Returns:
        None where fewer than 30 frames (0.4 s) of the reference are speech.

    Raises:
        AudioError: The two are not equally long, so not aligned.
        LabError: pystoi is not installed.
    """
    if samples.shape != reference.shape:
        raise AudioError(
            f"A reference has {len(reference)} samples, the recording {len(samples)}.",
            "STOI compares sample by sample: give the same signal as it was before, not another reading of the text.",
        )
    pystoi = library("pystoi")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames")  # else it returns 1e-5, like unintelligible speech
        try:
            found = float(pystoi.stoi(reference, samples, sample_rate_hz))
        except (RuntimeWarning, np.exceptions.AxisError):  # the latter where not one frame is left
            return None
    return found if math.isfinite(found) else None
