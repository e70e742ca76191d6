"""The documentation says what is so: links, commands, names, numbers of the register, and every example shown."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import typer
import yaml

from modellab.cli import app
from modellab.settings import Settings
from models.card import ModelCard, WeightSource, read_card, read_cards
from models.engine import build_engine, placement_of
from models.errors import EngineError
from models.weights import fetch
from pipelines.calibration import calibration_report
from pipelines.confidence import calibration_metrics
from pipelines.corpus import CorpusConfig, parse_line
from pipelines.gaps import GAP_KEYS
from pipelines.metrics import MACHINE_METRICS, METRICS
from pipelines.normalize import find_normalizer, normalizer_names
from pipelines.outcomes import word_outcomes
from pipelines.policy import SECTIONS, Policy, Rule, read_policy
from pipelines.prompts import Prompt, parse_prompt
from pipelines.types import Utterance

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "starter-remote/README.md")),
    *sorted(DOCS.glob("*.md")),
]
BUILT_IN_DOCS = {"parrot", "hum"}
"""Models that an example makes."""
SHELLS = {"sh", "bash", "console", "shell"}
PLACEHOLDER = re.compile(r"^[A-Z][A-Z_]*$")
WORD_BEFORE = r"(?:^|[\s(/;|&])"


class Fence(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def fences(page: Path, *languages: str) -> list[Fence]:
    pattern = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    text = read(page)
    found = [Fence(match[1], match[2], text[: match.start()].count("\n") + 1) for match in pattern.finditer(text)]
    assert text.count("\n```") + text.startswith("```") == 2 * len(found), f"{page}: a fence is not closed"
    return [fence for fence in found if not languages or fence.language in languages]


def prose(page: Path) -> str:
    """The text without fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    """Code in the running text; a line may break inside it."""
    return [" ".join(code.split()) for code in re.findall(r"`((?:[^`\n]|\n(?!\n))+)`", prose(page))]


class Call(NamedTuple):
    """A program's arguments, as a reader would type them or as the running text names them."""

    arguments: list[str]
    typed: bool
    """From a fenced block; the running text may leave arguments out."""


def calls(page: Path, program: str) -> Iterator[Call]:
    for fence in fences(page, *SHELLS):
        for line in fence.text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\||;|\|", line.removeprefix("$ ")):
                words = shlex.split(part, comments=True)
                while words and re.match(r"^\w+=", words[0]):  # variables set for the command
                    words.pop(0)
                if words and words[0].rpartition("/")[2] == program:
                    yield Call(list(itertools.takewhile(lambda word: not word.startswith(">"), words[1:])), True)
    for code in inline_code(page):
        if code.startswith(f"{program} "):
            yield Call(shlex.split(code)[1:], False)


def every(program: str) -> list[Any]:
    return [
        pytest.param(call, id=f"{name_of(page)}: {' '.join(call.arguments)}")
        for page in PAGES
        for call in calls(page, program)
    ]


