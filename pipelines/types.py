"""The records of an evaluation, from a manifest's line to its metrics."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from models.types import Record, Task, Transcript


class Utterance(Record):
    """One line of a manifest: a recording and what is said in it (NeMo's keys, and ours)."""

    id: str = Field(min_length=1)
    """Unique within its corpus."""
    audio_filepath: str = Field(min_length=1)
    """Path of the recording, relative to the manifest's folder."""
    duration: float = Field(ge=0, allow_inf_nan=False)
    """Length in seconds, as declared; 0 only of a synthesis that gave no audio."""
    text: str
    """Reference transcript; the empty string means non-speech."""
    language: str = "en"
    """ISO 639-1 code."""
    speaker: str = "unknown"
    """Who speaks; recordings of one speaker are resampled together."""
    license: str = "unknown"
    """Licence of the recording."""
    source: str = "unknown"
    """Where it comes from."""
    tags: dict[str, str] = {}
    """Free slices: domain, accent, gender, bandwidth …"""
    variant_of: str = ""
    """``CORPUS/ID`` of the recording that this one is a degraded variant of; empty for an original."""


class Timing(Record):
    """What one inference cost, measured around the engine's call alone."""

    inference_s: float
    """Wall time of the call in seconds, decoding of the file left out."""
    decode_s: float
    """Wall time of reading and resampling the file in seconds."""


class Prediction(Record):
    """What one model said for one recording: raw, unnormalised, as the store keeps it."""

    audio_sha256: str
    """Digest of the file's bytes."""
    model_fingerprint: str
    """Digest of `models.fingerprint.ModelFingerprint`."""
    task: Task
    """What was asked for."""
    language: str | None
    """Language the engine was told, None when it had to detect it."""
    audio_s: float
    """Decoded length in seconds."""
    transcript: Transcript
    """The answer."""
    timing: Timing
    """What it cost when it was computed; never used for speed once it comes from the store."""

    @property
    def cost(self) -> float | None:
        """Its price, see `models.types.Transcript.cost`."""
        return self.transcript.cost


class Quarantined(Record):
    """A recording that was left out, and why."""

    id: str
    """The utterance."""
    audio_filepath: str
    """Its file, relative to the corpus."""
    reason: str
    """What was found, what was expected, what to do."""


class MetricResult(Record):
    """One number of one slice with all that is needed to trust it."""

    value: float | None
    """The value; None where it could not be measured, and `note` says why."""
    unit: str
    """``ratio``, ``s``, ``MiB``, ``1/min`` …"""
    higher_is_better: bool
    """Direction in which the model improves."""
    n: int
    """Utterances it rests on."""
    ci_low: float | None = None
    """Lower end of the interval."""
    ci_high: float | None = None
    """Upper end of the interval."""
    level: float = 0.95
    """Confidence level of the interval."""
    blocks: int | None = None
    """Independent blocks (speakers) behind the interval."""
    counts: dict[str, float] = {}
    """What the value was computed from: errors, words, seconds …"""
    note: str | None = None
    """What a reader must know: few speakers, nothing measured …"""


class Suspect(Record):
    """A reference that engines agree against; for people to look at, never used in a metric."""

    id: str
    """The utterance."""
    reference: str
    """What the manifest says."""
    likely: str
    """What the engines agree on."""
    score: float
    """In [0, 1]: agreement between the engines times disagreement with the reference."""
    models: tuple[str, ...]
    """The models that agree."""


class VariantLoss(Record):
    """What a model loses on a degraded variant: the same recordings before and after, paired."""

    variant: str
    """Value of the tag ``variant``."""
    metric: str
    """Name of the metric."""
    unit: str
    """Of all values below."""
    higher_is_better: bool
    """Direction of the metric."""
    n: int
    """Recordings that have both."""
    blocks: int
    """Speakers behind the interval."""
    original: float | None
    """The value on the originals."""
    degraded: float | None
    """The value on their variants."""
    delta: float | None
    """Degraded minus original."""
    ci_low: float | None
    """Lower end of the interval of `delta`."""
    ci_high: float | None
    """Upper end of it."""
    level: float
    """Confidence level of the interval."""
    note: str | None = None
    """What a reader must know: few speakers …"""


class EvaluationFingerprint(Record):
    """What two evaluations must share, but for the model, to be compared."""

    model: str
    """Digest of the model's fingerprint."""
    corpora: dict[str, str]
    """Corpus → digest of the utterances used: audio bytes, references, languages, tags."""
    data_version: str
    """DVC's hash of ``data/``, with ``+modified`` where the working tree differs."""
    normalizers: dict[str, str]
    """Normalizer → its version and the digest of the utterances it was applied to."""
    scorer: str
    """Version of the scorer."""
    quarantined: str
    """Digest of the ids that were left out."""
    recogniser: str = ""
    """Who listened to a synthesis: card and digest of the reference recogniser's fingerprint."""
    measures: str = ""
    """Version of the measures of a synthesis's audio."""
    digest: str
    """Digest of all the above."""


class Timings(Record):
    """What the evaluation itself cost."""

    inferred: int
    """Predictions computed in this run."""
    reused: int
    """Predictions taken from the store."""
    wall_s: float
    """Wall time of the evaluation in seconds."""
    audio_s: float
    """Seconds of audio evaluated."""
    inference_s: float
    """Seconds of fresh inference, summed over workers."""
    cost: float | None = None
    """What this run's calls cost by the card's price, in its currency; None where the card names none."""
    workers: int
    """Worker processes."""
    threads: int
    """Threads of each worker."""


class TakeSpread(Record):
    """How much a voice that draws at random differs from itself, over some prompts that it said several times."""

    takes: int
    """How often each prompt was said."""
    prompts: int
    """How many were."""
    word_error_rate: float | None
    """Standard deviation between the takes of a prompt of its round-trip word error rate; None without words."""
    dnsmos_overall: float | None
    """The same of DNSMOS overall."""
    duration: float | None
    """The same of ln(duration): about the relative spread of the length."""


class Evaluation(Record):
    """One model on one selection of data. `evaluate --json` prints it."""

    run_id: str
    """MLflow's run, and the name of the folder under ``evaluations/`` in the home."""
    model: str
    """The card's name."""
    task: Task
    """What was evaluated."""
    corpora: tuple[str, ...]
    """The corpora used."""
    selection: dict[str, str]
    """`--slice` and `--limit` as given; empty for everything."""
    data_version: str
    """See `EvaluationFingerprint.data_version`."""
    fingerprint: EvaluationFingerprint
    """What must agree for a comparison."""
    model_fingerprint: dict[str, Any]
    """Engine, version, weights, decoding settings, device and compute type."""
    environment: dict[str, str]
    """Hardware, versions, git commit and dirty state."""
    metrics: dict[str, MetricResult]
    """Metrics over everything."""
    slices: dict[str, dict[str, MetricResult]]
    """``key=value`` → metrics."""
    losses: tuple[VariantLoss, ...] = ()
    """Variants of the corpora evaluated beside them, each held against its originals."""
    suspect_references: tuple[Suspect, ...]
    """References to look at."""
    quarantined: tuple[Quarantined, ...]
    """Recordings left out because they are bad."""
    unsupported: dict[str, int]
    """Language → recordings left out because the card does not claim it."""
    validations: dict[str, str] = {}
    """Corpus → what the newest validation of exactly this data found; its page lies beside the report."""
    predictions: str
    """Path of the Parquet file with one row an utterance."""
    report: str
    """Path of the HTML report."""
    timings: Timings
    """What it cost."""
    created_at: str
    """ISO 8601, UTC."""
    takes: TakeSpread | None = None
    """Of a voice that may say a text otherwise the next time; None where it is seeded or draws nothing."""
