"""Records as the evaluation of a voice makes them, small and quick; the counterpart of `tests.report.factory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from pipelines.decision import Comparison
from pipelines.report.side import Prompted, Side
from pipelines.scores import UtteranceScore
from pipelines.types import Evaluation, EvaluationFingerprint, MetricResult
from tests.report.factory import make_comparison, make_evaluation, make_metric, make_rule, make_score

REFUSAL = "This voice cannot read: й. Spell it out in its language's letters."

TEXTS = {
    "say/a": "The dog ran.",
    "say/b": "It costs $42.",
    "say/c": "Привет, й.",
    "say/d": "Small figures add.",
    "say/e": "",
}
SPOKEN = {**TEXTS, "say/b": "It costs forty two dollars."}
"""What should be heard."""


def make_spoken(
    name: str, heard: str, mos: float | None, said: str | None = None, kind: str = "plain", **changes: object
) -> UtteranceScore:
    """Score one synthesis; without a MOS it gave no audio."""
    score = make_score(
        name,
        SPOKEN[name] if said is None else said,
        heard,
        speaker="unknown",
        tags={"kind": kind},
        audio_s=0.0 if mos is None else 1.5,
        confidence=None,
    )
    measures = (
        {} if mos is None else {"dnsmos_overall": mos, "leading_silence_s": 0.25, "speaking_rate": 151.0, "words": 3.0}
    )
    return replace(score, measures=measures, **changes)  # type: ignore[arg-type]


def make_candidate_scores() -> list[UtteranceScore]:
    """Two errors in b; d sounds worse than a; c is refused; on the empty e a word is heard."""
    return [
        make_spoken("say/a", "the dog ran.", 3.4),
        make_spoken("say/b", "it cost forty dollars.", 3.3, kind="numbers"),
        make_spoken("say/c", "", None, kind="names"),
        make_spoken("say/d", "small figures add.", 2.1),
        make_spoken("say/e", "hello", 1.5, kind="empty"),
    ]


def make_baseline_scores() -> list[UtteranceScore]:
    """No error in b; d sounds better by 0.9, a by 0.1; c is said."""
    return [
        make_spoken("say/a", "the dog ran.", 3.5),
        make_spoken("say/b", "it costs forty two dollars.", 3.3, kind="numbers"),
        make_spoken("say/c", "private y.", 3.0, kind="names"),
        make_spoken("say/d", "small figures add.", 3.0),
        make_spoken("say/e", "", None, kind="empty"),
    ]


def make_voice_evaluation(scores: Sequence[UtteranceScore], model: str = "piper-joe", **changes: object) -> Evaluation:
    """Make a voice's evaluation of these scores, with slices by kind."""

    def rates(part: Sequence[UtteranceScore]) -> dict[str, MetricResult]:
        words = sum(score.words.reference_length for score in part)
        errors = sum(score.words.errors for score in part if score.is_speech)
        return {"roundtrip_wer": make_metric(errors / words, n=len(part))} if words else {}

    kinds = sorted({score.tags["kind"] for score in scores if "kind" in score.tags})
    fields: dict[str, object] = {
        "task": "tts",
        "corpora": ("say",),
        "fingerprint": EvaluationFingerprint(
            model="ab12",
            corpora={"say": "cd34"},
            data_version="c0ffee",
            normalizers={"english": "1"},
            scorer="1",
            quarantined="none",
            recogniser="faster-whisper-base 562c49",
            measures="7+speechmos-0.0.1.1",
            digest="ef56",
        ),
        "model_fingerprint": {
            "engine": "models.engines.piper:Piper",
            "decoding": {"noise_scale": 0.0, "noise_w_scale": 0.0, "normalize_audio": True, "seed": 0},
            "weights": model,
        },
        "metrics": {
            **rates(scores),
            "dnsmos_overall": make_metric(3.21, "MOS", higher_is_better=True),
            "silent_share": make_metric(0.2),
            "first_audio_p50": make_metric(0.31, "s"),
        },
        "slices": {f"kind={kind}": rates([s for s in scores if s.tags.get("kind") == kind]) for kind in kinds},
        "suspect_references": (),
        "quarantined": (),
        "unsupported": {},
    }
    return make_evaluation(scores, model, **(fields | changes))


def make_syntheses(
    folder: Path, scores: Sequence[UtteranceScore], rate_hz: int = 24_000, seconds: float = 1.5, level: float = 0.1
) -> dict[str, Path]:
    """Write a 16-bit FLAC of a tone for each synthesis that has measures, under a digest as the store does."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for number, score in enumerate(scores):
        if score.measures:
            times = np.arange(int(rate_hz * seconds)) / rate_hz
            paths[score.id] = folder / f"{number:x}f{rate_hz}.flac"
            tone = level * np.sin(2 * np.pi * (220 + 40 * number) * times)
            soundfile.write(paths[score.id], tone, rate_hz, format="FLAC", subtype="PCM_16")
    return paths


def make_prompts(refused: Mapping[str, str] = {}) -> dict[str, Prompted]:
    """What was given, some of it refused."""
    return {name: Prompted(text, refused.get(name)) for name, text in TEXTS.items()}


def make_candidate(folder: Path) -> Side:
    """A voice of 24 kHz that refuses c."""
    scores = make_candidate_scores()
    audio = make_syntheses(folder / "candidate", scores)
    return Side(make_voice_evaluation(scores, "hibari"), scores, audio, make_prompts({"say/c": REFUSAL}))


def make_baseline(folder: Path) -> Side:
    """A voice of 16 kHz that takes twice the time and refuses nothing."""
    scores = make_baseline_scores()
    audio = make_syntheses(folder / "baseline", scores, rate_hz=16_000, seconds=3.0, level=0.5)
    return Side(make_voice_evaluation(scores), scores, audio, make_prompts())


def make_voice_comparison() -> Comparison:
    """A comparison that fails by what both voices are judged on."""
    rule = make_rule("fail", "no less intelligible", "It is.", metric="roundtrip_wer")
    return make_comparison("fail", [rule]).model_copy(
        update={"candidate": "hibari", "baseline": "piper-joe", "notes": ("5 prompts are compared pair by pair.",)}
    )
