"""Whisper weights in the layout of transformers, from CTranslate2's, without loss.

With `models.convert` this makes three engines out of one download: where their texts differ, the engine is the reason. The
layout is that of the ``openai/whisper-*`` repositories on the Hugging Face hub; as in `models.convert`, the same tensors
always give the same bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.convert import WhisperWeights, read_whisper, write_json, write_safetensors
from models.errors import WeightsError

TOKENIZER = "tokenizer.json"
SAMPLE_RATE_HZ, WINDOW_S, HOP_SAMPLES, FFT_SAMPLES = 16_000, 30, 160, 400
"""Of Whisper's features (``whisper/audio.py``)."""
MAX_INITIAL_TIMESTAMP = 50
"""A window's first timestamp is at most this, in steps of 20 ms (``DecodingOptions.max_initial_timestamp``)."""

# OpenAI's names → transformers', replaced one after the other; the library's own table is WHISPER_MAPPING in its
# convert_openai_to_hf.py.
NAMES: tuple[tuple[str, str], ...] = (
    (r"\.blocks\.", ".layers."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
    (r"\.mlp_ln\.", ".final_layer_norm."),
    (r"\.cross_attn_ln\.", ".encoder_attn_layer_norm."),
    (r"\.attn_ln\.", ".self_attn_layer_norm."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.attn\.", ".self_attn."),
    (r"\.query\.", ".q_proj."),
    (r"\.key\.", ".k_proj."),
    (r"\.value\.", ".v_proj."),
    (r"\.out\.", ".out_proj."),
    (r"\.ln_post\.", ".layer_norm."),
    (r"\.ln\.", ".layer_norm."),
    (r"\.token_embedding\.", ".embed_tokens."),
    (r"\.positional_embedding$", ".embed_positions.weight"),
)


def ct2_to_transformers(source: Path, destination: Path) -> None:
    """Convert Whisper weights from CTranslate2's format to that of transformers.

    Args:
        source: Folder with ``model.bin``, ``config.json`` and ``tokenizer.json``, unquantised.
        destination: Gets ``model.safetensors`` (types as stored), ``tokenizer.json`` as it is, and the configuration of the
            model, of generation, of the features and of the tokenizer.

    Raises:
        WeightsError: The source is damaged, quantised, not a Whisper model, or its tokenizer lacks one of Whisper's tokens.
    """
    weights = read_whisper(source)
    ids = _token_ids(source / TOKENIZER)
    try:
        generation = _generation_config(weights, ids)
    except KeyError as error:
        raise WeightsError(f"{source} lacks {error}, which Whisper has.", "Fetch the weights again.") from error
    write_safetensors(
        destination / "model.safetensors", {transformers_name(name): tensor for name, tensor in weights.tensors.items()}
    )
    write_json(destination / "config.json", _model_config(weights, generation))
    write_json(destination / "generation_config.json", generation)
    write_json(destination / "preprocessor_config.json", _feature_config(weights.dims))
    write_json(destination / "tokenizer_config.json", _tokenizer_config(weights.dims))
    shutil.copyfile(source / TOKENIZER, destination / TOKENIZER)


def transformers_name(name: str) -> str:
    """Translate OpenAI's name of a parameter into transformers'."""
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return f"model.{name}"


def _token_ids(path: Path) -> dict[str, int]:
    try:
        added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
        return {token["content"]: token["id"] for token in added}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is not a tokenizer: {error!r}.", "Fetch the weights again.") from error


def _generation_config(weights: WhisperWeights, ids: Mapping[str, int]) -> dict[str, Any]:
    """What ``generate`` needs to prompt and to hold back tokens; ids are read, for they differ by one between models."""
    end = ids["<|endoftext|>"]
    config: dict[str, Any] = {
        "alignment_heads": weights.config["alignment_heads"],
        "begin_suppress_tokens": weights.config["suppress_ids_begin"],
        "bos_token_id": end,
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": end,
        "is_multilingual": _multilingual(weights.dims),
        "max_initial_timestamp_index": MAX_INITIAL_TIMESTAMP,
        "max_length": weights.dims["n_text_ctx"],
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "pad_token_id": end,
        "prev_sot_token_id": ids["<|startofprev|>"],
        "return_timestamps": False,
        "suppress_tokens": weights.config["suppress_ids"],
    }
    if config["is_multilingual"]:
        languages = set(weights.config["lang_ids"])
        config["lang_to_id"] = {token: number for token, number in ids.items() if number in languages}
        config["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    return config


def _multilingual(dims: Mapping[str, int]) -> bool:
    return dims["n_vocab"] >= 51865  # as ``whisper.model.Whisper.is_multilingual``


def _model_config(weights: WhisperWeights, generation: Mapping[str, Any]) -> dict[str, Any]:
    dims = weights.dims
    ids = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")
    return {
        **{name: generation[name] for name in ids},
        "architectures": ["WhisperForConditionalGeneration"],
        "begin_suppress_tokens": None,  # in the generation config, where `generate` looks first
        "d_model": dims["n_audio_state"],
        "decoder_attention_heads": dims["n_text_head"],
        "decoder_ffn_dim": 4 * dims["n_text_state"],
        "decoder_layers": dims["n_text_layer"],
        "dtype": str(weights.tensors["decoder.token_embedding.weight"].dtype),
        "encoder_attention_heads": dims["n_audio_head"],
        "encoder_ffn_dim": 4 * dims["n_audio_state"],
        "encoder_layers": dims["n_audio_layer"],
        "max_source_positions": dims["n_audio_ctx"],
        "max_target_positions": dims["n_text_ctx"],
        "model_type": "whisper",
        "num_mel_bins": dims["n_mels"],
        "vocab_size": dims["n_vocab"],
    }


def _feature_config(dims: Mapping[str, int]) -> dict[str, Any]:
    return {
        "chunk_length": WINDOW_S,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": dims["n_mels"],
        "hop_length": HOP_SAMPLES,
        "n_fft": FFT_SAMPLES,
        "padding_value": 0.0,
        "return_attention_mask": False,
        "sampling_rate": SAMPLE_RATE_HZ,
    }


def _tokenizer_config(dims: Mapping[str, int]) -> dict[str, Any]:
    return {
        "bos_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,  # or " ," would lose its space, and the text would not be what was written
        "eos_token": "<|endoftext|>",
        "model_max_length": dims["n_text_ctx"],
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "WhisperTokenizer",
        "unk_token": "<|endoftext|>",
    }
