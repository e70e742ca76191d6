"""The pages a person reads: one for an evaluation, one for a comparison.

Both are a single HTML file that asks nothing of the network: styles, the few lines of script, plots and recordings are
inside it, and its content security policy forbids the rest.
"""

from __future__ import annotations

from pipelines.report.comparison import render_comparison
from pipelines.report.evaluation import render_evaluation
from pipelines.report.side import Prompted, Side

__all__ = ["Prompted", "Side", "render_comparison", "render_evaluation"]
