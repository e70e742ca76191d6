"""The Data Docs page: Great Expectations' own rendering of both suites, in one file that asks nothing of the network.

Its page template loads Bootstrap, fonts and scripts from the web; the sections alone do not. So the sections are rendered by
it, the few rules that their layout needs are ours, and the page's own policy forbids whatever would still be fetched or run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.validate.result import Validation

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

_STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_ACTIVE = r"<script\b.*?</script\s*>|<style\b.*?</style\s*>|<(?:link|img|iframe|object|embed|meta|base)\b[^>]*>"


def render_page(validation: Validation, natives: Sequence[ExpectationSuiteValidationResult]) -> str:
    """Render the page.

    Args:
        validation: What was found, for its summary.
        natives: What Great Expectations found, a suite each.
    """
    sections = "\n".join(_suite_section(native) for native in natives)
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>Validation of {escape(validation.corpus)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{_summary(validation)}\n{sections}\n</main>\n"
        "<footer>Suites run and rendered by Great Expectations. This page is one file and asks nothing of the network."
        "</footer>\n</body>\n</html>\n"
    )


def _summary(validation: Validation) -> str:
    facts = (
        f"{validation.utterances} lines, {validation.minutes:.1f} minutes, {validation.speakers} speakers · "
        f"data <code>{escape(validation.data_version)}</code> · {escape(validation.created_at[:16].replace('T', ' '))} UTC"
    )
    items = "\n".join(
        f'<li class="{escape(result.severity)}"><strong>{escape(result.severity)}</strong> {escape(result.sentence)}</li>'
        for result in validation.failed
    )
    found = f'<ul class="found">\n{items}\n</ul>' if items else "<p>Every expectation is met.</p>"
    rows = "\n".join(
        f"<tr><td>{_mark(result.success)}</td><th scope='row'>{escape(result.name)}</th><td>{escape(result.severity)}</td>"
        f"<td class='num'>{result.unexpected}</td><td class='num'>{result.checked}</td>"
        f"<td>{escape(result.description)}</td></tr>"
        for result in validation.expectations
    )
    return (
        f'<h1>{escape(validation.corpus)}: <span class="{validation.verdict.split()[0]}">{validation.verdict}</span></h1>\n'
        f"<p>{facts}</p>\n{found}\n<table>\n<thead><tr><th></th><th>Expectation</th><th>Severity</th>"
        f"<th class='num'>Unexpected</th><th class='num'>Checked</th><th>What is expected</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>"
    )


def _mark(success: bool) -> str:
    return '<i class="fas fa-check-circle"></i>' if success else '<i class="fas fa-times"></i>'


def _suite_section(native: ExpectationSuiteValidationResult) -> str:
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    document = ValidationResultsPageRenderer(run_info_at_end=True).render(native)
    view = DefaultJinjaSectionView()
    name = str(native.suite_name)
    parts = [
        view.render({"section": section.to_json_dict(), "section_loop": {"index": f"{name}-{number}"}})
        for number, section in enumerate(document.sections, start=1)
    ]
    return f"<section>\n<h2>Suite {escape(name)}</h2>\n{inert(''.join(parts))}\n</section>"


def inert(html: str) -> str:
    """Take out what a page would load or run, and links to pages of a site that is not built."""
    text = re.sub(_ACTIVE, "", html, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"\son\w+\s*=\s*(\"[^\"]*\"|'[^']*')", "", text, flags=re.IGNORECASE)
    return re.sub(r"</?a\b[^>]*>", "", text, flags=re.IGNORECASE)
