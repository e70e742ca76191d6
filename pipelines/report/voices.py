"""What only the pages of voices show: prompts with what was made of them, refusals, and how the speech can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.report.audio import Budget
from pipelines.report.cards import PromptCard, PromptCards, errors_text
from pipelines.report.formatting import delta_text, duration_text
from pipelines.report.measures import MOS
from pipelines.report.page import Fact
from pipelines.report.picture import Shades
from pipelines.report.repeatability import repeatability
from pipelines.report.selection import ScorePair, invented_words, most_different_prompts, worst_prompts
from pipelines.report.side import Side
from pipelines.scores import UtteranceScore


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A prompt that a voice refused."""

    id: str
    given: str
    refusal: str


def refused_rows(side: Side) -> list[RefusedRow]:
    """List the prompts that a voice refused, in the manifest's order."""
    return [RefusedRow(name, p.text, p.refusal) for name, p in side.prompts.items() if p.refusal is not None]


def refused_fact(side: Side) -> Fact:
    """Say how many prompts a voice refused, loudly when there are any."""
    refused = len(refused_rows(side))
    return Fact("Refused", str(refused), "counted as if nothing was said" if refused else "none", bool(refused))


def evaluation_values(side: Side) -> dict[str, object]:
    """Say what only the page of a voice shows: what it made of prompts, and how it can make it again."""
    cards = PromptCards((side,), Budget())

    def shown(scores: Sequence[UtteranceScore], prefix: str) -> list[PromptCard]:
        return [cards.card(f"{prefix}-{number}", (score,)) for number, score in enumerate(scores, start=1)]

    said = [score for score in side.scores if side.refusal(score.id) is None]
    return {
        "worst": shown(worst_prompts(said), "worst"),
        "said": sum(1 for s in said if s.is_speech),
        "wrong": sum(1 for s in said if s.is_speech and s.words.errors),
        "invented": shown(invented_words(side.scores), "invented"),
        "refused": refused_rows(side),
        "listener": side.listener,
        "shades": Shades(),
        "repeatable": [repeatability(side.evaluation)],
    }


def listening_facts(pairs: Sequence[ScorePair], sides: tuple[Side, Side]) -> tuple[Fact, ...]:
    """Say how much was said of what was compared, and how much refused, loudly where the candidate refuses more."""
    ours_s = sum(pair.candidate.audio_s for pair in pairs)
    theirs_s = sum(pair.baseline.audio_s for pair in pairs)
    ours, theirs = (sum(side.refusal(pair.candidate.id) is not None for pair in pairs) for side in sides)
    return (
        Fact("Audio", duration_text(ours_s), f"by the candidate; {duration_text(theirs_s)} by the baseline"),
        Fact("Refused", str(ours), f"by the candidate; {theirs} by the baseline", ours > theirs),
    )


def silence_texts(pair: ScorePair, sides: tuple[Side, Side]) -> list[str]:
    """Say which of the two gave no audio, and whether that was a refusal."""
    parts = []
    for role, score, side in zip(("candidate", "baseline"), (pair.candidate, pair.baseline), sides, strict=True):
        if side.refusal(score.id) is not None:
            parts.append(f"refused by the {role}")
        elif not score.audio_s:
            parts.append(f"no audio from the {role}")
    return parts


def different_prompts(pairs: Sequence[ScorePair], sides: tuple[Side, Side]) -> list[PromptCard]:
    """Make a card of each prompt on which the voices differ most; what both refused says nothing of either."""
    cards = PromptCards(sides, Budget())
    said = [pair for pair in pairs if any(side.refusal(pair.candidate.id) is None for side in sides)]
    shown = []
    for number, pair in enumerate(most_different_prompts(said), start=1):
        parts = silence_texts(pair, sides)
        if pair.errors_delta:
            parts.append(errors_text(pair))
        if pair.mos_delta:
            parts.append(f"DNSMOS {delta_text(MOS, '', pair.mos_delta)}")
        shown.append(cards.card(f"different-{number}", (pair.candidate, pair.baseline), ", ".join(parts)))
    return shown


def comparison_values(pairs: Sequence[ScorePair], sides: tuple[Side, Side]) -> dict[str, object]:
    """Say what only the page of two voices shows."""
    return {
        "different": different_prompts(pairs, sides),
        "paired": len(pairs),
        "listener": sides[0].listener,
        "shades": Shades(),
        "fingerprint": sides[0].evaluation.fingerprint,
        "repeatable": [repeatability(side.evaluation) for side in sides],
    }
