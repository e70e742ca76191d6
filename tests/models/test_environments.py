"""An engine that lives in a Python environment of its own answers, refuses and dies as one that lives here.

"Another environment" is this Python under the name that ``MODELLAB_ENV_ELSEWHERE`` gives it: a process of its own, started
as any other interpreter would be. That two versions of Python get along is held by test_lfm.py.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from modellab.commands.matrix import matrix_row
from models import environments, wire
from models.card import ModelCard
from models.engine import build_engine, how_to_complete, missing_packages, placement_of
from models.errors import AudioError, CardError, EngineError, LabError
from models.fingerprint import model_fingerprint
from models.memory import peak_memory_mib
from models.remote import EngineDiedError, RemoteEngine
from models.types import Speech, Transcript
from pipelines.lab import Lab, Layout
from registry.state import fold
from tests.models.elsewhere_toy import ENGINE, LAST_WORDS, MEAL_MIB, ElsewhereToy

REPOSITORY = Path(__file__).parents[2]
VARIABLE = "MODELLAB_ENV_ELSEWHERE"
RNG = np.random.default_rng(0)
CLIP = RNG.uniform(-1, 1, 16_000).astype(np.float32)

MakeCard = Callable[..., ModelCard]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # where the toy is; a real engine is in the package `models`
    environments._asked.cache_clear()
    yield
    environments._asked.cache_clear()


@pytest.fixture
def toy_card(make_card: MakeCard) -> MakeCard:
    def make(**changes: Any) -> ModelCard:
        fields = {
            "engine": ENGINE,
            "environment": "elsewhere",
            "tasks": ["asr", "tts"],
            "devices": {"cpu": {"compute_type": "x"}},
        }
        return make_card(**{**fields, **changes})

    return make


@pytest.fixture
def build(toy_card: MakeCard) -> Iterator[Callable[..., Any]]:
    built: list[RemoteEngine] = []

    def make(**changes: Any) -> Any:
        card = toy_card(**changes)
        engine: Any = build_engine(card, Path("weights"), placement_of(card, threads=3), "tts")
        if isinstance(engine, RemoteEngine):
            built.append(engine)
        return engine

    yield make
    for engine in built:
        engine.close()


def same(ours: Speech, theirs: Speech) -> bool:
    return (
        np.array_equal(ours.samples, theirs.samples)
        and ours.samples.dtype == theirs.samples.dtype == np.float32
        and replace(ours, samples=theirs.samples) == theirs
    )


def test_it_answers_as_the_same_engine_does_here(build: Callable[..., Any]) -> None:
    there, here = build(args={"name": "Ann"}), build(args={"name": "Ann"}, environment=None)
    assert isinstance(there, RemoteEngine) and isinstance(here, ElsewhereToy)
    empty = np.empty(0, np.float32)
    for samples in (CLIP, empty, CLIP[:1]):
        assert there.transcribe(samples, language="en") == here.transcribe(samples, language="en")
    assert there.transcribe_batch([CLIP, empty], language=None) == here.transcribe_batch([CLIP, empty], language=None)
    for text in ("grüß Gott 你好", ""):
        assert same(there.synthesize(text, speed=1.5), here.synthesize(text, speed=1.5))
    pairs = list(zip(there.stream("one two three"), here.stream("one two three"), strict=True))
    assert len(pairs) == 3 and all(same(*pair) for pair in pairs)
    assert there.voices == here.voices == ("Ann", "Zoë")


def test_its_process_sees_nothing_of_this_checkout_but_models(
    build: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_toy_of_ones_own.py").write_bytes((REPOSITORY / "tests" / "models" / "elsewhere_toy.py").read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pid, prefix, *path = build(engine="a_toy_of_ones_own:ElsewhereToy").whereabouts()
    assert int(pid) != os.getpid()
    assert prefix == sys.prefix
    assert str(tmp_path) in path
    assert not {"", str(REPOSITORY), str(REPOSITORY / "models")} & set(path)


def test_it_lacks_what_the_engine_lacks(build: Callable[..., Any]) -> None:
    engine = build()
    assert hasattr(engine, "stream")
    for name in ("translate", "_name", "Decoding"):
        assert not hasattr(engine, name)


@pytest.mark.parametrize(("text", "kind"), [("refuse", EngineError), ("choke", AudioError)])
def test_a_refusal_arrives_as_it_was_raised(build: Callable[..., Any], text: str, kind: type[LabError]) -> None:
    engine, here = build(), build(environment=None)
    with pytest.raises(kind) as theirs:
        engine.synthesize(text, voice="x")
    with pytest.raises(kind) as ours:
        here.synthesize(text, voice="x")
    assert type(theirs.value) is type(ours.value)
    assert str(theirs.value) == str(ours.value)
    assert engine.synthesize("still there").samples.size


def test_a_fault_of_a_library_is_told_with_its_place(build: Callable[..., Any]) -> None:
    engine = build()
    with pytest.raises(
        EngineError, match=r"'elsewhere'.*ZeroDivisionError: a library's own \(elsewhere_toy.py:\d+ synthesize"
    ):
        engine.synthesize("crash")
    with pytest.raises(EngineError, match=r"float64.*cannot cross"):
        engine.synthesize("float64")
    assert engine.synthesize("still there").samples.size


def test_what_cannot_be_built_there_says_why_at_once(toy_card: MakeCard, build: Callable[..., Any]) -> None:
    with pytest.raises(EngineError, match=r"^The toy is broken\. Buy another\.$"):
        build(decoding={"broken": True})
    with pytest.raises(CardError, match="no decoding option named 'brokn'"):
        build(decoding={"brokn": True})
    with pytest.raises(CardError, match="no engine argument named 'nam'"):
        build(args={"nam": "x"})


@pytest.mark.parametrize(
    ("text", "how"), [("exit", f"exit code 7; it said: .*{LAST_WORDS}"), ("kill", "killed by signal 9; it said: ")]
)
def test_a_death_in_the_middle_of_a_call_is_told_and_the_next_call_lives(
    build: Callable[..., Any], text: str, how: str
) -> None:
    engine = build()
    first = engine.whereabouts()[0]
    with pytest.raises(EngineDiedError, match=f"toy died in the environment 'elsewhere' .*{how}"):
        engine.synthesize(text)
    assert engine.whereabouts()[0] != first
    assert build().synthesize("another").samples.size


def test_a_process_that_was_killed_between_two_calls_is_replaced(build: Callable[..., Any]) -> None:
    engine = build()
    pid = int(engine.whereabouts()[0])
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(30)
    assert int(engine.whereabouts()[0]) != pid


def test_a_stream_refuses_at_once_and_fails_dies_and_stops_alone(build: Callable[..., Any]) -> None:
    engine = build()
    with pytest.raises(EngineError, match="No such voice"):
        engine.stream("one", voice="nobody")
    half = engine.stream("one two three")
    next(half)
    half.close()
    engine.stream("never begun")
    assert engine.synthesize("still there").samples.size
    failing = engine.stream("one refuse three")
    next(failing)
    with pytest.raises(EngineError, match="No voice None"):
        next(failing)
    dying = engine.stream("one exit three")
    next(dying)
    with pytest.raises(EngineDiedError, match="exit code 7"):
        next(dying)
    assert len(list(engine.stream("one two"))) == 2


def test_a_stream_of_a_process_that_is_gone_ends_in_an_error(build: Callable[..., Any]) -> None:
    engine = build()
    orphan = engine.stream("one two")
    with pytest.raises(EngineDiedError):
        engine.synthesize("exit")
    with pytest.raises(EngineDiedError):
        next(orphan)
    assert engine.synthesize("still there").samples.size


def test_many_threads_get_each_their_own_answer(build: Callable[..., Any]) -> None:
    engine = build()

    def ask(size: int) -> tuple[int, int]:
        if size % 3 == 0:
            return size, len(list(engine.stream("word " * size)))
        return size, int(engine.transcribe(CLIP[:size], language=None).text.split()[0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(60)))
    assert all(size == said for size, said in answers)


def test_ctrl_c_is_left_to_the_parent(build: Callable[..., Any]) -> None:
    engine = build()
    pid = engine.whereabouts()[0]
    os.kill(int(pid), signal.SIGINT)
    assert engine.whereabouts()[0] == pid


def test_the_memory_of_its_process_is_told(build: Callable[..., Any]) -> None:
    engine = build()
    before, ours = engine.peak_memory_mib, peak_memory_mib()
    engine.synthesize("eat")
    assert engine.peak_memory_mib > before + 0.9 * MEAL_MIB
    assert peak_memory_mib() < ours + 0.5 * MEAL_MIB


@pytest.mark.parametrize("how", ["close", "forget", "kill"])
def test_its_process_ends_with_what_started_it(toy_card: MakeCard, how: str) -> None:
    code = f"""
