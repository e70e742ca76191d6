"""Weights in one engine's format from those of another, without loss.

CTranslate2 fuses query, key and value into one matrix and has no reader for its files, so `ct2_to_openai` reads them
itself. It writes safetensors and JSON: both load without running code, and the same tensors always give the same bytes,
which is why a card can name their digest.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import WeightsError

Tensor = NDArray[Any]

CT2_VERSION = 6
"""Version of CTranslate2's file format, since its release 2.0 (2021)."""
CT2_TYPES: Mapping[int, np.dtype[Any]] = {
    code: np.dtype(name) for code, name in enumerate(("<f4", "<i1", "<i2", "<i4", "<f2"))
}
SAFETENSORS_TYPES: Mapping[np.dtype[Any], str] = {np.dtype("<f2"): "F16", np.dtype("<f4"): "F32"}
MAX_VARIABLES = 100_000
MAX_RANK = 8


@dataclass(frozen=True, slots=True)
class Ct2Model:
    """The contents of a CTranslate2 ``model.bin``."""

    spec: str
    """Kind of model, such as ``WhisperSpec``."""
    variables: dict[str, Tensor]
    """Variable → tensor; read from the file when it is used."""


@dataclass(frozen=True, slots=True)
class WhisperWeights:
    """Whisper's tensors under OpenAI's names, and what else a layout may need to know."""

    dims: dict[str, int]
    """Of ``whisper.model.ModelDimensions``."""
    config: dict[str, Any]
    """CTranslate2's ``config.json``: alignment heads, ids of languages and of tokens that are not written."""
    tensors: dict[str, Tensor]
    """OpenAI's parameter name → tensor, in the type that the file stores."""


def ct2_to_openai(source: Path, destination: Path) -> None:
    """Convert Whisper weights from CTranslate2's format to OpenAI's.

    Args:
        source: Folder with ``model.bin`` and ``config.json``, unquantised.
        destination: Gets ``model.safetensors`` (OpenAI's parameter names, types as stored) and ``config.json`` with
            ``dims`` (of ``whisper.model.ModelDimensions``) and ``alignment_heads`` (pairs of layer and head).

    Raises:
        WeightsError: The source is damaged, quantised, or not a Whisper model.
    """
    weights = read_whisper(source)
    write_safetensors(destination / "model.safetensors", weights.tensors)
    write_json(destination / "config.json", {"alignment_heads": weights.config["alignment_heads"], "dims": weights.dims})


def read_whisper(source: Path) -> WhisperWeights:
    """Read Whisper weights in CTranslate2's format; arguments and errors are those of `ct2_to_openai`."""
    model = read_ct2(source / "model.bin")
    if model.spec != "WhisperSpec":
        raise WeightsError(f"{source} holds a {model.spec}, not a WhisperSpec.", "Convert a Whisper model.")
    pending = dict(model.variables)
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        config["alignment_heads"]
        dims = _dimensions(pending)
        tensors = _openai_tensors(pending, dims)
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"{source} is not laid out like Whisper: {error!r}.", "Fetch the weights again.") from error
    if left := sorted(name for name, tensor in pending.items() if tensor.ndim):  # scalars are attributes
        raise WeightsError(f"{source} has tensors that Whisper has not: {', '.join(left)}.", "Convert a Whisper model.")
    return WhisperWeights(dims, config, tensors)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whose bytes depend on nothing but the content."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def same_files(source: Path, destination: Path) -> None:
    """Take another card's files as they are: one download serves cards that differ in how they compute."""
    for path in source.iterdir():
        if path.is_file() and not path.name.startswith("."):
            try:
                (destination / path.name).hardlink_to(path)
            except OSError:  # a file system without links
                shutil.copyfile(path, destination / path.name)


def read_ct2(path: Path) -> Ct2Model:
    """Read a CTranslate2 ``model.bin``.

    The layout is that of ``ModelSpec._serialize`` in CTranslate2's ``specs/model_spec.py``: version, kind, revision; per
    variable its name, shape, type and bytes; then aliases, which name a variable a second time. Little-endian.

    Raises:
        WeightsError: The file is cut short, has bytes left over, or is of another version.
    """
    reader = _Reader(path)
    if (version := reader.number("I")) != CT2_VERSION:
        raise WeightsError(f"{path} has version {version} of CTranslate2's format.", f"This reads {CT2_VERSION}.")
    spec = reader.text()
    reader.number("I")  # revision of the spec
    count = reader.number("I")
    if count > MAX_VARIABLES:
        raise reader.damaged(f"it declares {count} variables")
    variables = dict(reader.variable() for _ in range(count))
    for _ in range(reader.number("I")):
        reader.text(), reader.text()  # an alias and its target
    reader.finish()
    return Ct2Model(spec, variables)


