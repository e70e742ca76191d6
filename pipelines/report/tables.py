"""Rows and cells of the pages' tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.report.formatting import delta_text, direction_text, interval_text, metric_label, short_label, value_text
from pipelines.report.selection import headline_metric
from pipelines.types import Evaluation, MetricResult

MAIN_COLUMNS = (
    "wer",
    "cer",
    "substitution_rate",
    "deletion_rate",
    "insertion_rate",
    "invented_words_per_minute",
    "roundtrip_wer",
    "roundtrip_cer",
    "dnsmos_overall",
    "dnsmos_signal",
    "dnsmos_background",
    "dnsmos_p808",
    "silent_share",
    "rtf",
)
"""Metrics of the open table of slices, beside the headline; the others are a click away."""


ABSENT = "\N{EN DASH}"
"""Stands where a metric has nothing to do with a slice: words invented on speech."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number in a table that can be sorted."""

    column: str
    """Label where the table is laid out as cards."""
    value: str
    interval: str
    order: float | None
    """What to sort by; None goes last and is shown as absent."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric over all recordings."""

    label: str
    direction: str
    metric: MetricResult
    cell: Cell


@dataclass(frozen=True, slots=True)
class LossRow:
    """One metric of one degraded variant, beside the same recordings as they were."""

    variant: str
    label: str
    original: str
    degraded: str
    cell: Cell
    n: int
    blocks: int
    note: str


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice."""

    key: str
    value: str
    n: int | None
    """Recordings behind the row's first metric."""
    cells: tuple[Cell, ...]
    mark: int | None
    """Number of the row's footnote."""


@dataclass(frozen=True, slots=True)
class SliceTable:
    """Metrics by slice."""

    columns: tuple[tuple[str, str], ...]
    """Metric and label of each column."""
    rows: tuple[SliceRow, ...]

    footnotes: tuple[str, ...]
    """What a reader must know of the rows' first metrics, each said once."""


def level_text(evaluation: Evaluation) -> str:
    """Name the confidence level of the intervals: "95%"."""
    levels = sorted({metric.level for metric in evaluation.metrics.values()})
    return " and ".join(f"{level:.0%}" for level in levels)


def metric_cell(name: str, metric: MetricResult | None, column: str) -> Cell:
    """Show a metric with its interval, in the column of that label."""
    if metric is None:
        return Cell(column, ABSENT, "", None)
    interval = interval_text(name, metric.unit, metric.ci_low, metric.ci_high) if metric.value is not None else ""
    return Cell(column, value_text(name, metric.unit, metric.value), interval, metric.value)


def metric_rows(evaluation: Evaluation) -> tuple[MetricRow, ...]:
    """List all metrics, those of the open table of slices first."""
    return tuple(
        MetricRow(
            metric_label(name),
            direction_text(evaluation.metrics[name].higher_is_better),
            evaluation.metrics[name],
            metric_cell(name, evaluation.metrics[name], "Value"),
        )
        for name in in_reading_order(evaluation.metrics)
    )


def loss_rows(evaluation: Evaluation) -> tuple[LossRow, ...]:
    """List what the model loses on each degraded variant; nothing where none was evaluated beside its corpus."""
    return tuple(
        LossRow(
            loss.variant,
            metric_label(loss.metric),
            value_text(loss.metric, loss.unit, loss.original),
            value_text(loss.metric, loss.unit, loss.degraded),
            Cell(
                "Difference",
                delta_text(loss.metric, loss.unit, loss.delta),
                interval_text(loss.metric, loss.unit, loss.ci_low, loss.ci_high),
                loss.delta,
            ),
            loss.n,
            loss.blocks,
            loss.note or "",
        )
        for loss in evaluation.losses
    )


def in_reading_order(names: Iterable[str]) -> list[str]:
    """Put metrics that people ask for first, the others after them as they come."""
    given = list(names)
    return [*(name for name in MAIN_COLUMNS if name in given), *(name for name in given if name not in MAIN_COLUMNS)]


def slice_columns(evaluation: Evaluation) -> tuple[list[str], list[str]]:
    """Name the metrics that slices have: those of the open table, and the rest, each in a reader's order."""
    present = {name for metrics in evaluation.slices.values() for name in metrics}
    first = headline_metric(evaluation)
    main = [name for name in dict.fromkeys([*([first] if first else []), *MAIN_COLUMNS]) if name in present]
    rest = [name for name in dict.fromkeys([*evaluation.metrics, *sorted(present)]) if name in present - set(main)]
    return main, rest


def slice_table(evaluation: Evaluation, columns: Sequence[str]) -> SliceTable:
    """Lay the slices out, in the evaluation's order, those without any of these metrics included."""
    labels = [short_label(name) for name in columns]
    rows = []
    footnotes: dict[str, int] = {}
    for name, metrics in evaluation.slices.items():
        key, _, value = name.partition("=")
        first = next((metrics[column] for column in columns if column in metrics), None)
        cells = tuple(metric_cell(c, metrics.get(c), label) for c, label in zip(columns, labels, strict=True))
        note = first.note if first else None
        mark = footnotes.setdefault(note, len(footnotes) + 1) if note else None
        rows.append(SliceRow(key, value, first.n if first else None, cells, mark))
    return SliceTable(tuple(zip(columns, labels, strict=True)), tuple(rows), tuple(footnotes))