def slug(heading: str) -> str:
    """GitHub's anchor of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


# Links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_and_anchors_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"^[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or REPOSITORY not in (file, *file.parents) or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_every_page_is_reached_from_the_index_and_the_readme() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    assert pages <= set(re.findall(r"\]\((\w+\.md)", read(DOCS / "index.md")))
    assert pages <= set(re.findall(r"\]\(docs/(\w+\.md)", read(REPOSITORY / "README.md")))


def test_pages_that_errors_and_comments_name_exist() -> None:
    layers = ("flows", "modellab", "models", "pipelines", "registry", "serving", "starter-remote")
    sources = [REPOSITORY / name for name in ("data.dvc", "dvc.yaml", "params.yaml", "pyproject.toml", "Makefile")]
    sources += [
        path for layer in layers for path in (REPOSITORY / layer).rglob("*") if path.suffix in (".py", ".md", ".html")
    ]
    named = {(name_of(source), page) for source in sources for page in re.findall(r"\bdocs/[\w-]+\.md", read(source))}
    assert len(named) > 5
    assert not {(source, page) for source, page in named if not (REPOSITORY / page).is_file()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    folders = "benchmarks|flows|models|modellab|pipelines|registry|serving|tests|docs|starter-remote"
    named = {code.rstrip("/") for code in inline_code(page) if re.match(rf"^({folders})/[\w/.-]*$", code)}
    named -= {path for name in BUILT_IN_DOCS for path in (f"models/engines/{name}.py", f"models/cards/{name}.yaml")}
    assert not {path for path in named if not (REPOSITORY / path).exists()}
    modules = {code for code in inline_code(page) if re.match(r"^(models|pipelines|flows)\.\w+$", code)}
    assert not {
        module
        for module in modules
        if not any((REPOSITORY / f"{module.replace('.', '/')}{end}").exists() for end in (".py", "/__init__.py"))
    }


# Commands


def test_commands_are_found_at_all() -> None:
    assert len(every("modellab")) > 40
    assert len(every("make")) > 10


@pytest.mark.parametrize("call", every("modellab"))
def test_commands_and_their_options_exist(call: Call) -> None:
    command: Any = typer.main.get_command(app)
    rest = list(call.arguments)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no command {rest[0]}: {sorted(command.commands)}"
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands"):
        assert rest == ["--help"], "a group alone does nothing"
        return
    options = {name: parameter for parameter in command.params for name in parameter.opts if name.startswith("-")}
    places = [parameter for parameter in command.params if not parameter.opts[0].startswith("-")]
    values: list[tuple[str, str]] = []
    while rest:
        word = rest.pop(0)
        if word in ("--help", "--debug"):
            continue
        if not word.startswith("-"):
            assert places, f"{word} is one argument too many"
            values.append((places[0].name, word))
            if places[0].nargs != -1:
                places.pop(0)
            continue
        assert word in options, f"{command.name} has no option {word}: {sorted(options)}"
        if not options[word].is_flag and (rest or call.typed):
            assert rest, f"{word} wants a value"
            values.append((options[word].name, rest.pop(0)))
    assert not call.typed or not any(place.required and place.name not in dict(values) for place in places), (
        "an argument is missing"
    )
    models = {value for name, value in values if name in ("model", "models", "candidate", "against")}
    known = {*read_cards(), *BUILT_IN_DOCS, "production", "asr", "tts"}
    assert not {name for name in models - known if not PLACEHOLDER.match(name)}


@pytest.mark.parametrize("call", every("make"))
def test_make_targets_exist(call: Call) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read(REPOSITORY / "Makefile"), re.MULTILINE))
    assert {word for word in call.arguments if "=" not in word} <= targets


def test_every_command_is_in_the_index() -> None:
    told = " ".join(code for code in inline_code(DOCS / "index.md"))
    root: Any = typer.main.get_command(app)
    names = [
        f"modellab {name} {sub}" if sub else f"modellab {name}"
        for name, command in root.commands.items()
        for sub in (getattr(command, "commands", None) or [""])
    ]
    assert not [name for name in names if name not in told]


# Names


def rows(page: Path) -> dict[str, list[str]]:
    """Rows of the page's tables by the code in their first cell; of two with one name, the first."""
    found = re.findall(r"^\| `([^`]+)` \|(.+)\|$", read(page), re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in reversed(found)}


def test_every_metric_has_its_row_with_unit_and_direction() -> None:
    table = rows(DOCS / "metrics.md")
    voices = read(DOCS / "metrics.md").partition("## Metrics of voices")[2]
    for name, metric in METRICS.items():
        assert name in table, f"docs/metrics.md has no row for {name}"
        assert metric.tasks != ("tts",) or f"\n| `{name}` |" in voices, f"{name} is of voices"
        better = "higher" if metric.higher_is_better else "lower"
        assert table[name][:2] == [metric.unit, better], name
    reported = calibration_metrics(calibration_report(word_outcomes([], [], np.zeros(0, dtype=np.int64))))
    assert {*MACHINE_METRICS, *reported} <= set(table)
    assert all(f"`wer_gap_{key}`" in read(DOCS / "metrics.md") for key in GAP_KEYS)


