"""A package on another machine: exported, set up by the commands that the export prints, served, and what an image needs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from openai import OpenAI

from models.errors import StateError
from serving.export import check_target, commands_for, export
from serving.package import package
from serving.parity import check_parity
from serving.run import free_port
from serving.store import QUIET, Store
from tests.serving.evaluated_lab import RECOGNISER, VOICE, Shipped, evaluate_voice, make_lab, quiet
from tests.serving.service import wait_until

pytestmark = pytest.mark.real

CONTAINERFILE = """
import sys
from bentoml.container import get_containerfile
get_containerfile(sys.argv[1], output_path=sys.argv[2])
"""


def test_an_image_can_be_made_of_it(shipped: Shipped, tmp_path: Path) -> None:
    """What `bentoml containerize` gives to the engine of containers, of which there may be none here."""
    target = tmp_path / "Dockerfile"
    command = [sys.executable, "-c", CONTAINERFILE, shipped.bento.tag, str(target)]
    subprocess.run(command, env=shipped.store.environment(), cwd=tmp_path, check=True, timeout=120)
    lines = target.read_text().splitlines()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"FROM python:{version}-slim AS base-container" in lines
    assert any(f"uv venv --python {version} " in line for line in lines)
    assert any(line.endswith("pip install -r $BENTO_PATH/env/python/requirements.txt") for line in lines)
    for name, value in QUIET.items():
        assert f"ARG {name}={value}" in lines and f"ENV {name}=${name}" in lines
    # Whatever the image copies is there: no path of this machine, nothing outside the Bento.
    copied = [line.split()[-2] for line in lines if line.startswith("COPY")]
    assert copied and all((shipped.bento.path / name).exists() for name in copied)
    assert str(shipped.lab.project) not in target.read_text()
    assert "USER bentoml" in lines, "the service would run as root"


def test_the_package_describes_itself(shipped: Shipped) -> None:
    text = (shipped.bento.path / "README.md").read_text()
    assert shipped.packaged.fingerprint in text and "the verdict pass" in text
    assert "http" not in text, "a page that loads something from elsewhere when it is shown"


@pytest.mark.parametrize(
    ("name", "told"),
    [("model.rar", "End its name in one of: .tar"), ("none/model.tar", "is not there"), ("taken.tar", "is there already")],
)
def test_a_target_that_cannot_be_written_is_refused_before_anything_is_built(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "taken.tar").write_text("mine")
    with pytest.raises(StateError, match=re.escape(told)):
        check_target(tmp_path / name)
    assert (tmp_path / "taken.tar").read_text() == "mine"


def test_a_failed_export_leaves_nothing(shipped: Shipped, tmp_path: Path) -> None:
    gone = Store(tmp_path / "empty")
    with pytest.raises(StateError, match="bentoml export failed"):
        export(gone, shipped.bento, tmp_path / "model.tar")
    assert [path.name for path in tmp_path.iterdir() if path.name != "empty"] == []


def test_names_are_given_as_a_shell_takes_them(tmp_path: Path) -> None:
    commands = commands_for("a:b", "'it is.tar'")
    assert commands[0] == "tar -xf 'it is.tar' --strip-components=3 ./env/python/requirements.txt"
    assert commands[3].endswith("\"$PWD\"/'it is.tar'")


SYSTEM_LIBRARIES = re.compile(
    r"(ld-linux-x86-64|lib(c|m|mvec|dl|rt|pthread|util|resolv|gcc_s|stdc\+\+|z|bz2|lzma|ffi|ssl|crypto|uuid|ncursesw?|tinfo"
    r"|expat|sqlite3|readline|crypt|nsl|tirpc|nss_\w+))[-.\d]*\.so"
)
"""What python:3.11-slim has: glibc, the C++ runtime, and what Python itself is linked with."""


@pytest.mark.bento
@pytest.mark.parametrize("model", [RECOGNISER, VOICE])
def test_a_package_serves_where_there_is_no_checkout(
    model: str, shipped: Shipped, tmp_path: Path, shared_weights: Path, request: pytest.FixtureRequest
) -> None:
    if "bento" not in request.config.option.markexpr:
        pytest.skip("installs 400 MB from the index, several minutes: make test-bento")
    if model == VOICE:
        lab = make_lab(tmp_path / "lab", shared_weights)
        evaluate_voice(lab)
        store = Store(lab.home.root / "bentoml")
        packaged = package(lab, store, VOICE, quiet)
    else:
        lab, store, packaged = shipped.lab, shipped.store, shipped.packaged
    from serving.samples import parity_samples

    samples = parity_samples(lab, model, packaged.fingerprint, "tts" if model == VOICE else "asr")
    folder = tmp_path / "another machine"
    folder.mkdir()
    exported = export(store, store.get(packaged.tag), folder / "model.tar")
    *set_up, serve = exported.commands
    # A python of the same version as here, whatever it is called there; and nothing else of this environment.
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin"
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))}
    environment = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", **passed_on}
    script = "set -eu\n" + "\n".join(set_up)
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    port = free_port()
    assert serve.endswith("--port 3000")
    last = f"{set_up[2]}\nexec {serve.removesuffix('3000')}{port}"
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen(["bash", "-c", last], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: '"event": "ready"' in (folder / "log").read_text() or service.poll() is not None)
        assert service.poll() is None, (folder / "log").read_text()[-2000:]
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=5)
        (listed,) = client.models.list().data
        assert (listed.id, (listed.model_extra or {})["fingerprint"]) == (model, packaged.fingerprint)
        report = check_parity(url, model, packaged.fingerprint, samples)
        assert report.passed, report.different
        workers = psutil.Process(service.pid).children(recursive=True)
        mapped = {Path(m.path) for worker in workers for m in worker.memory_maps() if ".so" in m.path}
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) == 0
    prefix = Path(sys.base_prefix).resolve()
    foreign = [p for p in mapped if not p.is_relative_to(folder) and not p.is_relative_to(prefix)]
    assert any(p.is_relative_to(folder) for p in mapped), "the engine's libraries are not those that were installed"
    assert [p.name for p in foreign if not SYSTEM_LIBRARIES.match(p.name)] == [], "an image would need a system package"
    assert json.loads((store.get(packaged.tag).bundle / "parity.json").read_text())["different"] == []
