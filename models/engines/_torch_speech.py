"""What the voices on PyTorch share: sentence by sentence, with what is random under a seed."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engines._speech import PIECE_CHARS, Speaker, sentences

_GENERATOR = threading.Lock()
"""Held while a voice draws from PyTorch's generator, which is the process's."""


class TorchSpeaker(Speaker):
    """Speaks sentence by sentence; what is random depends on the sentence and the seed alone. One sentence at a time."""

    _threads: int
    _seed: int
    _most_chars = PIECE_CHARS

    def _speak(self, text: str, voice: str, speed: float) -> Iterator[NDArray[np.floating]]:
        for sentence in sentences(text, self._most_chars):
            if any(letter.isalnum() for letter in sentence):  # of "..." alone these models make noise, or fail
                yield self._say_seeded(sentence, voice, speed)

    def _say_seeded(self, sentence: str, voice: str, speed: float) -> NDArray[np.floating]:
        import torch

        with _GENERATOR, torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.set_num_threads(self._threads)  # of the process, so another engine may have changed it
            torch.manual_seed(self._seed)
            samples: NDArray[np.floating] = self._say(sentence, voice, speed).float().numpy()
        return samples

    @abstractmethod
    def _say(self, sentence: str, voice: str, speed: float) -> Any:
        """Speak one sentence: a tensor of shape (n,)."""
