"""Makes a tiny checkpoint in the layout of LFM2.5-Audio's official repository, overfitted on a clip so that it has answers.

Run by tests/models/test_lfm.py in the environment lfm: ``lfm_checkpoint.py FOLDER CLIP.npy TEXT``, with samples at 16 kHz.
The weights are random and then trained for some seconds; the detokenizer's stay random, so that what is "spoken" is noise,
but always the same noise. What the library makes of the frames that were taught goes into FOLDER/known.npz, by voice.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from liquid_audio import ChatState, LFM2AudioDetokenizer, LFM2AudioModel, LFM2AudioProcessor, LFMModality
from liquid_audio.data.types import LFM2AudioModelInput
from liquid_audio.model.conformer.encoder import ConformerEncoderConfig
from liquid_audio.model.lfm2_audio import DepthformerConfig, LFM2AudioConfig
from safetensors.torch import save_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Lfm2Config, PreTrainedTokenizerFast

TOKENS = {"<|startoftext|>": 1, "<|im_start|>": 6, "<|im_end|>": 7, "<|audio_start|>": 128, "<|text_end|>": 130}
"""Numbers that the library has in its code."""
CODES, CODEBOOKS = 2048, 8
MOST_STEPS = 100
GOOD_LOSS = 0.02
HEAR = "Perform ASR."
SPEAK = "Perform TTS. Use the {} voice."
FRAMES = {"US male": 20, "UK female": 31}
"""Voice → frames it was taught to say: more than a piece, and not the same."""

CONFIG: dict[str, Any] = {
    "architectures": ["Lfm2AudioForConditionalGeneration"],
    "codebooks": CODEBOOKS,
    "tie_audio_embeddings": True,
    "semantic_codebook_factor": 100.0,
    "codebook_weight": "log",
    "interleaved_n_text": 6,
    "interleaved_n_audio": 12,
    "preprocessor": {
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_size": 0.025,
        "window_stride": 0.01,
        "window": "hann",
        "features": 128,
        "n_fft": 512,
        "log": True,
        "frame_splicing": 1,
        "dither": 1e-5,
        "pad_to": 0,
        "pad_value": 0.0,
    },
    "encoder": {
        "feat_in": 128,
        "feat_out": -1,
        "n_layers": 1,
        "d_model": 32,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": 16,
        "causal_downsampling": False,
        "reduction": None,
        "reduction_position": None,
        "reduction_factor": 1,
        "ff_expansion_factor": 2,
        "self_attention_model": "rel_pos",
        "n_heads": 4,
        "att_context_size": [-1, -1],
        "xscaling": False,
        "untie_biases": True,
        "pos_emb_max_len": 5000,
        "conv_kernel_size": 9,
        "conv_norm_type": "batch_norm",
        "conv_context_size": None,
        "dropout": 0.0,
        "dropout_pre_encoder": 0.0,
        "dropout_emb": 0.0,
        "dropout_att": 0.0,
    },
    "lfm": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "layer_types": ["conv", "full_attention"],
        "max_position_embeddings": 4096,
        "block_multiple_of": 64,
        "block_auto_adjust_ff_dim": False,
        "conv_L_cache": 3,
        "bos_token_id": TOKENS["<|startoftext|>"],
        "eos_token_id": TOKENS["<|im_end|>"],
        "pad_token_id": 0,
    },
    "depthformer": {"layers": 1, "dim": 64, "tie": True},
}
DETOKENIZER = {
    "vocab_size": 8,
    "hidden_size": 512,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "layer_types": ["conv", "full_attention", "conv"],
    "block_multiple_of": 64,
    "block_auto_adjust_ff_dim": False,
    "conv_L_cache": 3,
    "pad_token_id": 0,
}


def write_tokenizer(folder: Path, text: str) -> None:
    """Byte-level BPE with the official control tokens in their official places."""
    by_number = {number: token for token, number in TOKENS.items()}
    control = [by_number.get(number, f"<|reserved_{number}|>") for number in range(max(TOKENS.values()) + 1)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=control, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([HEAR, *map(SPEAK.format, FRAMES), "system user assistant", text], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|startoftext|>", eos_token="<|im_end|>", pad_token="<|reserved_0|>"
    )
    assert {token: fast.convert_tokens_to_ids(token) for token in TOKENS} == TOKENS
    fast.save_pretrained(folder)


def write_weights(folder: Path) -> None:
    """Random weights and their configurations."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    config = LFM2AudioConfig(
        **{
            **CONFIG,
            "lfm": Lfm2Config(**CONFIG["lfm"]),
            "encoder": ConformerEncoderConfig(**CONFIG["encoder"]),
            "depthformer": DepthformerConfig(**CONFIG["depthformer"]),
        }
    )
    save(LFM2AudioModel(config), folder)
    part = folder / "audio_detokenizer"
    part.mkdir(exist_ok=True)
    detokenizer = Lfm2Config(**DETOKENIZER)
    # The official file names its layers for llama.cpp; the library renames them.
    written = {**detokenizer.to_dict(), "layer_types": ["conv", "sliding_attention", "conv"], "sliding_window": 30}
    (part / "config.json").write_text(json.dumps(written))
    save_model(LFM2AudioDetokenizer(detokenizer).half(), str(part / "model.safetensors"), metadata={"format": "pt"})


