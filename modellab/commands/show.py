"""How results look in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from modellab.console import out
from models.types import Task
from pipelines.decision import Comparison, RuleResult, Verdict
from pipelines.report.formatting import delta_text, interval_text, metric_label, metric_text, value_text
from pipelines.types import Evaluation

HEADLINES: Mapping[Task, tuple[str, ...]] = {
    "asr": (
        "wer", "cer", "substitution_rate", "deletion_rate", "insertion_rate", "sentence_error_rate",
        "invented_words_per_minute", "rtf", "latency_p50", "latency_p95", "load_time", "peak_memory",
    ),
    "tts": (
        "roundtrip_wer", "roundtrip_cer", "dnsmos_overall", "dnsmos_signal", "dnsmos_background", "dnsmos_p808", "plcmos",
        "speaker_similarity", "silent_share", "clipped_share", "longest_pause", "duration_spread", "rtf", "latency_p50",
        "first_audio_p50", "load_time", "peak_memory",
    ),
}  # fmt: skip
SLICED: Mapping[Task, tuple[str, str]] = {"asr": ("wer", "WER"), "tts": ("roundtrip_wer", "round-trip WER")}
WITH_REFERENCE = frozenset({"speaker_similarity"})
"""Shown only where prompts have what it compares with."""
SLICE_KEYS = ("domain", "bandwidth", "language", "accent", "kind")
COLOURS: dict[Verdict, str] = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def show_evaluation(evaluation: Evaluation) -> None:
    """Print the headline metrics, the slices' error rates, what was left out, and where the report is."""
    task = evaluation.task
    rate, label = SLICED[task]
    what, done = ("prompts", "synthesised") if task == "tts" else ("recordings", "inferred")
    minutes = evaluation.timings.audio_s / 60
    n = evaluation.timings.inferred + evaluation.timings.reused
    out.print(
        f"[bold]{evaluation.model}[/] on {', '.join(evaluation.corpora)}: {n} {what}, {minutes:.1f} min "
        f"({evaluation.timings.inferred} {done}, {evaluation.timings.reused} from the store) "
        f"in {evaluation.timings.wall_s:.1f} s"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    table.add_column("value [95% interval]")
    table.add_column("n", justify="right")
    for name in HEADLINES[task]:
        if (result := evaluation.metrics.get(name)) is not None and (result.n or name not in WITH_REFERENCE):
            table.add_row(metric_label(name), metric_text(name, result), str(result.n or ""))
    for name, metrics in evaluation.slices.items():
        if name.partition("=")[0] in SLICE_KEYS and rate in metrics:
            table.add_row(f"[dim]{label}, {name}[/]", metric_text(rate, metrics[rate]), str(metrics[rate].n))
    out.print(table)
    for loss in evaluation.losses:
        if loss.metric == rate:
            out.print(
                f"{loss.variant}: {_within(metric_label(rate))} {value_text(rate, loss.unit, loss.original)} becomes "
                f"{value_text(rate, loss.unit, loss.degraded)}, {delta_text(rate, loss.unit, loss.delta)} "
                f"{interval_text(rate, loss.unit, loss.ci_low, loss.ci_high)} "
                f"({loss.n} recordings, {loss.blocks} speakers)",
                markup=False,
            )
    if evaluation.takes is not None:
        from pipelines.report.repeatability import takes_text

        out.print(takes_text(evaluation.takes), markup=False)
    if evaluation.timings.cost is not None:
        out.print(f"cost of this run: {evaluation.timings.cost:.4f}, in the currency of the card's price")
    for bad in evaluation.quarantined:
        out.print(f"[yellow]left out[/] {bad.id}: ", end="")
        out.print(bad.reason, markup=False)
    for language, count in sorted(evaluation.unsupported.items()):
        out.print(f"[yellow]not claimed by the card[/] {language}: {count} {what}")
    out.print(f"report: {evaluation.report}", markup=False)


def show_comparison(comparison: Comparison) -> None:
    """Print each rule with its verdict and reason, the decision, and where the report is."""
    out.print(f"[bold]{comparison.candidate}[/] against [bold]{comparison.baseline}[/]")
    show_rules(comparison.rules)
    for note in comparison.notes:
        out.print(f"[dim]· {note}[/]")
    colour = COLOURS[comparison.verdict]
    out.print(f"verdict: [bold {colour}]{comparison.verdict}[/]")
    if comparison.report:
        out.print(f"report: {comparison.report}", markup=False)


def show_rules(rules: Sequence[RuleResult]) -> None:
    """Print each rule with its verdict and reason."""
    for rule in rules:
        # Lines instead of a table: a reason is a sentence, and must be readable in a narrow terminal.
        colour = COLOURS[rule.verdict]
        place = "" if rule.kind == "precondition" else f" [dim]({_within(metric_label(rule.metric))}, {rule.slice})[/]"
        out.print(f"[{colour}]{rule.verdict:12}[/] [bold]{rule.rule}[/]{place}: ", end="")
        out.print(rule.reason, markup=False)


def _within(label: str) -> str:
    """A metric's name inside a sentence: "word error rate", but "DNSMOS overall"."""
    return label if label[:2].isupper() else label[0].lower() + label[1:]