class _Reader:
    """Reads a file front to back and never past its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise WeightsError(f"{path} cannot be read: {error}.", "Fetch the weights again.") from error
        self._at = 0

    def damaged(self, why: str) -> WeightsError:
        return WeightsError(f"{self._path} is damaged: {why} at byte {self._at}.", "Fetch the weights again.")

    def take(self, count: int) -> NDArray[np.uint8]:
        if count > self._bytes.size - self._at:
            raise self.damaged(f"it ends where {count} bytes should be")
        self._at += count
        return self._bytes[self._at - count : self._at]

    def number(self, form: str) -> int:
        value: int = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")).tobytes())[0]
        return value

    def text(self) -> str:
        raw = self.take(self.number("H")).tobytes()
        try:
            return raw.removesuffix(b"\0").decode("ascii")
        except UnicodeDecodeError as error:
            raise self.damaged("a name is not ASCII") from error

    def variable(self) -> tuple[str, Tensor]:
        name = self.text()
        if (rank := self.number("B")) > MAX_RANK:
            raise self.damaged(f"{name} has {rank} dimensions")
        shape = tuple(self.number("I") for _ in range(rank))
        kind = CT2_TYPES.get(code := self.number("B"))
        if kind is None:
            raise self.damaged(f"{name} has the unknown type {code}")
        raw = self.take(self.number("I"))
        items = 1
        for size in shape:  # Python's integers, which do not overflow
            items *= size
        if raw.size != items * kind.itemsize:
            raise self.damaged(f"{name} has {raw.size} bytes for shape {shape}")
        return name, np.frombuffer(raw, dtype=kind).reshape(shape)

    def finish(self) -> None:
        if self._at != self._bytes.size:
            raise self.damaged("there is more than it declares")


def _dimensions(variables: Mapping[str, Tensor]) -> dict[str, int]:
    audio, text = variables["encoder/position_encodings/encodings"], variables["decoder/position_encodings/encodings"]
    return {
        "n_mels": variables["encoder/conv1/weight"].shape[1],
        "n_audio_ctx": audio.shape[0],
        "n_audio_state": audio.shape[1],
        "n_audio_head": int(variables["encoder/num_heads"]),
        "n_audio_layer": _layers(variables, "encoder"),
        "n_vocab": variables["decoder/embeddings/weight"].shape[0],
        "n_text_ctx": text.shape[0],
        "n_text_state": text.shape[1],
        "n_text_head": int(variables["decoder/num_heads"]),
        "n_text_layer": _layers(variables, "decoder"),
    }


def _layers(variables: Mapping[str, Tensor], side: str) -> int:
    found = {int(match[1]) for name in variables if (match := re.match(rf"{side}/layer_(\d+)/", name))}
    return len(found)


def _openai_tensors(pending: dict[str, Tensor], dims: Mapping[str, int]) -> dict[str, Tensor]:
    """Rename and un-fuse; takes what it uses out of `pending`."""
    out: dict[str, Tensor] = {}

    def affine(ours: str, theirs: str, weight: str = "weight", bias: str = "bias") -> None:
        for name, part in (("weight", weight), ("bias", bias)):
            out[f"{ours}.{name}"] = pending.pop(f"{theirs}/{part}")

    def norm(ours: str, theirs: str) -> None:
        affine(ours, theirs, "gamma", "beta")

    def fused(ours: str, theirs: str, parts: tuple[str, ...]) -> None:
        weight, bias = pending.pop(f"{theirs}/weight"), pending.pop(f"{theirs}/bias")
        rows = zip(parts, np.split(weight, len(parts)), np.split(bias, len(parts)), strict=True)
        for part, matrix, vector in rows:
            out[f"{ours}.{part}.weight"] = matrix
            if part != "key":
                out[f"{ours}.{part}.bias"] = vector
            elif vector.any():  # OpenAI's key projection has none: CTranslate2's zeros only fill the fused vector
                raise ValueError(f"{theirs} has a key bias")

    for side, count in (("encoder", dims["n_audio_layer"]), ("decoder", dims["n_text_layer"])):
        for index in range(count):
            block, layer = f"{side}.blocks.{index}", f"{side}/layer_{index}"
            norm(f"{block}.attn_ln", f"{layer}/self_attention/layer_norm")
            fused(f"{block}.attn", f"{layer}/self_attention/linear_0", ("query", "key", "value"))
            affine(f"{block}.attn.out", f"{layer}/self_attention/linear_1")
            if side == "decoder":
                norm(f"{block}.cross_attn_ln", f"{layer}/attention/layer_norm")
                affine(f"{block}.cross_attn.query", f"{layer}/attention/linear_0")
                fused(f"{block}.cross_attn", f"{layer}/attention/linear_1", ("key", "value"))
                affine(f"{block}.cross_attn.out", f"{layer}/attention/linear_2")
            norm(f"{block}.mlp_ln", f"{layer}/ffn/layer_norm")
            affine(f"{block}.mlp.0", f"{layer}/ffn/linear_0")
            affine(f"{block}.mlp.2", f"{layer}/ffn/linear_1")
        out[f"{side}.positional_embedding"] = pending.pop(f"{side}/position_encodings/encodings")
    for conv in ("conv1", "conv2"):
        affine(f"encoder.{conv}", f"encoder/{conv}")
    norm("encoder.ln_post", "encoder/layer_norm")
    norm("decoder.ln", "decoder/layer_norm")
    out["decoder.token_embedding.weight"] = pending.pop("decoder/embeddings/weight")
    if odd := sorted(name for name, tensor in out.items() if tensor.dtype not in SAFETENSORS_TYPES):
        raise ValueError(f"{odd[0]} is quantised")
    return out


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file whose bytes depend on nothing but the tensors.

    Names in order, no padding between tensors, header padded with spaces to 8 bytes; the library's writer lays files out as
    its release sees fit, which would change the digest in the card. Format: https://huggingface.co/docs/safetensors
    """
    header: dict[str, dict[str, Any]] = {}
    end = 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": SAFETENSORS_TYPES[tensor.dtype], "shape": tensor.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in header:
            file.write(np.ascontiguousarray(tensors[name]).tobytes())