import os, sys
from pathlib import Path
from models.card import ModelCard
from models.engine import build_engine, placement_of
card = ModelCard.model_validate_json(sys.argv[1])
engine = build_engine(card, Path("weights"), placement_of(card))
print(engine.whereabouts()[0], flush=True)
match {how!r}:
    case "close":
        engine.close()
    case "forget":
        del engine
    case "kill":
        os.kill(os.getpid(), 9)
print("goes on", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, toy_card().model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            child = psutil.Process(pid)
            if child.status() != psutil.STATUS_ZOMBIE:
                child.wait(30)
        except psutil.NoSuchProcess:
            pass
        if how != "kill":
            assert parent.stdout.readline() == "goes on\n"
        parent.kill()


def test_versions_are_asked_where_the_engine_runs(
    toy_card: MakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ElsewhereToy, "packages", ("toy-lib", "numpy"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(tmp_path)]))
    card = toy_card()
    assert missing_packages(card) == ["toy-lib"]
    assert how_to_complete(card) == f"{sys.executable} -m pip install toy-lib"
    with pytest.raises(
        EngineError, match=r"toy needs toy-lib, which is not installed\. To make it usable: .* install toy-lib"
    ):
        model_fingerprint(card, placement_of(card), {})
    with pytest.raises(EngineError, match=r"has no toy-lib\. To make it usable: .* install toy-lib"):
        build_engine(card, tmp_path, placement_of(card))
    environments._asked.cache_clear()
    folder = tmp_path / "toy_lib-3.14.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-lib\nVersion: 3.14\n")
    assert missing_packages(card) == []
    assert how_to_complete(card) is None
    fingerprint = model_fingerprint(card, placement_of(card), {})
    assert fingerprint.versions == {"toy-lib": "3.14", "numpy": np.__version__}
    here = card.model_copy(update={"environment": None})
    assert missing_packages(here) == ["toy-lib"]


