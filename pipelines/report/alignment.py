"""The word alignment as HTML: what was said on the upper line, what was heard instead below it.

Each edit carries a colour and a second cue (a wavy or double line, a strike, a mark, a word for screen readers), so
the page reads without telling colours apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from pipelines.scores import EditOperation, UtteranceScore

LONG_RUN_WORDS = 24
"""A run of right words longer than this is folded in its middle, so errors of a long recording stay in sight."""

KEPT_WORDS = 8
"""Words left open on either side of a fold."""


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """One column of an alignment; a side without a word is None."""

    operation: EditOperation
    reference: str | None
    hypothesis: str | None


def aligned_words(score: UtteranceScore) -> tuple[AlignedWord, ...]:
    """Expand an utterance's chunks into one column a word, in the order spoken."""
    reference = score.normalized_reference.split()
    hypothesis = score.normalized_hypothesis.split()
    columns: list[AlignedWord] = []
    for chunk in score.alignment:
        said = reference[chunk.ref_start : chunk.ref_end]
        heard = hypothesis[chunk.hyp_start : chunk.hyp_end]
        if chunk.operation == "delete":
            columns += [AlignedWord("delete", word, None) for word in said]
        elif chunk.operation == "insert":
            columns += [AlignedWord("insert", None, word) for word in heard]
        else:
            # strict: an equal or substituted run has as many words on both sides, or the alignment is broken.
            columns += [AlignedWord(chunk.operation, *pair) for pair in zip(said, heard, strict=True)]
    return tuple(columns)


_HIT = Markup('<span class="w hit"><span>{reference}</span></span> ')
_SUBSTITUTION = Markup(
    '<span class="w sub"><span class="said">{reference}</span><span class="sr"> heard as </span>'
    '<span class="heard">{hypothesis}</span></span> '
)
_DELETION = Markup(
    '<span class="w del"><del class="said">{reference}</del><span class="sr"> missed</span>'
    '<span class="heard" aria-hidden="true">\N{EMPTY SET}</span></span> '
)
_INSERTION = Markup(
    '<span class="w ins"><span class="said" aria-hidden="true">\N{CARET}</span><span class="sr">invented </span>'
    '<ins class="heard">+{hypothesis}</ins></span> '
)
_WORDS = {"equal": _HIT, "substitute": _SUBSTITUTION, "delete": _DELETION, "insert": _INSERTION}

_FOLD = Markup('<details class="fold"><summary>{count} more words, all right</summary>{words}</details> ')


def _word_markup(column: AlignedWord) -> Markup:
    # Markup.format escapes what it inserts: words come from manifests and engines, and are not to be trusted.
    return _WORDS[column.operation].format(reference=column.reference, hypothesis=column.hypothesis)


def _runs(columns: tuple[AlignedWord, ...]) -> list[list[AlignedWord]]:
    runs: list[list[AlignedWord]] = []
    for column in columns:
        if runs and runs[-1][-1].operation == column.operation:
            runs[-1].append(column)
        else:
            runs.append([column])
    return runs


def _run_markup(run: list[AlignedWord]) -> Markup:
    words = [_word_markup(column) for column in run]
    if run[0].operation != "equal" or len(run) <= LONG_RUN_WORDS:
        return Markup("").join(words)
    middle = words[KEPT_WORDS:-KEPT_WORDS]
    fold = _FOLD.format(count=len(middle), words=Markup("").join(middle))
    return Markup("").join([*words[:KEPT_WORDS], fold, *words[-KEPT_WORDS:]])


def alignment_markup(score: UtteranceScore) -> Markup:
    """Render the alignment of one utterance; empty where neither side has a word."""
    runs = (_run_markup(run) for run in _runs(aligned_words(score)))
    return Markup('<div class="alignment">{}</div>').format(Markup("").join(runs))
