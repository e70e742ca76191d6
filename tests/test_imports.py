"""The house plan, held: imports run one way, each library stays in its place, and help answers at once."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS = ("models", "pipelines", "registry", "serving", "flows", "modellab")
HOMES = {
    "faster_whisper": ("models/engines/",),
    "whisper": ("models/engines/",),
    "ctranslate2": ("models/engines/",),
    "piper": ("models/engines/",),
    "hibari": ("models/engines/",),
    "liquid_audio": ("models/engines/",),
    "transformers": ("models/engines/",),
    "torch": ("models/engines/",),
    "mlflow": ("registry/", "pipelines/tracking.py"),
    "prefect": ("flows/",),
    "bentoml": ("serving/",),
    "great_expectations": ("pipelines/validate/",),
}
SLOW = (
    "torch",
    "mlflow",
    "prefect",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scipy",
    "faster_whisper",
    "whisper",
    "dvc",
    "great_expectations",
)


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Give each imported module and whether it is imported when the file is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, id(node) in top


def sources(repository: Path) -> Iterator[tuple[str, Path]]:
    for layer in LAYERS:
        for path in sorted((repository / layer).rglob("*.py")):
            yield path.relative_to(repository).as_posix(), path


def test_imports_run_one_way(repository: Path) -> None:
    wrong = [
        f"{name} imports {module}"
        for name, path in sources(repository)
        for module, _ in imports_of(path)
        if (package := module.partition(".")[0]) in LAYERS and LAYERS.index(package) > LAYERS.index(name.partition("/")[0])
    ]
    assert not wrong, "imports run models ← pipelines ← registry ← serving ← flows ← modellab:\n" + "\n".join(wrong)


def test_each_library_is_imported_only_in_its_place(repository: Path) -> None:
    wrong = [
        f"{name} imports {module}"
        for name, path in sources(repository)
        for module, _ in imports_of(path)
        if (homes := HOMES.get(module.partition(".")[0])) and not name.startswith(homes)
    ]
    assert not wrong, "\n".join(wrong)


def test_engines_import_their_library_inside(repository: Path) -> None:
    wrong = [
        f"{path.name} imports {module} at its top"
        for path in sorted((repository / "models" / "engines").glob("*.py"))
        for module, at_top in imports_of(path)
        if at_top and module.partition(".")[0] in HOMES
    ]
    assert not wrong, "\n".join(wrong)


def test_the_test_reads_imports_at_all(repository: Path) -> None:
    seen = {module.partition(".")[0] for _, path in sources(repository) for module, _ in imports_of(path)}
    assert {"mlflow", "prefect", "faster_whisper", "whisper"} <= seen


@pytest.mark.parametrize("arguments", [("--help",), ("models", "list")])
def test_quick_commands_import_nothing_slow(arguments: tuple[str, ...], tmp_path: Path, repository: Path) -> None:
    """Seconds depend on the machine; what is imported does not."""
    code = (
        "import sys; from modellab import cli\n"
        f"sys.argv = ['modellab', *{arguments!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('SLOW:', sorted(set({SLOW!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=repository,
        env={"MODELLAB_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(repository)},
        timeout=120,
    )
    assert "SLOW: []" in done.stdout, done.stdout[-500:] + done.stderr[-2000:]


def test_help_names_every_command(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modellab", "--help"], capture_output=True, text=True, cwd=repository, timeout=120
    )
    assert done.returncode == 0
    commands = "demo evaluate compare report up down status models corpus package serve parity schedule"
    commands += " promote approve reject approvals registry"
    for command in commands.split():
        assert command in done.stdout
