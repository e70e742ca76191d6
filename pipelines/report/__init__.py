"""The pages a person reads: one for an evaluation, one for a comparison.

Both are a single HTML file that asks nothing of the network: styles, the few lines of script, plots and recordings are
inside it, and its content security policy forbids the rest.
"""

from __future__ import annotations
