"""Conversion loses nothing, and what is damaged or not Whisper is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from models.convert import CT2_TYPES, Tensor, ct2_to_openai, read_ct2, same_files, write_safetensors
from models.errors import WeightsError

STATE, HEADS, MELS, VOCABULARY, AUDIO_CTX, TEXT_CTX = 8, 2, 5, 11, 6, 4


def ct2_bytes(variables: Mapping[str, Tensor], *, version: int = 6, spec: str = "WhisperSpec") -> bytes:
    """Serialise as CTranslate2 does."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    codes = {dtype: code for code, dtype in CT2_TYPES.items()}
    out = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(variables))
    for name, tensor in variables.items():
        out += text(name) + struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        out += struct.pack("<BI", codes[tensor.dtype], tensor.nbytes) + tensor.tobytes()
    return out + struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight")


def whisper_variables() -> dict[str, Tensor]:
    """A Whisper of one layer a side, with random float16 weights, under CTranslate2's names."""
    rng = np.random.default_rng(0)

    def half(*shape: int) -> Tensor:
        return rng.normal(size=shape).astype(np.float16)

    out: dict[str, Tensor] = {}
    for side in ("encoder", "decoder"):
        out[f"{side}/num_heads"] = np.array(HEADS, np.int16)
        out[f"{side}/layer_norm/gamma"], out[f"{side}/layer_norm/beta"] = half(STATE), half(STATE)
        blocks = ["self_attention", "ffn"] + (["attention"] if side == "decoder" else [])
        for block in blocks:
            prefix = f"{side}/layer_0/{block}"
            out[f"{prefix}/layer_norm/gamma"], out[f"{prefix}/layer_norm/beta"] = half(STATE), half(STATE)
            sizes = {"self_attention": (3, 1), "attention": (1, 2, 1), "ffn": (4, 1)}[block]
            for index, size in enumerate(sizes):
                rows, columns = size * STATE, 4 * STATE if (block, index) == ("ffn", 1) else STATE
                out[f"{prefix}/linear_{index}/weight"] = half(rows, columns)
                out[f"{prefix}/linear_{index}/bias"] = half(rows)
        out[f"{side}/layer_0/self_attention/linear_0/bias"][STATE : 2 * STATE] = 0
    out["decoder/layer_0/attention/linear_1/bias"][:STATE] = 0
    out["encoder/conv1/weight"], out["encoder/conv1/bias"] = half(STATE, MELS, 3), half(STATE)
    out["encoder/conv2/weight"], out["encoder/conv2/bias"] = half(STATE, STATE, 3), half(STATE)
    out["encoder/position_encodings/encodings"] = half(AUDIO_CTX, STATE)
    out["decoder/position_encodings/encodings"] = half(TEXT_CTX, STATE)
    out["decoder/embeddings/weight"] = half(VOCABULARY, STATE)
    return out