def test_every_normalizer_has_its_row_with_its_revision() -> None:
    table = rows(DOCS / "metrics.md")
    assert {name: table.get(name, [""])[0] for name in normalizer_names()} == {
        name: find_normalizer(name).revision for name in normalizer_names()
    }


def test_every_kind_of_rule_and_every_field_is_explained() -> None:
    text = read(DOCS / "gate.md")
    for rule in get_args(get_args(Rule)[0]):
        (kind,) = get_args(rule.model_fields["kind"].annotation)
        assert f"### {kind}\n" in text
        for field in rule.model_fields:
            assert f"`{field}`" in text or re.search(rf"^ +(?:- )?{field}:", text, re.MULTILINE), f"{kind}: {field}"
    assert all(re.search(rf"^  {field}:", text, re.MULTILINE) for field in Policy.model_fields)


def test_every_setting_is_in_the_index() -> None:
    table = rows(DOCS / "index.md")
    assert {f"MODELLAB_{name.upper()}" for name in Settings.model_fields} <= set(table)
    wrong = {
        variable
        for page in PAGES
        for variable in re.findall(
            r"\bMODELLAB_[A-Z_]*[A-Z]\b", read(page)
        )  # without the beginning of a name, as for environments
        if variable not in table
    }
    assert not wrong


def test_every_field_of_a_card_and_of_an_utterance_is_explained() -> None:
    cards, corpora = rows(DOCS / "models.md"), rows(DOCS / "corpora.md")
    assert set(ModelCard.model_fields) - {"weights"} <= set(cards)
    assert set(Utterance.model_fields) <= set(corpora)
    told = re.findall(r"`(\w+)`", read(DOCS / "corpora.md").partition("## Prompts")[2].partition("```yaml")[0])
    assert set(Prompt.model_fields) <= set(told)
    assert set(CorpusConfig.model_fields) <= set(corpora)
    kinds = [get_args(source.model_fields["kind"].annotation)[0] for source in get_args(get_args(WeightSource)[0])]
    assert set(kinds) <= set(cards)


def test_the_shipped_cards_are_listed_with_their_tasks_stage_and_format() -> None:
    table = rows(DOCS / "models.md")
    cards = read_cards()
    for name, card in cards.items():
        tasks, _, _, *placed, tested = table[name]
        assert sorted(tasks.split(", ")) == sorted(card.tasks), name
        assert placed == [placement_of(card).compute_type, card.stage], name
        # Nobody here has seen the weights of a card without digests.
        assert tested.startswith("tiny") == card.weights.noted_at_first_fetch, name
    assert set(cards) == {name for name, row in table.items() if len(row) == 6}


# Examples


def policies() -> list[Any]:
    return [
        pytest.param(fence.text, id=f"{name_of(page)}:{fence.line}")
        for page in PAGES
        for fence in fences(page, "yaml")
        if re.search(r"^gate(_tts)?:", fence.text, re.MULTILINE)
    ]


def test_policies_are_found_at_all() -> None:
    assert len(policies()) >= len(get_args(get_args(Rule)[0]))


