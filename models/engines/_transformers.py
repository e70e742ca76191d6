"""What the engines on Hugging Face transformers share: imports, placement, and loading that runs nothing it finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.engine import Placement, missing_library
from models.errors import EngineError

REQUIREMENT = "transformers>=5.23,<6"
PACKAGES = ("transformers", "tokenizers", "torch")
COMPUTE_TYPES: Mapping[str, tuple[str, ...]] = {"cpu": ("float32",), "cuda": ("bfloat16", "float16", "float32")}
"""Device → number formats that are offered; half precision was not tried on a CPU."""

# Nothing is fetched, nothing that lies beside the weights is run, and tensors come from safetensors: never from a pickle.
SAFELY: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
TRAINING_ONLY = ("masked_spec_embed",)
"""Parameters that masking uses in training and nothing else: official checkpoints leave them out."""


def import_libraries(placement: Placement) -> tuple[Any, Any]:
    """Import torch and transformers.

    Returns:
        The two modules.

    Raises:
        EngineError: They are not installed, or cannot compute as placed.
    """
    known = COMPUTE_TYPES.get(placement.device.partition(":")[0], ())
    if placement.compute_type not in known:
        raise EngineError(
            f"transformers is not run with {placement.compute_type} on {placement.device} here.",
            "Available: " + "; ".join(f"{', '.join(types)} on {device}" for device, types in COMPUTE_TYPES.items()) + ".",
        )
    try:
        import torch
        import transformers
    except ImportError as error:
        raise missing_library(REQUIREMENT, error) from error
    if placement.device.startswith("cuda") and not torch.cuda.is_available():
        raise EngineError("PyTorch finds no CUDA device here.", "Choose cpu, or install a CUDA build of torch.")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call] # warns of settings that are meant
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return torch, transformers


def load_model(auto: Any, weights: Path, placement: Placement) -> Any:
    """Load a model from a folder in transformers' layout.

    Args:
        auto: The library's class for the kind of model, such as ``AutoModelForCTC``.
        weights: The folder: ``config.json`` and ``model.safetensors``, whole or in shards with their index.
        placement: As `import_libraries` has checked it.

    Raises:
        EngineError: The folder holds no such model, or not all of its parameters, which the library would make up.
    """
    import torch
    from safetensors import SafetensorError

    dtype = getattr(torch, placement.compute_type)
    try:
        model, info = auto.from_pretrained(weights, dtype=dtype, use_safetensors=True, output_loading_info=True, **SAFELY)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise EngineError(f"transformers cannot load {weights}: {error}", "Check the card's weights and engine.") from error
    made_up = sorted(name for name in info["missing_keys"] if not name.endswith(TRAINING_ONLY))
    if made_up:
        raise EngineError(f"{weights} has no values for {', '.join(made_up[:3])}.", "Check the card's weights and engine.")
    return model.eval().to(placement.device)


def load_part(auto: Any, weights: Path) -> Any:
    """Load what goes with a model, such as its tokenizer; arguments and errors are those of `load_model`."""
    try:
        return auto.from_pretrained(weights, **SAFELY)
    except (OSError, ValueError, KeyError, ImportError) as error:  # the last: a library that some tokenizers need
        raise EngineError(f"transformers cannot load {weights}: {error}", "Name the file in the card's weights.") from error