def folder_with(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.bin").write_bytes(content)
    (folder / "config.json").write_text(json.dumps({"alignment_heads": [[0, 1]], "lang_ids": []}))
    return folder


def convert(tmp_path: Path, content: bytes) -> tuple[dict[str, Tensor], dict[str, object]]:
    out = tmp_path / "out"
    out.mkdir()
    ct2_to_openai(folder_with(tmp_path / "in", content), out)
    return load_file(out / "model.safetensors"), json.loads((out / "config.json").read_text())


def fused_again(tensors: Mapping[str, Tensor], ours: str, parts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    weights = [tensors[f"{ours}.{part}.weight"] for part in parts]
    nothing = np.zeros(weights[0].shape[0], weights[0].dtype)
    biases = [tensors.get(f"{ours}.{part}.bias", nothing) for part in parts]
    return np.concatenate(weights), np.concatenate(biases)


def assert_lossless(variables: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Every tensor of the one is in the other, bit for bit, and there is nothing else."""
    simple = {
        "self_attention/layer_norm": "attn_ln",
        "self_attention/linear_1": "attn.out",
        "attention/layer_norm": "cross_attn_ln",
        "attention/linear_0": "cross_attn.query",
        "attention/linear_2": "cross_attn.out",
        "ffn/layer_norm": "mlp_ln",
        "ffn/linear_0": "mlp.0",
        "ffn/linear_1": "mlp.2",
    }
    whole = {
        "encoder/layer_norm": "encoder.ln_post",
        "decoder/layer_norm": "decoder.ln",
        "encoder/conv1": "encoder.conv1",
        "encoder/conv2": "encoder.conv2",
        "encoder/position_encodings/encodings": "encoder.positional_embedding",
        "decoder/position_encodings/encodings": "decoder.positional_embedding",
        "decoder/embeddings/weight": "decoder.token_embedding.weight",
    }
    ending = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}
    seen = 0
    for name, tensor in variables.items():
        if not tensor.ndim:
            continue
        head, _, last = name.rpartition("/")
        if "/layer_" not in name or name.count("/") < 3:
            ours = whole.get(name) or f"{whole[head]}.{ending[last]}"
            got = tensors[ours]
        else:
            side, layer, part = head.split("/", 2)
            block = f"{side}.blocks.{layer.removeprefix('layer_')}"
            if part in simple:
                got = tensors[f"{block}.{simple[part]}.{ending[last]}"]
            else:
                kind, parts = (
                    ("attn", ("query", "key", "value"))
                    if part == "self_attention/linear_0"
                    else ("cross_attn", ("key", "value"))
                )
                got = fused_again(tensors, f"{block}.{kind}", parts)[last == "bias"]
        assert got.dtype == tensor.dtype, name
        assert np.array_equal(got, tensor), name
        seen += tensor.size
    keys = sum(tensor.shape[0] for name, tensor in tensors.items() if name.endswith("key.weight"))
    assert seen == sum(tensor.size for tensor in tensors.values()) + keys  # the key biases, which are zero


def test_every_tensor_arrives_unchanged(tmp_path: Path) -> None:
    variables = whisper_variables()
    tensors, config = convert(tmp_path, ct2_bytes(variables))
    assert_lossless(variables, tensors)
    assert config["alignment_heads"] == [[0, 1]]
    assert config["dims"] == {
        "n_mels": MELS,
        "n_audio_ctx": AUDIO_CTX,
        "n_audio_state": STATE,
        "n_audio_head": HEADS,
        "n_audio_layer": 1,
        "n_vocab": VOCABULARY,
        "n_text_ctx": TEXT_CTX,
        "n_text_state": STATE,
        "n_text_head": HEADS,
        "n_text_layer": 1,
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"decoder/extra/weight": np.zeros(3, np.float16)}, "tensors that Whisper has not: decoder/extra/weight"),
        ({"encoder/conv1/weight": np.zeros((STATE, MELS, 3), np.int8)}, r"encoder\.conv1\.weight is quantised"),
        ({"encoder/layer_0/self_attention/linear_0/bias": np.ones(3 * STATE, np.float16)}, "has a key bias"),
        ({"decoder/embeddings/weight": None}, "decoder/embeddings/weight"),
        ({"encoder/layer_0/ffn/linear_1/bias": None}, "encoder/layer_0/ffn/linear_1/bias"),
        ({"encoder/layer_0/self_attention/linear_0/weight": np.ones((7, 8), np.float16)}, "equal division"),
        ({"encoder/position_encodings/encodings": np.zeros((), np.float16)}, "not laid out like Whisper"),
    ],
)
def test_what_is_not_whisper_is_refused(tmp_path: Path, change: Mapping[str, Tensor | None], reason: str) -> None:
    variables = {**whisper_variables(), **change}
    kept = {name: tensor for name, tensor in variables.items() if tensor is not None}
    with pytest.raises(WeightsError, match=reason):
        convert(tmp_path, ct2_bytes(kept))


def test_another_kind_of_model_or_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="TransformerSpec"):
        convert(tmp_path, ct2_bytes(whisper_variables(), spec="TransformerSpec"))
    path = folder_with(tmp_path / "old", ct2_bytes({}, version=5)) / "model.bin"
    with pytest.raises(WeightsError, match="version 5"):
        read_ct2(path)


def test_a_config_without_alignment_heads_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "in", ct2_bytes(whisper_variables()))
    (folder / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="alignment_heads"):
        ct2_to_openai(folder, tmp_path)


SMALL = ct2_bytes({"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b/c": np.array(1, np.int8)})


@pytest.mark.parametrize("length", range(len(SMALL)))
def test_a_file_that_ends_early_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "model.bin").write_bytes(SMALL[:length])
    with pytest.raises(WeightsError):
        read_ct2(tmp_path / "model.bin")


def test_a_file_that_goes_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(SMALL + b"\0")
    with pytest.raises(WeightsError, match="more than it declares"):
        read_ct2(tmp_path / "model.bin")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(SMALL) - 1), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused_but_never_runs_wild(tmp_path: Path, position: int, value: int) -> None:
    changed = bytearray(SMALL)
    changed[position] = value
    (tmp_path / "model.bin").write_bytes(changed)
    try:
        model = read_ct2(tmp_path / "model.bin")
    except WeightsError:
        return
    assert sum(tensor.nbytes for tensor in model.variables.values()) <= len(SMALL)


@given(order=st.permutations(["b", "a", "c.d"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_bytes_written_depend_on_the_tensors_alone(tmp_path: Path, order: list[str]) -> None:
    tensors = {"a": np.ones((2, 3), "<f2"), "b": np.arange(3, dtype="<f4"), "c.d": np.zeros((0, 4), "<f2")}
    write_safetensors(tmp_path / "first", tensors)
    write_safetensors(tmp_path / "second", {name: np.asfortranarray(tensors[name]) for name in order})
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    back = load_file(tmp_path / "first")
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)


def test_the_same_files_without_what_is_hidden(tmp_path: Path) -> None:
    source, destination = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    destination.mkdir()
    (source / "model.bin").write_bytes(b"x")
    (source / ".complete.json").write_bytes(b"{}")
    same_files(source, destination)
    assert [path.name for path in destination.iterdir()] == ["model.bin"]


@pytest.mark.real
@pytest.mark.parametrize("size", ["tiny.en", "base"])
def test_the_real_conversion_is_lossless(size: str, weights_of: Callable[[str], Path]) -> None:
    variables = read_ct2(weights_of(f"faster-whisper-{size}") / "model.bin").variables
    tensors = load_file(weights_of(f"whisper-{size}") / "model.safetensors")
    assert_lossless(variables, tensors)
    assert all(tensor.dtype == np.float16 for tensor in tensors.values())


@pytest.mark.real
def test_both_libraries_encode_the_same_audio_alike(
    weights_of: Callable[[str], Path], clip: Callable[[str], NDArray[np.float32]]
) -> None:
    """Checks our reader against CTranslate2's own: a tensor in the wrong place would show."""
    import ctranslate2
    import torch
    import whisper
    from safetensors.torch import load_file as load_torch

    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(clip("jfk-inaugural.flac")))[None]
    theirs = ctranslate2.models.Whisper(str(weights_of("faster-whisper-tiny.en")), compute_type="float32")
    expected = np.array(theirs.encode(ctranslate2.StorageView.from_array(mel.numpy())))
    folder = weights_of("whisper-tiny.en")
    config = json.loads((folder / "config.json").read_text())
    ours = whisper.model.Whisper(whisper.model.ModelDimensions(**config["dims"]))
    ours.load_state_dict(load_torch(folder / "model.safetensors"))
    with torch.no_grad():
        got = ours.encoder(mel).numpy()
    assert np.abs(got - expected).max() < 1e-3
