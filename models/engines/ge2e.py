"""The GE2E speaker encoder on torch: no engine of a task, but the model that says how alike two voices are.

Wan, Wang, Papir and Lopez Moreno 2018, "Generalized end-to-end loss for speaker verification": three LSTM layers over mel
frames, the last state projected to 256 numbers of length 1. The layers, features and windows are those of the package
Resemblyzer 0.1.4, whose weights these are; the package itself cannot live in the lab (`models.speaker_encoder`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import WeightsError

CHANNELS, HIDDEN, LAYERS = 40, 256, 3
"""Mel channels, width of the LSTM and of the embedding, and how many layers there are."""


def checkpoint_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the layers out of Resemblyzer's checkpoint with torch's restricted reader, which runs no code.

    Raises:
        WeightsError: The checkpoint is none, or lacks a layer.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        return {name: state[name].numpy() for name in _layers().state_dict()}
    except Exception as error:  # torch names no type for what it refuses
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise WeightsError(f"{path.name} is no checkpoint of a speaker encoder: {reason}.", "Fetch it again.") from error


class SpeakerEncoder:
    """Turns mel frames of speech into points that lie close together where one speaker spoke."""

    def __init__(self, weights: Path) -> None:
        """Load the weights from a safetensors file.

        Raises:
            WeightsError: The file cannot be read, or is not this model's.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self._layers = _layers()
        try:
            self._layers.load_state_dict(load_file(weights))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise WeightsError(
                f"{weights} does not hold the speaker encoder: {error}.", "Remove it; it is fetched anew."
            ) from error

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed windows of one recording.

        Args:
            windows: Shape (k, frames, 40), k ≥ 1.

        Returns:
            Shape (k, 256), each of length 1.
        """
        import torch

        with torch.inference_mode():
            _, (hidden, _) = self._layers["lstm"](torch.from_numpy(windows))
            points = torch.relu(self._layers["linear"](hidden[-1]))
            return np.asarray(torch.nn.functional.normalize(points, dim=1).numpy())


def _layers() -> Any:
    from torch import nn

    lstm = nn.LSTM(CHANNELS, HIDDEN, LAYERS, batch_first=True)
    return nn.ModuleDict({"lstm": lstm, "linear": nn.Linear(HIDDEN, HIDDEN)}).eval()
