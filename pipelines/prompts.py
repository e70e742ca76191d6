"""Prompts: what voices are asked to say. A corpus with the task tts is a manifest of texts, without audio."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from models.errors import CorpusError
from models.types import Record
from pipelines.corpus import VOICE_KEYS, CorpusConfig, check_inside, corpus_folder, read_config, utterance_of
from pipelines.manifest import MANIFEST, json_object, read_lines, record_of

AUDIO_KEYS = frozenset({"audio_filepath", "duration"})
"""What a line about a recording has, and a prompt has not."""


class Prompt(Record):
    """One line of a prompt manifest."""

    id: str = Field(min_length=1)
    """Unique within its corpus."""
    text: str
    """What the voice is given; white space alone asks for silence."""
    spoken: str | None = None
    """What should be heard, in words, where it is not what is written ("Dr." is heard as "doctor"); None for `text`."""
    reference_audio_filepath: str | None = None
    """A recording of the speaker that the voice should sound like, relative to the corpus's folder."""
    language: str = "en"
    """ISO 639-1 code."""
    speaker: str = "unknown"
    """Prompts that belong together (one dialogue) are resampled together; unknown: each stands alone."""
    license: str = "unknown"
    """Licence of the text."""
    source: str = "unknown"
    """Where it comes from."""
    tags: dict[str, str] = {}
    """Free slices: kind, length …"""

    @property
    def reference(self) -> str:
        """What should be heard."""
        return self.text if self.spoken is None else self.spoken


@dataclass(frozen=True)
class PromptCorpus:
    """One corpus of prompts in memory."""

    folder: Path
    config: CorpusConfig
    prompts: tuple[Prompt, ...]

    @property
    def name(self) -> str:
        """Name of the corpus: its folder's."""
        return self.folder.name


def find_prompts(name: str, data: Path) -> PromptCorpus:
    """Read the prompts of this name under ``data/``, or of this path.

    Raises:
        CorpusError: There is no such corpus, it is broken, or it holds recordings.
    """
    return read_prompts(corpus_folder(name, data))


def read_prompts(folder: Path) -> PromptCorpus:
    """Read a corpus of prompts.

    Raises:
        CorpusError: A line is broken, an id occurs twice, or the corpus is not one of prompts.
    """
    config = read_config(folder)
    if "tts" not in config.tasks:
        raise CorpusError(
            f"{folder.name} is a corpus for {', '.join(config.tasks)}, not of prompts.",
            "Name a corpus whose corpus.yaml has the task tts.",
        )
    return PromptCorpus(folder, config, read_lines(folder / MANIFEST, parse_prompt))


def parse_prompt(line: str) -> Prompt:
    """Read one line of a prompt manifest.

    A line with a recording, in a corpus for both tasks, is held to `pipelines.corpus.parse_line`; its reference is the
    prompt.

    Raises:
        ValueError: With what was found and what was expected.
    """
    data = json_object(line)
    if AUDIO_KEYS.isdisjoint(data):
        prompt = record_of(data, Prompt)
    else:
        recording = utterance_of(data).model_dump(exclude={*AUDIO_KEYS, "variant_of"})
        prompt = record_of({**recording, **{key: data[key] for key in VOICE_KEYS & data.keys()}}, Prompt)
    if prompt.reference_audio_filepath is not None:
        check_inside("reference_audio_filepath", prompt.reference_audio_filepath)
    return prompt


def prompt_digest(prompts: Iterable[Prompt], references: Mapping[str, str] = {}) -> str:
    """Digest of what an evaluation of a voice rests on, independent of order.

    Args:
        prompts: Of one corpus.
        references: Prompt's id → sha256 of the recording that its voice should sound like, of those that have one.
    """
    rows = sorted(
        json.dumps(
            [p.id, p.text, p.reference, p.language, p.speaker, sorted(p.tags.items())]
            + ([references[p.id]] if p.id in references else []),
            ensure_ascii=False,
        )
        for p in prompts
    )
    return hashlib.sha256("\n".join(rows).encode("utf-8")).hexdigest()
