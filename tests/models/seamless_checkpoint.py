"""A tiny checkpoint of SeamlessM4T v2 in transformers' layout: the whole architecture, 0.4 million parameters.

Hearing and writing are trained on a few recordings until it knows them by heart, so what it answers is known: a wrong
prompt, wrong features or wrong decoding give another text. Speaking is not trained: its sound is noise of random weights,
which proves that the code runs and nothing of quality. Its languages are those of the official checkpoint.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")  # ids 0 to 3, as in the official one
END = 3
_WRITTEN = """
afr amh arb ary arz asm azj bel ben bos bul cat ceb ces ckb cmn cmn_Hant cym dan deu ell eng est eus fin fra fuv gaz gle
glg guj heb hin hrv hun hye ibo ind isl ita jav jpn kan kat kaz khk khm kir kor lao lit lug luo lvs mai mal mar mkd mlt
mni mya nld nno nob npi nya ory pan pbt pes pol por ron rus sat slk slv sna snd som spa srp swe swh tam tel tgk tgl tha
tur ukr urd uzn vie yor yue zlm zul
"""
_SPOKEN = """
arb ben cat ces cmn cym dan deu eng est fin fra hin ind ita jpn kor mlt nld pes pol por ron rus slk spa swe swh tel tgl
tha tur ukr urd uzn vie
"""
WRITTEN, SPOKEN = _WRITTEN.split(), _SPOKEN.split()
UNITS = sorted([*SPOKEN, "kan", "tam"])
"""The official checkpoint makes units of two languages that its vocoder does not speak."""
SPEAKERS = 4
LEARNT, MOST_STEPS = 0.03, 400
"""Loss at which training ends, and the steps after which it has failed; about 70 are enough."""


@dataclass(frozen=True)
class Lesson:
    """What the checkpoint learns to write of one recording in one language."""

    samples: NDArray[np.float32]
    code: str
    text: str


def write_checkpoint(folder: Path, lessons: Sequence[Lesson]) -> Path:
    """Train on the lessons (2 to 4 s on one core) and write the folder; the same lessons give the same files."""
    import torch
    from transformers import SeamlessM4TFeatureExtractor

    tokenizer = _tokenizer([lesson.text for lesson in lessons])
    features = SeamlessM4TFeatureExtractor()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two are slower on so small a model
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = _model(len(tokenizer))
            _train(model, tokenizer, features, lessons)
    finally:
        torch.set_num_threads(threads)
    model.generation_config = _generation_config(tokenizer)
    model.save_pretrained(folder, max_shard_size="1MB")  # two files and an index, as the official one
    features.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def use_sentencepiece(folder: Path) -> None:
    """Put the tokenizer into the files that the official checkpoint has instead of ``tokenizer.json``."""
    from sentencepiece import sentencepiece_model_pb2

    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    by_id = sorted((token, piece) for piece, token in content["model"]["vocab"].items())
    model = sentencepiece_model_pb2.ModelProto()
    for token, piece in by_id[1:]:  # <pad> is not one of SentencePiece's, and moves the others by one
        model.pieces.add(piece=piece, score=-token, type={"<unk>": 2, "<s>": 3, "</s>": 3}.get(piece, 1))
    (folder / "sentencepiece.bpe.model").write_bytes(model.SerializeToString())
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["added_tokens_decoder"] = {str(added.pop("id")): added for added in content["added_tokens"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").unlink()


def _tokenizer(texts: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import SeamlessM4TTokenizer

    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    # Few merges, so that most words are of several tokens.
    letters = sorted({*string.ascii_letters, *string.digits, *"▁.,!?'", *"".join(texts)} - {" "})
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + len(letters) + 25, special_tokens=[*SPECIAL], initial_alphabet=letters, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learnt["merges"]]
    languages = [f"__{code}__" for code in WRITTEN]
    return SeamlessM4TTokenizer(vocab=learnt["vocab"], merges=merges, additional_special_tokens=languages)


def _model(vocabulary: int) -> Any:
    from transformers import SeamlessM4Tv2Config, SeamlessM4Tv2Model

    sizes = {"layers": 1, "ffn_dim": 64, "attention_heads": 4}
    parts = ("encoder", "decoder", "t2u_encoder", "t2u_decoder")
    config = SeamlessM4Tv2Config(
        vocab_size=vocabulary,
        t2u_vocab_size=64,
        char_vocab_size=256,
        unit_hifi_gan_vocab_size=64,
        hidden_size=32,
        **{f"{part}_{name}": value for part in parts for name, value in sizes.items()},
        speech_encoder_layers=1,
        speech_encoder_attention_heads=4,
        speech_encoder_intermediate_size=64,
        max_position_embeddings=512,
        t2u_max_position_embeddings=1024,
        t2u_variance_predictor_embed_dim=32,
        t2u_variance_predictor_hidden_dim=16,
        upsample_initial_channel=64,
        unit_embed_dim=16,
        lang_embed_dim=8,
        spkr_embed_dim=8,
        vocoder_num_langs=len(SPOKEN),
        vocoder_num_spkrs=SPEAKERS,
        dropout=0.0,
        attention_dropout=0.0,
        adaptor_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        speech_encoder_layerdrop=0.0,
    )
    model = SeamlessM4Tv2Model(config)
    # Units below 4 are control signs, which the vocoder has no sound for: untrained, the model must not choose them.
    model.t2u_model.lm_head.weight.data[: config.vocoder_offset] = 0
    return model


def _train(model: Any, tokenizer: Any, features: Any, lessons: Sequence[Lesson]) -> None:
    import torch

    heard = features([lesson.samples for lesson in lessons], sampling_rate=16_000, return_tensors="pt")
    rows = [tokenizer(lesson.text, src_lang=lesson.code)["input_ids"] for lesson in lessons]  # language, tokens, end
    pad = [[0] * (max(map(len, rows)) - len(row)) for row in rows]
    given = torch.tensor([[END, *row[:-1], *rest] for row, rest in zip(rows, pad, strict=True)])
    # The language is told, so it is no answer to learn; nor is padding.
    wanted = torch.tensor([[-100, *row[1:], *(-100 for _ in rest)] for row, rest in zip(rows, pad, strict=True)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model.train()
    model.set_modality("speech")
    for _ in range(MOST_STEPS):
        optimizer.zero_grad()
        encoded = model.speech_encoder(**heard)
        mask = heard["attention_mask"]
        loss = model(
            encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=given, labels=wanted, use_cache=False
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss.item() < LEARNT:
            return
    raise AssertionError(f"the tiny checkpoint has not learnt its lessons in {MOST_STEPS} steps: loss {loss.item():.3f}")


def _generation_config(tokenizer: Any) -> Any:
    from transformers import GenerationConfig

    spelling = {str(token): tokenizer.convert_ids_to_tokens(token) for token in range(len(tokenizer))}
    letters = sorted({letter for piece in spelling.values() for letter in piece})
    return GenerationConfig(
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=END,
        decoder_start_token_id=END,
        max_new_tokens=256,
        text_decoder_lang_to_code_id={code: tokenizer.convert_tokens_to_ids(f"__{code}__") for code in WRITTEN},
        t2u_lang_code_to_id={code: token for token, code in enumerate(UNITS)},
        vocoder_lang_code_to_id={code: token for token, code in enumerate(SPOKEN)},
        id_to_text=spelling,
        char_to_id={letter: token for token, letter in enumerate(letters, start=4)},
    )
