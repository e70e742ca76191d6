"""Running the suites with Great Expectations over the tables in SQLite; the only module that imports it to check."""

from __future__ import annotations

import logging
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import StateError
from pipelines.validate.limits import Severity, ValidationLimits
from pipelines.validate.result import Example, ExpectationResult
from pipelines.validate.suites import Expectation, read_suite
from pipelines.validate.tables import NUMBERS

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

EXAMPLES = 5
"""Unexpected values that a result names."""
GX_SEVERITY = {"error": "critical", "warning": "warning"}


@dataclass(frozen=True)
class Checked:
    """What one suite found: our record of it, and Great Expectations' own for its page."""

    results: tuple[ExpectationResult, ...]
    native: ExpectationSuiteValidationResult


def run_suites(database: Path, suites: Sequence[str], limits: ValidationLimits, corpus: str) -> list[Checked]:
    """Hold the tables to their suites.

    Args:
        database: What `pipelines.validate.tables.fill` wrote.
        suites: Names of suites, each of a table of that name.
        limits: Their thresholds.
        corpus: Name told on the page.

    Raises:
        StateError: Great Expectations is not installed, or an expectation could not be evaluated.
    """
    with _quiet():
        try:
            import great_expectations as gx
        except ImportError as error:
            raise StateError(
                f"Great Expectations cannot be imported ({error}).", "Install it with `pip install 'modellab[validate]'`."
            ) from error
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        # Its own site of docs would be a folder in /tmp that stays; ours is one page beside the result.
        stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
        bars = ProgressBarsConfig(globally=False)
        context = gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(store_backend_defaults=stores, progress_bars=bars, analytics_enabled=False),
        )
        source = context.data_sources.add_sqlite(corpus, connection_string=f"sqlite:///{database}")
        checked = []
        for name in suites:
            expectations = read_suite(name).expectations
            suite = context.suites.add(gx.ExpectationSuite(name=name))
            for expectation in expectations:
                suite.add_expectation(_native(expectation, limits))
            batch = source.add_table_asset(name, table_name=name).add_batch_definition_whole_table(corpus)
            definition = gx.ValidationDefinition(name=f"{corpus} {name}", data=batch, suite=suite)
            native = context.validation_definitions.add(definition).run(
                expectation_parameters=_parameters(limits),
                result_format={"result_format": "BASIC", "partial_unexpected_count": EXAMPLES},
            )
            checked.append(Checked(tuple(_results(name, native, limits, database)), native))
    return checked


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep its log and its warnings off the console: what was found is told by us."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _parameters(limits: ValidationLimits) -> dict[str, Any]:
    values = limits.model_dump(exclude={"severity"})
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _native(expectation: Expectation, limits: ValidationLimits) -> Any:
    import great_expectations.expectations as gxe

    kind = {
        "expect_column_values_to_be_null": gxe.ExpectColumnValuesToBeNull,
        "expect_column_values_to_be_unique": gxe.ExpectColumnValuesToBeUnique,
        "expect_column_values_to_be_between": gxe.ExpectColumnValuesToBeBetween,
        "expect_column_values_to_be_in_set": gxe.ExpectColumnValuesToBeInSet,
    }[expectation.type]
    bounds = {"min_value": expectation.min, "max_value": expectation.max, "value_set": expectation.set}
    return kind(
        column=expectation.column,
        severity=GX_SEVERITY[severity_of(expectation, limits)],
        description=f"{expectation.name}: {expectation.description}",
        notes=expectation.remedy,
        meta={"name": expectation.name},
        **{key: _parameter(value) for key, value in bounds.items() if value is not None},
    )


def _parameter(value: str | float) -> object:
    """A number as it is; the name of a limit as Great Expectations' parameter of the run."""
    return {"$PARAMETER": value} if isinstance(value, str) else value


def severity_of(expectation: Expectation, limits: ValidationLimits) -> Severity:
    """What the project or the corpus says, or else the suite."""
    return limits.severity.get(expectation.name, expectation.severity)


def _results(
    suite: str, native: ExpectationSuiteValidationResult, limits: ValidationLimits, database: Path
) -> Iterator[ExpectationResult]:
    by_name = {result.expectation_config.meta["name"]: result for result in native.results}
    with closing(sqlite3.connect(database)) as tables:
        for expectation in read_suite(suite).expectations:
            result = by_name[expectation.name]
            raised = result.exception_info or {}
            if raised.get("raised_exception") or "element_count" not in result.result:
                raise StateError(
                    f"The expectation {expectation.name} could not be evaluated ({raised.get('exception_message')}).",
                    "This was not foreseen; run the command again with --debug.",
                )
            found = result.result
            unexpected = int(found["unexpected_count"])
            # An expectation that values be NULL has asked about all of them; others pass over the ones that are.
            checked = int(found["element_count"]) - int(found.get("missing_count") or 0)
            values = found.get("partial_unexpected_list", [])
            yield ExpectationResult(
                name=expectation.name,
                suite=suite,
                severity=severity_of(expectation, limits),
                success=bool(result.success),
                checked=checked,
                unexpected=unexpected,
                examples=tuple(_examples(tables, suite, expectation, values)) if unexpected else (),
                description=expectation.description,
                remedy=expectation.remedy,
            )


def _examples(tables: sqlite3.Connection, suite: str, expectation: Expectation, values: Sequence[Any]) -> Iterator[Example]:
    """Find whose values these are: Great Expectations names values, a person looks for ids."""
    distinct = list(dict.fromkeys(values))
    marks = ", ".join("?" * len(distinct))
    query = f"select label, {expectation.column} from {suite} where {expectation.column} in ({marks}) limit {EXAMPLES}"  # noqa: S608
    rows = tables.execute(query, distinct).fetchall()
    if expectation.type == "expect_column_values_to_be_unique":
        # One example names all who share a value.
        for value in distinct:
            sharing = [str(label) for label, shared in rows if shared == value]
            if len(sharing) > 1:
                yield Example(id=sharing[0], found=f"the same as {', '.join(sharing[1:])}")
        return
    for label, value in rows:
        yield Example(id=str(label), found=_worded(expectation, value))


def _worded(expectation: Expectation, value: object) -> str:
    return expectation.show.format(value=float(str(value)) if expectation.column in NUMBERS else value)
