"""Score, slice and bootstrap 100,000 utterances with 1,000 resamples: seconds, peak memory, and how cost grows.

Texts are made up (words of a small vocabulary with random errors); normalising, aligning, every metric and every slice are
the shipped code.

    python benchmarks/scoring_100k.py [--utterances 100000] [--normalizer basic]
"""

from __future__ import annotations

import argparse
import random
import time

from models.memory import peak_memory_mib
from models.types import Transcript
from pipelines.align import score_all
from pipelines.metrics import metrics_of
from pipelines.scores import ScoreTable
from pipelines.summarize import summarize
from pipelines.types import Prediction, Timing, Utterance

SPEAKERS = 2_000
ACCENTS = 20
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "ck", "m")]


def make(count: int, seed: int) -> list[tuple[Utterance, Prediction]]:
    rng = random.Random(seed)
    pairs = []
    for index in range(count):
        speaker = rng.randrange(SPEAKERS)
        words = [rng.choice(WORDS) for _ in range(rng.randint(3, 25))]
        heard = [rng.choice(WORDS) if rng.random() < 0.08 else word for word in words if rng.random() > 0.02]
        utterance = Utterance(
            id=str(index), audio_filepath=f"{index}.wav", duration=5.0, text=" ".join(words), speaker=f"s{speaker}",
            tags={"accent": f"a{speaker % ACCENTS}", "gender": "fm"[speaker % 2], "domain": f"d{index % 8}"},
        )  # fmt: skip
        prediction = Prediction(
            audio_sha256=f"{index:064d}", model_fingerprint="x", task="asr", language="en", audio_s=5.0,
            transcript=Transcript(text=" ".join(heard)), timing=Timing(inference_s=0.5, decode_s=0.01),
        )  # fmt: skip
        pairs.append((utterance, prediction))
    return pairs


def once(count: int, normalizer: str) -> float:
    pairs = make(count, seed=count)
    start = time.perf_counter()
    scores = score_all(pairs, normalizer, fresh={utterance.id for utterance, _ in pairs})
    scored = time.perf_counter()
    _, slices = summarize(ScoreTable.build(scores), metrics_of("asr"), level=0.95, resamples=1_000, seed=1)
    done = time.perf_counter()
    print(
        f"{count:7} utterances, {len(slices)} slices: scoring {scored - start:5.1f} s, "
        f"slicing and bootstrap {done - scored:5.1f} s, in all {done - start:5.1f} s, peak {peak_memory_mib():6.0f} MiB"
    )
    return done - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--normalizer", default="basic")
    options = parser.parse_args()
    quarter = once(options.utterances // 4, options.normalizer)
    whole = once(options.utterances, options.normalizer)
    print(f"four times the utterances took {whole / quarter:.2f} times as long (targets: 60 s, 2048 MiB, about 4 times)")


if __name__ == "__main__":
    main()