def test_an_interpreter_is_asked_once_a_process(toy_card: MakeCard) -> None:
    for _ in range(3):
        missing_packages(toy_card())
    assert environments._asked.cache_info().misses == 1


def test_a_lab_that_has_the_packages_needs_no_environment(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    assert isinstance(build(), ElsewhereToy)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkout without environments, an engine whose library is nowhere, and a path without any Python."""
    monkeypatch.delenv(VARIABLE)
    monkeypatch.delenv("MODELLAB_ENV_LFM", raising=False)
    monkeypatch.setattr(ElsewhereToy, "packages", ("toy-lib",))
    monkeypatch.setattr(environments, "CHECKOUT", tmp_path)
    (tmp_path / "Makefile").touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def python(path: Path, exit_code: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    path.chmod(0o755)


def test_a_missing_environment_is_told_with_what_makes_it(toy_card: MakeCard, nowhere: Path) -> None:
    by_make = toy_card(environment="lfm")
    install_first = "install Python 3.12, which is not on your PATH, then: make env-lfm PYTHON312=/path/to/python3.12"
    assert how_to_complete(by_make) == install_first
    python(nowhere / "bin" / "python3.12", 127)  # a version manager's shim for a Python that is not chosen
    assert how_to_complete(by_make) == install_first
    python(nowhere / "bin" / "python3.12", 0)
    assert how_to_complete(by_make) == "make env-lfm"
    with pytest.raises(EngineError, match=r"The environment 'lfm' does not exist: .*\. To make it usable: make env-lfm$"):
        build_engine(by_make, nowhere, placement_of(by_make))
    python(nowhere / ".venv-lfm" / "bin" / "python", 1)  # half made: there, but it does not run
    assert how_to_complete(by_make) == "make env-lfm"

    by_hand = toy_card(environment="by-hand")
    assert str(how_to_complete(by_hand)).startswith("export MODELLAB_ENV_BY_HAND=/path/to/python")
    here = toy_card(environment=None)
    assert how_to_complete(here) == "pip install toy-lib"


def test_a_variable_that_names_no_python_is_told(
    toy_card: MakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert how_to_complete(toy_card()) == f"{VARIABLE} names {tmp_path}, where there is no Python: unset {VARIABLE}"
    with pytest.raises(EngineError, match=f"{VARIABLE} names .*, where there is no Python"):
        missing_packages(toy_card())
    (tmp_path / "bin").mkdir()
    # Not a link: a virtual environment's Python that is called by another path may not find its packages.
    wrapper = tmp_path / "bin" / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    assert how_to_complete(toy_card()) is None


def test_what_is_installed_here_is_installed_within_the_bounds_that_are_declared(
    toy_card: MakeCard, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "requires", lambda name: ["toy.lib>1", "toy-lib<2,>=1; extra == 'toys'"])
    assert how_to_complete(toy_card(environment=None)) == "pip install 'toy-lib<2,>=1'"


def test_the_matrix_says_the_state_and_the_one_command(toy_card: MakeCard, nowhere: Path) -> None:
    source = {"kind": "path", "path": str(nowhere)}
    card = toy_card(environment="lfm", weights={"files": {"a": None}, "sources": [source]})
    lab = Lab(project=nowhere, home_folder=nowhere / "home", layout=Layout(workers=1, threads=1))
    python(nowhere / "bin" / "python3.12", 0)
    row = matrix_row(card, {}, lab, fold([]))
    assert (row.environment, row.state, row.usable) == ("lfm", "no library", False)
    assert row.note == "make env-lfm && modellab models fetch toy"
    weightless = matrix_row(toy_card(environment="lfm"), {}, lab, fold([]))
    assert (weightless.state, weightless.note) == ("no library", "make env-lfm")


def test_the_makefile_makes_every_environment_that_is_named() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for name, version in environments.PYTHONS.items():
        assert re.search(rf"^env-{name}:", makefile, re.MULTILINE)
        assert f"PYTHON{version.replace('.', '')} ?= python{version}" in makefile


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        "“你好”\n",
        [],
        ["a", 1],
        [[1], []],
        {"array": 3},
        {"transcript": {}, "n": None},
        {"dict": {"x": 1}},
    ],
)
def test_what_crosses_is_what_arrives(value: Any) -> None:
    pipe = io.BytesIO()
    wire.send(pipe, {"value": value, "samples": CLIP, "heard": Transcript(text="x", confidence=0.1)})
    wire.send(pipe, {"value": CLIP[:0]})
    pipe.seek(0)
    first, second = wire.receive(pipe), wire.receive(pipe)
    assert first["value"] == value and type(first["value"]) is type(value)
    assert np.array_equal(first["samples"], CLIP) and first["samples"].flags.writeable
    assert first["heard"] == Transcript(text="x", confidence=0.1)
    assert second["value"].shape == (0,)
    with pytest.raises(wire.Closed):
        wire.receive(pipe)


@pytest.mark.parametrize("value", [np.zeros(2), np.zeros((2, 2), np.float32), object(), b"bytes", {1, 2}])
def test_what_cannot_cross_is_refused_before_anything_is_written(value: Any) -> None:
    pipe = io.BytesIO()
    with pytest.raises(TypeError, match="cross"):
        wire.send(pipe, {"value": value})
    assert pipe.getvalue() == b""


@pytest.mark.parametrize("noise", [b"", b"Hel", b"Hello, world, I am a library", b"\x00\x00\x00\x05{}"])
def test_what_is_no_frame_is_not_waited_for(noise: bytes) -> None:
    with pytest.raises(wire.Closed):
        wire.receive(io.BytesIO(noise))


def test_its_process_needs_little_beside_the_library() -> None:
    """What requirements-lfm.in names beside liquid-audio; the audio libraries are imported when a file is read."""
    code = """
import sys
from importlib.metadata import packages_distributions
import models.serve_engine
known = packages_distributions()
print(*sorted({known[root][0] for name in sys.modules if (root := name.partition(".")[0]) in known}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    of_pydantic = {"annotated-types", "pydantic_core", "typing-inspection", "typing_extensions"}
    assert set(done.stdout.split()) - of_pydantic - {"modellab", "setuptools"} == {"numpy", "pydantic", "PyYAML"}