@pytest.mark.parametrize("text", policies())
def test_every_policy_shown_is_valid(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    shown = [task for task, section in SECTIONS.items() if section in yaml.safe_load(text)]
    assert shown and all(read_policy(tmp_path / "params.yaml", task).rules for task in shown)


@pytest.mark.parametrize("page", ["quickstart.md", "corpora.md"])
def test_every_corpus_yaml_shown_is_valid_and_names_presets(page: str) -> None:
    shown = [fence.text for fence in fences(DOCS / page, "yaml")]
    assert shown
    for text in shown:
        choice = CorpusConfig.model_validate(yaml.safe_load(text)).normalizers
        assert {choice.default, *(rule.use for rule in choice.rules)} <= set(normalizer_names())


def test_every_line_of_a_manifest_shown_is_valid() -> None:
    lines = [line for page in PAGES for fence in fences(page, "json") for line in fence.text.splitlines()]
    assert lines
    assert all((parse_line if "audio_filepath" in line else parse_prompt)(line).id for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_shown_compiles(page: Path) -> None:
    for fence in fences(page, "python"):
        ast.parse(fence.text)


def shown_engine(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Save the class and the card that docs/models.md shows, and read the card."""
    code, shown = (fences(DOCS / "models.md", kind)[number].text for kind in ("python", "yaml"))
    name = yaml.safe_load(shown)["name"]
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    (folder / f"{name}.yaml").write_text(shown.replace(f"models.engines.{name}:", f"{name}:"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return read_card(folder / f"{name}.yaml")


def test_the_engine_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = shown_engine(0, tmp_path, monkeypatch)
    said = re.search(r'^echo "(.+)" > my-weights/parrot/model.txt$', read(DOCS / "models.md"), re.MULTILINE)
    assert said
    (tmp_path / "weights" / "parrot").mkdir(parents=True)
    (tmp_path / "weights" / "parrot" / "model.txt").write_text(f"{said[1]}\n", encoding="utf-8")
    monkeypatch.setenv("MODELLAB_LOCAL_WEIGHTS", str(tmp_path / "weights"))
    located = fetch(card, {card.name: card}, tmp_path / "cache", lambda line: None)
    engine = build_engine(card, located.folder, placement_of(card))
    assert engine.transcribe(np.zeros(16_000, dtype=np.float32), language="en").text == said[1]
    assert engine.transcribe(np.zeros(0, dtype=np.float32), language=None).text == ""


def test_the_voice_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = shown_engine(1, tmp_path, monkeypatch)
    voice = build_engine(card, tmp_path, placement_of(card), "tts")
    text = "One sentence. And another, which is longer."
    said = voice.synthesize(text)
    pieces = [piece.samples for piece in voice.stream(text)]  # type: ignore[attr-defined]
    assert len(pieces) == 2 and np.array_equal(np.concatenate(pieces), said.samples)
    assert said.samples.dtype == np.float32 and 0.2 < np.abs(said.samples).max() < 0.4
    assert voice.synthesize(text, speed=2.0).duration_s == pytest.approx(said.duration_s / 2, abs=0.01)
    with pytest.raises(EngineError, match="no voice named 'alto'"):
        voice.synthesize(text, voice="alto")


# What must not be there


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_absolute_local_paths(page: Path) -> None:
    roots = "home|root|Users|work|tmp|mnt|opt|var|workspace|srv"
    assert not re.findall(rf"{WORD_BEFORE}(/(?:{roots})/\S*|~/\S+|[A-Z]:\\\S+|file://\S+)", read(page))


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = read(REPOSITORY / "LICENSE")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and len(text.splitlines()) > 195
    assert 'license = "Apache-2.0"' in read(REPOSITORY / "pyproject.toml")


def test_the_starter_corpus_has_the_licences_that_the_readme_counts(starter: Path) -> None:
    told = read(REPOSITORY / "README.md").replace("\n", " ")
    lines = [parse_line(line) for line in read(starter / "manifest.jsonl").splitlines()]
    for licence, wording in (
        ("public-domain", "public domain ({n} recordings)"),
        ("CC0-1.0", "CC0-1.0 ({n})"),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0 ({n},"),
        ("Apache-2.0", "Apache-2.0 ({n},"),
    ):
        count = sum(line.license.startswith(licence) for line in lines)
        assert wording.format(n=count) in told
