"""The model that MLflow runs: ``mlflow.pyfunc.load_model("models:/modellab-asr@production").predict("recording.wav")``.

MLflow carries this file as it is (models from code, no pickle) beside the package `models` and the verified weights, and
runs it wherever the model is loaded. So it imports nothing else of this project.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from models.audio import decode, file_sha256
from models.calibration_map import CalibrationMap
from models.card import ANY_LANGUAGE, ModelCard
from models.engine import build_engine, placement_of
from models.errors import EngineError, WeightsError
from models.fingerprint import ModelFingerprint, model_fingerprint

FOLDER = "model"
"""Name of the artifact that holds everything."""
PATH, TEXT = "path", "text"
"""Column of a data frame that holds recordings to transcribe, texts to speak."""


class SpeechModel(PythonModel):
    """One version of a recogniser or a voice, with the weights it carries."""

    def load_context(self, context: PythonModelContext) -> None:
        """Hold weights and libraries to what was evaluated, and load the engine.

        Raises:
            WeightsError: A weight file is missing or is not the one that was registered.
            EngineError: A library here has another version than the one that was evaluated.
        """
        folder = Path(context.artifacts[FOLDER])
        told = json.loads((folder / "version.json").read_text(encoding="utf-8"))
        card = ModelCard.model_validate(told["card"])
        expected = ModelFingerprint.model_validate(told["fingerprint"])
        for name, digest in expected.weights.items():
            path = folder / "weights" / name
            found = file_sha256(path) if path.is_file() else "nothing"
            if found != digest:
                raise WeightsError(
                    f"The weights of {card.name} are not those that were registered: {name}: expected sha256 {digest}, "
                    f"found {found}.",
                    "Bring back the artifact from its backup, or register the model anew.",
                )
        placement = placement_of(card, expected.device, expected.compute_type)
        here = model_fingerprint(card, placement, expected.weights, expected.task)
        if here != expected:
            differing = [
                f"{part} {getattr(expected, part)} → {getattr(here, part)}"
                for part in ModelFingerprint.model_fields
                if getattr(expected, part) != getattr(here, part)
            ]
            raise EngineError(
                f"{card.name} would not answer here as it was evaluated: {', '.join(differing)}.",
                "Install the model's own requirements.txt.",
            )
        calibration = folder / "calibration.json"
        self.calibration = CalibrationMap.model_validate_json(calibration.read_bytes()) if calibration.is_file() else None
        self.card, self.task = card, expected.task
        self.engine: Any = build_engine(card, folder / "weights", placement, expected.task)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Transcribe recordings, or speak texts.

        Args:
            context: Not needed any more.
            model_input: Whatever its annotation says, which is there for MLflow: a path or a text, several, or a data frame
                with a column ``path`` or ``text``, and ``language`` (ISO 639-1) where the model should not detect it.
            params: None: MLflow drops what a signature does not name.

        Returns:
            A data frame with a row an input, in their order. Of a recogniser ``text``, ``language`` and ``confidence``
            (calibrated where the version carries a map); of a voice ``audio`` (a WAV file's bytes, 16 bits),
            ``sample_rate_hz`` and ``duration_s``.

        Raises:
            AudioError: A recording cannot be read.
            EngineError: The model cannot do what was asked.
        """
        one = self._speak if self.task == "tts" else self._transcribe
        return pd.DataFrame([one(item, language) for item, language in self._items(model_input)])

    def _items(self, given: Any) -> Iterable[tuple[str, str | None]]:
        languages = self.card.languages
        # A model that has one language was evaluated in it; no other needs to be told, or can be.
        only = languages[0] if len(languages) == 1 and languages[0] != ANY_LANGUAGE else None
        if isinstance(given, str | Path):
            return [(str(given), only)]
        if not isinstance(given, pd.DataFrame):
            return [(str(item), only) for item in given]
        column = TEXT if self.task == "tts" else PATH
        if column not in given.columns:
            known = ", ".join(map(str, given.columns))
            raise EngineError(f"The data frame has no column {column!r}.", f"It has {known}.")
        told = given["language"] if "language" in given.columns else [only] * len(given)
        return [(str(item), language) for item, language in zip(given[column], told, strict=True)]

    def _transcribe(self, path: str, language: str | None) -> dict[str, Any]:
        heard = self.engine.transcribe(decode(Path(path)).samples, language=language)
        words = [word.probability for word in heard.words if word.probability is not None]
        confidence = heard.confidence
        if self.calibration is not None and words:
            confidence = sum(map(self.calibration.apply, words)) / len(words)
        return {"text": heard.text, "language": heard.language, "confidence": confidence}

    def _speak(self, text: str, language: str | None) -> dict[str, Any]:
        said = self.engine.synthesize(text, language=language)
        file = io.BytesIO()
        soundfile.write(file, said.samples, said.sample_rate_hz, format="WAV", subtype="PCM_16")
        return {"audio": file.getvalue(), "sample_rate_hz": said.sample_rate_hz, "duration_s": said.duration_s}


set_model(SpeechModel())
