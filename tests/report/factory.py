"""Records as an evaluation makes them, small and quick: for the pages' tests, and to look at a page by hand."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import jiwer
import numpy as np
import soundfile

from pipelines.decision import Comparison, RuleResult, Verdict
from pipelines.scores import AlignmentChunk, ErrorCounts, UtteranceScore
from pipelines.types import Evaluation, EvaluationFingerprint, MetricResult, Quarantined, Suspect, Timings

WORDS = ["the", "child", "almost", "hurt", "small", "dog", "drop", "two", "when", "you", "add", "figures", "air"]


def make_score(
    name: str,
    reference: str,
    hypothesis: str,
    *,
    speaker: str = "ada",
    language: str = "en",
    tags: Mapping[str, str] | None = None,
    audio_s: float = 2.0,
    confidence: float | None = 0.9,
    inference_s: float | None = 0.4,
) -> UtteranceScore:
    """Align two texts with jiwer; an empty reference is non-speech."""
    said, heard = reference.lower(), hypothesis.lower()
    if said.split() and heard.split():
        found = jiwer.process_words(said, heard)
        chunks = tuple(
            AlignmentChunk(c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx)
            for c in found.alignments[0]
        )
        words = ErrorCounts(found.hits, found.substitutions, found.deletions, found.insertions)
    elif said.split():
        chunks = (AlignmentChunk("delete", 0, len(said.split()), 0, 0),)
        words = ErrorCounts(0, 0, len(said.split()), 0)
    elif heard.split():
        chunks = (AlignmentChunk("insert", 0, 0, 0, len(heard.split())),)
        words = ErrorCounts(0, 0, 0, len(heard.split()))
    else:
        chunks, words = (), ErrorCounts(0, 0, 0, 0)
    return UtteranceScore(
        id=name,
        speaker=speaker,
        language=language,
        tags={"domain": "read"} if tags is None else tags,
        audio_s=audio_s,
        normalizer="english",
        reference=reference,
        hypothesis=hypothesis,
        normalized_reference=said,
        normalized_hypothesis=heard,
        words=words,
        characters=make_character_counts(said, heard),
        alignment=chunks,
        confidence=confidence,
        inference_s=inference_s,
    )


def make_character_counts(said: str, heard: str) -> ErrorCounts:
    """Count characters; against nothing, all are deleted or inserted."""
    if not said or not heard:
        return ErrorCounts(0, 0, len(said), len(heard))
    found = jiwer.process_characters(said, heard)
    return ErrorCounts(found.hits, found.substitutions, found.deletions, found.insertions)


def make_scores(n: int = 60, seed: int = 7, error_rate: float = 0.12) -> list[UtteranceScore]:
    """Make speech of a few domains and speakers with errors of every kind, and some non-speech, one with invented words."""
    rng = random.Random(seed)
    scores = []
    for number in range(n):
        said = rng.choices(WORDS, k=rng.randint(4, 14))
        if number % 15 == 14:
            said = []
        heard: list[str] = []
        for word in said:
            fate = rng.random()
            if fate < error_rate / 3:
                heard.append(rng.choice(WORDS))
            elif fate < 2 * error_rate / 3:
                heard += [word, rng.choice(WORDS)]
            elif fate > error_rate:
                heard.append(word)
        if number == 14:
            heard = ["thank", "you"]
        domain = "nonspeech" if not said else ("read", "digits", "crowd")[number % 3]
        scores.append(
            make_score(
                f"demo/utt-{number:02d}",
                " ".join(said),
                " ".join(heard),
                speaker="none" if not said else ("ada", "bo", "cy", "dee")[number % 4],
                tags={"domain": domain, "accent": ("en-US", "fr-BE")[number % 2]},
                audio_s=1.5 + number % 7,
                confidence=None if number % 10 == 9 else round(0.6 + 0.4 * rng.random(), 3),
                inference_s=0.2 + 0.05 * (number % 6),
            )
        )
    return scores


def make_metric(value: float | None, unit: str = "ratio", **changes: object) -> MetricResult:
    """Make a metric with an interval a third of its value to either side."""
    fields: dict[str, object] = {
        "value": value,
        "unit": unit,
        "higher_is_better": False,
        "n": 0 if value is None else 56,
        "ci_low": None if value is None else value * 2 / 3,
        "ci_high": None if value is None else value * 4 / 3,
        "blocks": None if value is None else 4,
    }
    return MetricResult.model_validate(fields | changes)


def rates(scores: Sequence[UtteranceScore]) -> dict[str, MetricResult]:
    """Measure the WER of some scores; nothing without speech."""
    words = sum(score.words.reference_length for score in scores)
    errors = sum(score.words.errors for score in scores if score.is_speech)
    spoken = sum(score.is_speech for score in scores)
    return {"wer": make_metric(errors / words, n=spoken)} if words else {}


def make_evaluation(scores: Sequence[UtteranceScore], model: str = "whisper-tiny-en", **changes: object) -> Evaluation:
    """Make an evaluation of these scores, with slices by domain, accent and speaker."""
    slices: dict[str, dict[str, MetricResult]] = {}
    for key in ("accent", "domain", "speaker"):
        for value in sorted({s.speaker if key == "speaker" else s.tags.get(key, "none") for s in scores}):
            part = [s for s in scores if (s.speaker if key == "speaker" else s.tags.get(key, "none")) == value]
            slices[f"{key}={value}"] = rates(part)
    fields: dict[str, object] = {
        "run_id": f"run-{model}",
        "model": model,
        "task": "asr",
        "corpora": ("demo",),
        "selection": {},
        "data_version": "c0ffee",
        "fingerprint": EvaluationFingerprint(
            model="ab12",
            corpora={"demo": "cd34"},
            data_version="c0ffee",
            normalizers={"english": "1"},
            scorer="1",
            quarantined="none",
            digest="ef56",
        ),
        "model_fingerprint": {"engine": "faster-whisper", "decoding": {"beam_size": 5}, "weights": model},
        "environment": {"cpu": "a processor", "git_commit": "0123abc", "git_dirty": "false"},
        "metrics": {
            **rates(scores),
            "invented_words_per_minute": make_metric(3.2, "1/min"),
            "rtf": make_metric(0.081),
            "latency_p95": make_metric(0.412, "s"),
            "peak_memory": make_metric(412.3, "MiB", ci_low=None, ci_high=None),
            "load_time": make_metric(None, "s", note="the model was not loaded in this run"),
        },
        "slices": slices,
        "suspect_references": (
            Suspect(id="utt-03", reference="two dogs", likely="the small dog", score=0.81, models=("a", "b")),
        ),
        "quarantined": (
            Quarantined(id="utt-99", audio_filepath="audio/utt-99.wav", reason="utt-99.wav has 0 samples; record it again."),
        ),
        "unsupported": {"de": 2},
        "predictions": "evaluations/run/predictions.parquet",
        "report": "evaluations/run/report.html",
        "timings": Timings(inferred=40, reused=20, wall_s=21.5, audio_s=260.0, inference_s=38.2, workers=2, threads=1),
        "created_at": "2025-11-23T04:10:00+00:00",
    }
    return Evaluation.model_validate(fields | changes)


def make_rule(verdict: Verdict, rule: str, reason: str, **changes: object) -> RuleResult:
    """Make a rule that compares WER over all recordings."""
    fields: dict[str, object] = {
        "rule": rule,
        "kind": "non_inferiority",
        "metric": "wer",
        "slice": "all",
        "verdict": verdict,
        "candidate": 0.112,
        "baseline": 0.104,
        "delta": 0.008,
        "ci_low": -0.004,
        "ci_high": 0.019,
        "margin": 0.02,
        "n": 56,
        "reason": reason,
    }
    return RuleResult.model_validate(fields | changes)


def make_comparison(verdict: Verdict = "fail", rules: Sequence[RuleResult] | None = None) -> Comparison:
    """Make a comparison with a rule of each kind and of each verdict."""
    found = rules or (
        make_rule("pass", "no worse overall", "+0.8 points [-0.4, +1.9]: a harm of 2.0 points is ruled out."),
        make_rule(
            "inconclusive",
            "no domain harmed",
            "8 utterances, and the rule asks for 10",
            slice="domain=crowd",
            delta=None,
            ci_low=None,
            ci_high=None,
            margin=0.05,
        ),
        make_rule(
            "fail" if verdict == "fail" else "pass",
            "fast enough",
            "1.41 [1.33, 1.52] times the baseline, beyond 1.2.",
            kind="ratio",
            metric="rtf",
            candidate=0.114,
            baseline=0.081,
            delta=1.41,
            ci_low=1.33,
            ci_high=1.52,
            margin=1.2,
        ),
        make_rule(
            "pass",
            "usable",
            "11.2%; at most 25.0% is asked for.",
            kind="absolute",
            baseline=None,
            delta=None,
            margin=0.25,
            ci_low=0.09,
            ci_high=0.14,
        ),
    )
    return Comparison(
        run_id="cmp-1",
        candidate="whisper-base",
        baseline="whisper-tiny-en",
        verdict=verdict,
        rules=tuple(found),
        policy_digest="77aa",
        evaluations={"candidate": "run-whisper-base", "baseline": "run-whisper-tiny-en"},
        data_version="c0ffee",
        notes=("2 recordings in de are left out: the candidate does not claim the language.",),
        report="comparisons/cmp-1/report.html",
        created_at="2025-11-23T04:20:00+00:00",
    )


def make_wavs(folder: Path, names: Sequence[str], seconds: float = 0.05) -> dict[str, Path]:
    """Write a short quiet tone for each id; the corpus in front of an id is no part of its file's name."""
    samples = 0.1 * np.sin(2 * np.pi * 440 * np.arange(int(16_000 * seconds)) / 16_000)
    paths = {}
    for name in names:
        paths[name] = folder / f"{name.rpartition('/')[2]}.wav"
        soundfile.write(paths[name], samples, 16_000)
    return paths
