"""What a page shows of one item: a recording that models heard, or a prompt that voices said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipelines.report import formatting
from pipelines.report.alignment import alignment_markup
from pipelines.report.audio import AudioEmbedder, Budget, Clip
from pipelines.report.measures import measure_texts
from pipelines.report.picture import pictures
from pipelines.report.selection import ScorePair, word_error_rate
from pipelines.report.side import Side
from pipelines.report.sound import read_sound
from pipelines.scores import UtteranceScore


@dataclass(frozen=True, slots=True)
class Heard:
    """What one model made of a recording, or what was heard when a voice said a prompt."""

    title: str
    """Whose it is; empty on a page about one model."""
    rate: str
    """Word error rate as text."""
    errors: str
    """Errors by kind, in words."""
    alignment: Markup
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one voice made of a prompt."""

    label: str
    """Name of its player."""
    refusal: str | None
    """Why it refused; it has said nothing then."""
    clip: Clip
    picture: Markup | None
    """Waveform and spectrogram; None where there is no sound, or no room."""
    measures: tuple[tuple[str, str], ...]
    heard: Heard


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording as a card: facts, player, and what the models heard."""

    anchor: str
    id: str
    facts: tuple[str, ...]
    clip: Clip
    heard: tuple[Heard, ...]
    summary: str = ""
    """One phrase for the card's head."""


@dataclass(frozen=True, slots=True)
class PromptCard:
    """One prompt as a card: what was given, what should be heard, and what the voices made of it."""

    anchor: str
    id: str
    facts: tuple[str, ...]
    given: str
    expected: str
    spoken: tuple[Spoken, ...]
    summary: str = ""
    """One phrase for the card's head."""


def heard(score: UtteranceScore, title: str = "", without_words: str = "non-speech") -> Heard:
    """Describe one answer: rate, errors by kind, alignment and raw texts."""
    words = score.words
    kinds = (
        formatting.count_text(words.substitutions, "substitution"),
        formatting.count_text(words.deletions, "deletion"),
        formatting.count_text(words.insertions, "insertion"),
    )
    rate = word_error_rate(score)
    return Heard(
        title=title,
        rate=without_words if rate is None else f"WER {formatting.value_text('wer', 'ratio', rate)}",
        errors=", ".join(kinds),
        alignment=alignment_markup(score),
        reference=score.reference,
        hypothesis=score.hypothesis,
    )


def errors_text(pair: ScorePair) -> str:
    """Say how many more or fewer errors the candidate has."""
    delta = pair.errors_delta
    return f"{formatting.count_text(abs(delta), 'more error' if delta > 0 else 'fewer error')} by the candidate"


def item_facts(score: UtteranceScore) -> tuple[str, ...]:
    """List what an item says of itself: language, speaker, tags."""
    told = {"language": score.language, "speaker": score.speaker, **score.tags}
    return tuple(f"{key} {value}" for key, value in told.items() if value not in ("", "none", "unknown"))


def recording_facts(score: UtteranceScore) -> tuple[str, ...]:
    """List what a reader wants to know of a recording: length, language, speaker, tags."""
    return (formatting.duration_text(score.audio_s), *item_facts(score))


class PromptCards:
    """Makes the cards of prompts; sound and pictures take from the page's room in the order of the cards."""

    def __init__(self, sides: Sequence[Side], budget: Budget) -> None:
        """Take one side, or the two that a page compares."""
        self._sides = sides
        self._budget = budget
        self._embedders = [AudioEmbedder(side.audio, budget) for side in sides]

    def card(self, anchor: str, scores: Sequence[UtteranceScore], summary: str = "") -> PromptCard:
        """Make the card of one prompt from its scores, one a side."""
        first = scores[0]
        prompt = self._sides[0].prompts.get(first.id)
        titles = ("",) if len(scores) == 1 else ("Candidate", "Baseline")
        paths = [side.audio.get(first.id) for side in self._sides]
        drawn = [
            picture if picture is not None and self._budget.take(len(picture)) else None
            for picture in pictures([None if path is None else read_sound(path) for path in paths])
        ]
        return PromptCard(
            anchor=anchor,
            id=first.id,
            facts=item_facts(first),
            given=prompt.text if prompt else first.reference,
            expected=first.reference,
            spoken=tuple(
                self._spoken(number, score, title, picture)
                for number, (score, title, picture) in enumerate(zip(scores, titles, drawn, strict=True))
            ),
            summary=summary,
        )

    def _spoken(self, number: int, score: UtteranceScore, title: str, picture: Markup | None) -> Spoken:
        side = self._sides[number]
        model = side.evaluation.model
        silent = Clip(None, "", "the voice gave no audio")
        return Spoken(
            label=f"{score.id} as said by {model}",
            refusal=side.refusal(score.id),
            clip=self._embedders[number].clip(score.id) if score.id in side.audio else silent,
            picture=picture,
            measures=measure_texts(score.measures),
            heard=heard(score, f"{title}: {model}" if title else "", side.words.without_words),
        )
