"""Make the three .trn files: ``python transcribe.py CORPUS_FOLDER FASTER_WHISPER_FOLDER``."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
from faster_whisper import WhisperModel

CONDITIONS = {"clean": None, "snr10": 10, "snr3": 3}


def normalize(text):
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", text.lower()).split())


def main(corpus, weights):
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["language"] == "en" and row["text"]]
    systems = {
        "int8_greedy": (WhisperModel(weights, device="cpu", compute_type="int8"), 1),
        "float32_beam5": (WhisperModel(weights, device="cpu", compute_type="float32"), 5),
    }
    lines = {"reference": [], **{name: [] for name in systems}}
    for position, row in enumerate(rows):
        clean, rate = soundfile.read(corpus / row["audio_filepath"], dtype="float32", always_2d=True)
        clean = soxr.resample(clean.mean(axis=1), rate, 16_000).astype(np.float32)
        for condition, snr_db in CONDITIONS.items():
            audio = clean
            if snr_db is not None:
                noise = np.random.default_rng([20240601, position, snr_db + 100]).standard_normal(len(clean))
                noise = noise.astype(np.float32)
                audio = clean + noise * np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
            label = f"({row['speaker'].replace('-', '')}-{len(lines['reference']):03d}{condition})"
            lines["reference"].append(f"{normalize(row['text'])} {label}")
            for name, (model, beam) in systems.items():
                segments, _ = model.transcribe(
                    audio,
                    language="en",
                    beam_size=beam,
                    temperature=0.0,
                    condition_on_previous_text=False,
                    without_timestamps=True,
                )
                text = " ".join(segment.text.strip() for segment in segments)
                lines[name].append(f"{normalize(text)} {label}")
    for name, written in lines.items():
        Path(f"{name}.trn").write_text("\n".join(written) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