def save(model: LFM2AudioModel, folder: Path) -> None:
    save_model(model.to(torch.bfloat16), str(folder / "model.safetensors"), metadata={"format": "pt"})


def known_codes(frames: int) -> torch.Tensor:
    """Shape (8, frames)."""
    generator = torch.Generator().manual_seed(frames)
    return torch.randint(0, CODES, (CODEBOOKS, frames), generator=generator)


def lesson(processor: LFM2AudioProcessor, system: str, question: str | np.ndarray, answer: str | torch.Tensor) -> Any:
    """A question in the form of the library's own chat, with its answer to learn."""
    chat = ChatState(processor, dtype=torch.float32)
    chat.new_turn("system")
    chat.add_text(system)
    chat.end_turn()
    chat.new_turn("user")
    if isinstance(question, str):
        chat.add_text(question)
    else:
        chat.add_audio(torch.from_numpy(question)[None], 16_000)
    chat.end_turn()
    chat.new_turn("assistant")
    asked = chat.modality_flag.shape[1]
    if isinstance(answer, str):
        chat.add_text(answer)
    else:
        chat.add_text("<|audio_start|>")
        codes = torch.cat([answer, torch.full((CODEBOOKS, 1), CODES)], 1)
        flags = torch.full((codes.shape[1],), int(LFMModality.AUDIO_OUT))
        chat.append(text=chat.text[:, :0], audio_out=codes, modality_flag=flags)
    chat.end_turn()
    supervised = torch.zeros_like(chat.modality_flag, dtype=torch.bool)
    supervised[:, asked:] = True
    return LFM2AudioModelInput(**dict(chat), supervision_mask=supervised)


def train(folder: Path, processor: LFM2AudioProcessor, clip: np.ndarray, text: str) -> None:
    model = LFM2AudioModel.from_pretrained(folder, device="cpu", dtype=torch.float32).train()
    lessons = [lesson(processor, HEAR, clip, text)]
    lessons += [lesson(processor, SPEAK.format(voice), text, known_codes(frames)) for voice, frames in FRAMES.items()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(MOST_STEPS):
        optimizer.zero_grad()
        losses = [model(batch).loss for batch in lessons]
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if all(loss.item() < GOOD_LOSS for loss in losses):
            break
    else:
        sys.exit(f"not learnt in {MOST_STEPS} steps: {losses}")
    save(model.eval(), folder)


def main(folder: Path, clip: Path, text: str) -> None:
    torch.set_num_threads(1)  # so little work that threads would wait for one another, on a busy machine for minutes
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, text)
    write_weights(folder)
    processor = LFM2AudioProcessor.from_pretrained(folder, device="cpu").eval()
    train(folder, processor, np.load(clip), text)
    torch.nn.Module.cuda = lambda module, *_: module  # the library's detokenizer asks for a GPU
    spoken = {voice: processor.decode(known_codes(frames)[None])[0].numpy() for voice, frames in FRAMES.items()}
    np.savez(folder / "known.npz", **spoken)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
