"""What makes a voice say a text the same way twice: its decoding settings, in the words of the engine itself."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from models.engine import import_named
from models.errors import LabError
from pipelines.report.formatting import flatten
from pipelines.types import Evaluation, TakeSpread


@dataclass(frozen=True, slots=True)
class Setting:
    """One decoding setting."""

    name: str
    value: str
    meaning: str
    """What the engine says of it; empty where it says nothing."""


@dataclass(frozen=True, slots=True)
class Repeatability:
    """How the syntheses of one evaluation can be made again."""

    model: str
    seed: str | None
    """The seed; None where the engine takes none."""
    summary: str
    """What the engine says of its settings as a whole; empty where it says nothing."""
    settings: tuple[Setting, ...]
    takes: str = ""
    """How much it differed from itself when it was asked again; empty where it says a text the same way each time."""


def repeatability(evaluation: Evaluation) -> Repeatability:
    """Describe the settings that a voice was run with; an engine that is not there any more leaves them without words."""
    decoding = evaluation.model_fingerprint.get("decoding")
    values = flatten(decoding) if isinstance(decoding, Mapping) else {}
    options = _options(evaluation.model_fingerprint.get("engine"))
    summary, meanings = ("", {}) if options is None else _words_of(options)
    return Repeatability(
        model=evaluation.model,
        seed=values.get("seed"),
        summary=summary,
        settings=tuple(Setting(name, value, meanings.get(name, "")) for name, value in values.items()),
        takes=takes_text(evaluation.takes),
    )


def takes_text(takes: TakeSpread | None) -> str:
    """Say how much a voice that draws at random differed from itself; empty of one that does not."""
    if takes is None:
        return ""
    spread = (
        ("round-trip word error rate", takes.word_error_rate, "{:.1%}"),
        ("DNSMOS overall", takes.dnsmos_overall, "{:.2f}"),
        ("duration", takes.duration, "{:.1%}"),
    )
    told = [f"{name} {form.format(value)}" for name, value, form in spread if value is not None]
    asked = f"{takes.prompts} prompts were said {takes.takes} times each"
    return f"It may say a text otherwise the next time. {asked}; standard deviation within a prompt: {', '.join(told)}."


def _options(engine: object) -> type[Any] | None:
    if not isinstance(engine, str):
        return None
    try:
        options = getattr(import_named(engine, "engine"), "Decoding", None)
    except LabError:
        return None
    return options if inspect.isclass(options) else None


def _words_of(options: type[Any]) -> tuple[str, dict[str, str]]:
    """The docstring of a class, and the string under each of its fields."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    except (OSError, TypeError, SyntaxError):  # installed without its source
        return "", {}
    assert isinstance(tree, ast.ClassDef)
    meanings = {}
    for field, said in pairwise(tree.body):
        match field, said:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                meanings[name] = _plain(meaning)
    return _plain(ast.get_docstring(tree) or ""), meanings


def _plain(docstring: str) -> str:
    return " ".join(docstring.replace("`", "").split())
