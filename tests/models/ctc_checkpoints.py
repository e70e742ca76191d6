"""Tiny CTC models in the official layout, made in seconds on a CPU: none can be fetched where there is no hub.

`overfitted_wav2vec2` has learned two recordings by heart and knows nothing else. The others have random weights and write
nonsense; they show how frames, words and batches are handled, and nothing about recognition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
"""The vocabulary of facebook/wav2vec2-base-960h."""
WITHOUT_DROPOUT = {
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "hidden_dropout": 0.0,
    "layerdrop": 0.0,
}
MOST_STEPS = 400
ENOUGH = 0.05
"""Loss at which the recordings are known by heart."""


def wav2vec2(folder: Path, *, layer_norm: bool = False, **changes: Any) -> Any:
    """Save tokenizer and features of a tiny wav2vec 2.0 and return the model, with random weights.

    Args:
        folder: Gets the files.
        layer_norm: As in the large models, which were trained to ignore padding, rather than as in the base.
        changes: Of the features' configuration.
    """
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({letter: at for at, letter in enumerate(LETTERS)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(**{"return_attention_mask": layer_norm, **changes}).save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(LETTERS),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if layer_norm else "group",
        do_stable_layer_norm=layer_norm,
        mask_time_prob=0.0,
        pad_token_id=0,
        ctc_loss_reduction="mean",
        **WITHOUT_DROPOUT,
    )
    return Wav2Vec2ForCTC(config)


def overfitted_wav2vec2(folder: Path, recordings: Mapping[str, NDArray[np.float32]]) -> Path:
    """Train a tiny wav2vec 2.0 until it knows these recordings (text → samples) by heart; about 150 steps."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor

    torch.set_num_threads(1)  # so small a model only waits for its threads
    model = wav2vec2(folder)
    features = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    lessons = [
        (
            features(samples, sampling_rate=16_000, return_tensors="pt").input_values,
            torch.tensor([[LETTERS.index("|" if letter == " " else letter) for letter in text]]),
        )
        for text, samples in recordings.items()
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(MOST_STEPS):
        optimizer.zero_grad()
        losses = [model(samples, labels=letters).loss for samples, letters in lessons]
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if max(loss.item() for loss in losses) < ENOUGH:
            break
    else:
        raise AssertionError(f"the model has not learned {list(recordings)} in {MOST_STEPS} steps")
    model.save_pretrained(folder)
    return folder


def random_wav2vec2(folder: Path, **changes: Any) -> Path:
    wav2vec2(folder, **changes).save_pretrained(folder)
    return folder


def random_parakeet(folder: Path) -> Path:
    """A tiny Parakeet-CTC with random weights and a vocabulary of word pieces."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import ParakeetCTCConfig, ParakeetFeatureExtractor, ParakeetForCTC, ParakeetTokenizer

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    pieces.decoder = decoders.Metaspace(prepend_scheme="always")
    text = ["in being comparatively modern", "the child almost hurt the small dog"]
    pieces.train_from_iterator(text, trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>"]))
    pieces.add_special_tokens(["<pad>"])
    tokenizer = ParakeetTokenizer(tokenizer_object=pieces, pad_token="<pad>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    ParakeetFeatureExtractor(feature_size=80).save_pretrained(folder)
    torch.manual_seed(1)
    encoder = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "subsampling_conv_channels": 8,
        "initializer_range": 0.5,
    }
    config = ParakeetCTCConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, encoder_config=encoder)
    model = ParakeetForCTC(config)
    begins = [piece.startswith("▁") for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    model.ctc_head.bias.data += 3.0 * torch.tensor(begins)  # or nonsense would be one long word
    model.save_pretrained(folder)
    return folder
