"""Weights from web servers and from MLflow, and pickles from nowhere."""

from __future__ import annotations

import hashlib
import pickle
import signal
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from models.card import ModelCard
from models.errors import WeightsError
from models.marker import MARKER
from models.pickles import is_pickle
from models.weights import PARTIAL, fetch, locate, status
from pipelines.lab import Lab, Layout
from pipelines.tracking import connect, download_artifacts
from tests.models.file_server import Fault, FileServer, serving
from tests.models.toy_weights import FILES, A, B, fails, fetch_elsewhere, folder_source, quiet, write

MakeCard = Callable[..., ModelCard]
LARGE = bytes(range(256)) * 16_384
"""4 MiB: more than fits into the buffers between two processes."""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving({"toy/model.bin": A, "toy/sub/config.json": B}) as running:
        yield running


@pytest.fixture
def web_card(make_card: MakeCard, server: FileServer) -> MakeCard:
    """A card of the two files on the server."""

    def make(files: Mapping[str, str] = FILES, **more: Any) -> ModelCard:
        source = {"kind": "http", "url": f"{server.url}toy/", **more}
        return make_card(weights={"files": dict(files), "sources": [source]})

    return make


def test_files_of_a_web_server(web_card: MakeCard, cache: Path) -> None:
    card = web_card()
    assert fetch(card, {}, cache, quiet).sha256 == FILES
    assert sorted(path.name for path in (cache / "toy").iterdir()) == [MARKER, "model.bin", "sub"]
    assert not (cache / PARTIAL / "toy").exists()
    assert "http://127.0.0.1" in status(card, {}, cache).note


def test_an_address_may_be_relative_or_whole_or_come_from_the_environment(
    web_card: MakeCard, server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"/other/weights?download=1": A, "/configs/main.json": B}
    members = {"model.bin": f"{server.url}other/weights?download=1", "sub/config.json": "../configs/main.json"}
    card = web_card(url="${TOY_SERVER}/toy/", members=members)
    assert "TOY_SERVER is not set" in fails(card, cache)
    monkeypatch.setenv("TOY_SERVER", server.url.rstrip("/"))
    assert fetch(card, {}, cache, quiet).sha256 == FILES


def test_a_place_that_is_not_encrypted_is_refused(web_card: MakeCard, cache: Path) -> None:
    assert "192.0.2.1 is not encrypted" in fails(web_card(url="http://192.0.2.1/"), cache)


def test_other_bytes_are_refused_and_not_gone_on_with(web_card: MakeCard, server: FileServer, cache: Path) -> None:
    server.files["/toy/model.bin"] = A + b"!"
    assert "model.bin: expected sha256" in fails(web_card(), cache)
    server.files["/toy/model.bin"] = A
    assert fetch(web_card(), {}, cache, quiet).sha256 == FILES


def test_what_came_whole_is_kept_while_another_file_is_missing(web_card: MakeCard, server: FileServer, cache: Path) -> None:
    config = server.files.pop("/toy/sub/config.json")
    with pytest.raises(WeightsError, match=r"404 to config\.json"):
        fetch(web_card(), {}, cache, quiet)
    assert not (cache / "toy").exists()
    server.files["/toy/sub/config.json"] = config
    fetch(web_card(), {}, cache, quiet)
    assert [path for path, _ in server.asked] == ["/toy/model.bin", "/toy/sub/config.json", "/toy/sub/config.json"]


