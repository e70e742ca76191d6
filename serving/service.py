"""What the endpoints share: the models that are held, the queue, and the counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.errors import unknown_name
from models.types import Task
from serving.draining import Draining
from serving.ears import Ears
from serving.errors import ApiError, busy, invalid
from serving.metrics import Metrics
from serving.queue import Queue
from serving.served import ServedModel
from serving.settings import ServiceSettings
from serving.uploads import Uploads

LOADING_S = 5.0
"""When to come back to a model that is not warm yet."""


@dataclass(frozen=True)
class Service:
    """One process's service."""

    held: Mapping[str, ServedModel]
    settings: ServiceSettings
    queue: Queue
    uploads: Uploads
    metrics: Metrics
    ears: Ears
    draining: Draining

    def model(self, name: str | None, task: Task) -> ServedModel:
        """Look up the model that a request names.

        Raises:
            ApiError: It names none (400), one that is not held (404), one that does not do this (400), or one that the
                start of the service has not come to yet (503).
        """
        if not name:
            raise invalid("model", "The field 'model' is missing.", "missing_required_parameter")
        model = self.find(name)
        if not model.can(task):
            able = ", ".join(sorted(other.name for other in self.held.values() if other.can(task))) or "none"
            raise invalid("model", f"The model {model.name} does not do {task}. These do: {able}.", "unsupported_model")
        if not model.ready and not model.tried and self.settings.preload:
            raise busy(f"The model {model.name} is still being loaded.", LOADING_S, "model_loading")
        return model

    def find(self, name: str) -> ServedModel:
        """Look up a model by name.

        Raises:
            ApiError: 404.
        """
        if name not in self.held:
            message, remedy = unknown_name("model", name[:100], self.held)
            raise ApiError(404, f"{message} {remedy}", code="model_not_found", param="model")
        return self.held[name]