def test_a_killed_download_is_gone_on_with(web_card: MakeCard, server: FileServer, cache: Path) -> None:
    server.files["/toy/model.bin"] = LARGE
    server.faults = [Fault(hold_after=3 * 2**20)]
    card = web_card({"model.bin": hashlib.sha256(LARGE).hexdigest()})
    killed = fetch_elsewhere(cache, card)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(
        path.stat().st_size >= 2 * 2**20 for path in (cache / PARTIAL).glob("*/*/model.bin.partial")
    ):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    assert not (cache / "toy").exists()
    with pytest.raises(WeightsError, match="not here"):
        locate(card, cache)

    said: list[str] = []
    assert (fetch(card, {}, cache, said.append).folder / "model.bin").read_bytes() == LARGE
    assert any("going on at" in line for line in said)
    first = int((server.ranges_asked[1] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    assert first >= 2 * 2**20
    assert not (cache / PARTIAL / "toy").exists()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab whose MLflow store holds the two files, in a run and as version 1 of a registered model."""
    root = tmp_path_factory.mktemp("lab")
    made = Lab(project=root, home_folder=root / "home", layout=Layout.of_machine())
    made.home.open()
    client = connect(made)
    experiment = client.create_experiment("toys", artifact_location=(root / "artifacts").as_uri())
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(write(root / "originals", {"model.bin": A, "sub/config.json": B})), "weights")
    client.create_registered_model("toy")
    client.create_model_version("toy", source=f"{run.info.artifact_uri}/weights", run_id=run.info.run_id)
    client.set_registered_model_alias("toy", "best", "1")
    (root / "run").write_text(run.info.run_id)
    return made


@pytest.mark.parametrize("uri", ["models:/toy/1", "models:/toy@best", "runs:/RUN/weights"])
def test_artifacts_of_mlflow(uri: str, lab: Lab, make_card: MakeCard, cache: Path) -> None:
    uri = uri.replace("RUN", (lab.project / "run").read_text())
    card = make_card(weights={"files": FILES, "sources": [{"kind": "mlflow", "uri": uri}]})
    assert fetch(card, {}, cache, quiet, partial(download_artifacts, lab)).sha256 == FILES
    assert status(card, {}, cache).note == f"from MLflow's {uri}"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("models:/toy/2", "MLflow has no models:/toy/2"),
        ("models:/toys/1", "MLflow has no models:/toys/1"),
        ("models:/toy/1", "has no other.bin"),
    ],
)
def test_what_mlflow_does_not_have_is_named(uri: str, reason: str, lab: Lab, make_card: MakeCard, cache: Path) -> None:
    source = {"kind": "mlflow", "uri": uri, "members": {"model.bin": "other.bin"}}
    card = make_card(weights={"files": FILES, "sources": [source]})
    with pytest.raises(WeightsError) as caught:
        fetch(card, {}, cache, quiet, partial(download_artifacts, lab))
    assert reason in caught.value.message
    assert not (cache / PARTIAL / "toy").exists()


def test_without_mlflow_the_next_source_is_tried(make_card: MakeCard, cache: Path) -> None:
    card = make_card(weights={"files": FILES, "sources": [{"kind": "mlflow", "uri": "models:/toy/1"}]})
    assert "MLflow is not set up here" in fails(card, cache)


def torch_pickle(path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(3)}, path)


def old_torch_pickle(path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)


def torch_script(path: Path) -> None:
    import torch

    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


def plain_pickle(protocol: int, path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": [0.0] * 3}, protocol))


PICKLES: dict[str, Callable[[Path], None]] = {
    "torch.save": torch_pickle,
    "torch.save of old": old_torch_pickle,
    "TorchScript": torch_script,
    **{f"pickle {protocol}": partial(plain_pickle, protocol) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_is_refused_whatever_its_name(kind: str, make_card: MakeCard, tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "outside", {"model.bin": b""}) / "model.bin"
    PICKLES[kind](path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()  # the card may well have it right
    card = make_card(weights={"files": {"model.bin": digest}, "sources": [folder_source(path.parent)]})
    assert "model.bin is a pickle, which can run any code" in fails(card, cache)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.pkl", "sub/a.PICKLE", "a.joblib"])
def test_a_name_that_promises_a_pickle_is_refused_before_anything_is_downloaded(
    name: str, web_card: MakeCard, server: FileServer, cache: Path
) -> None:
    assert f"{name} is a pickle" in fails(web_card({name: FILES["model.bin"]}), cache)
    assert not server.asked


def test_a_pickle_without_a_sign_needs_its_name(tmp_path: Path) -> None:
    """What the check cannot see, so that nobody believes more of it than it does."""
    plain_pickle(0, tmp_path / "model.bin")
    assert not is_pickle(tmp_path / "model.bin")


@pytest.mark.parametrize("name", ["faster-whisper-tiny.en", "whisper-tiny.en"])
@pytest.mark.real
def test_real_weights_are_none(name: str, cards: Mapping[str, ModelCard], weights_of: Callable[[str], Path]) -> None:
    folder = weights_of(name)
    assert not [file for file in cards[name].weights.files if is_pickle(folder / file)]


def test_archives_of_data_and_empty_files_are_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive:
        archive.writestr("weight.npy", b"\x93NUMPY")
    (tmp_path / "empty").touch()
    (tmp_path / "one").write_bytes(b"\x80")
    (tmp_path / "zipped").write_bytes(b"PK\x03\x04 but no archive")
    assert not [path.name for path in tmp_path.iterdir() if is_pickle(path)]
