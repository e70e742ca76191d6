"""A package holds what was tested and nothing else, runs without a checkout, and is held to the stored answers."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx2
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from openai import OpenAI
from packaging.utils import canonicalize_name

from models.audio import decode
from models.errors import StateError
from models.fingerprint import model_fingerprint
from serving.bundle import BUNDLE, DECISION, PARITY, WEIGHTS, read_bundle, read_calibration
from serving.package import find_packaged, package, warnings_of
from serving.parity import HeardSample, SpokenSample, check_parity, compare_audio, difference_db
from serving.requirements import pinned
from serving.run import free_port, running
from serving.ship import ask_once, ship
from serving.store import Bento, Store
from tests.conftest import REPOSITORY
from tests.serving.evaluated_lab import (
    PROMPTS,
    RECOGNISER,
    VOICE,
    Shipped,
    evaluate_recogniser,
    evaluate_voice,
    make_lab,
    quiet,
)
from tests.test_imports import imports_of

pytestmark = pytest.mark.real


@pytest.fixture
def altered(shipped: Shipped, tmp_path: Path) -> Bento:
    """A copy of the package to spoil."""
    folder = tmp_path / "bento"
    shutil.copytree(shipped.bento.path, folder)
    return Bento(shipped.bento.tag, folder, shipped.bento.labels, shipped.bento.created)


def requirements_of(bento: Bento) -> dict[str, str]:
    lines = (bento.path / "env" / "python" / "requirements.txt").read_text().split()
    return dict(line.split("==") for line in lines)


def test_every_item_of_the_evaluation_was_asked_for(shipped: Shipped, ids: tuple[str, ...]) -> None:
    assert sorted(shipped.packaged.parity.checked) == sorted(f"mini/{name}" for name in ids)


def test_the_package_holds_the_model_and_its_evidence(shipped: Shipped) -> None:
    folder = shipped.bento.bundle
    bundle = read_bundle(folder)
    assert bundle.digest == shipped.packaged.fingerprint == shipped.bento.labels["fingerprint"]
    assert {path.name for path in (folder / WEIGHTS).iterdir()} == set(bundle.fingerprints["asr"].weights)
    assert (bundle.verdict, bundle.comparison) == ("pass", "run-c")
    assert json.loads((folder / DECISION).read_text())["verdict"] == "pass"
    calibration = read_calibration(folder)
    assert calibration is not None
    assert calibration.apply(0.5) == pytest.approx(0.5)
    assert shipped.packaged.warnings == ()


def test_the_package_holds_no_other_code(shipped: Shipped) -> None:
    source = shipped.bento.path / "src"
    assert {path.name for path in source.iterdir() if path.is_dir()} == {"model", "models", "serving"}
    assert not (source / "models" / "cards").exists()


def test_requirements_are_those_of_the_engine_only(shipped: Shipped) -> None:
    pins = requirements_of(shipped.bento)
    assert {"faster-whisper", "ctranslate2", "bentoml", "fastapi"} <= pins.keys()
    assert pins.keys().isdisjoint({"mlflow", "prefect", "torch", "dvc", "pandas", "openai-whisper", "great-expectations"})


LOADED = """
import sys
from serving import bento
bento.create_app({}, bento.read_settings())
assert bento.load_packaged(threads=1).name
print("LOADED", *(m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] in ("models", "serving")))
"""
NOT_RUN = ("models/sources/", "models/weights.py")
"""Loaded for a type; a package has its weights, so nothing is fetched."""


def test_what_a_service_imports_is_in_its_requirements(shipped: Shipped) -> None:
    """Loads the Bento's model by the Bento's code; whatever that code imports, now or later, is pinned."""
    source = shipped.bento.path / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=source, env=environment, capture_output=True, text=True, timeout=120
    )
    loaded = [Path(name).relative_to(source) for name in done.stdout.partition("LOADED ")[2].split()]
    assert Path("serving/app.py") in loaded, done.stderr
    ours = [path for path in loaded if not path.as_posix().startswith(NOT_RUN)]
    packages = {module.partition(".")[0] for path in ours for module, _ in imports_of(source / path)}
    owners = packages_distributions()
    needed = {canonicalize_name(owner) for package in packages for owner in owners.get(package, ())} - {"modellab"}
    assert {"faster-whisper", "fastapi", "soundfile", "soxr"} <= needed
    assert needed <= requirements_of(shipped.bento).keys()


def test_an_exported_package_serves_from_an_empty_store(shipped: Shipped, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar"  # a `.bento` is packed with xz, which takes a minute
    shipped.store.run("export", shipped.bento.tag, str(archive))
    other = Store(tmp_path / "elsewhere")
    other.run("import", str(archive))
    with running(other, other.get(shipped.bento.tag), tmp_path / "log") as (url, process):
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        sample = shipped.samples[0]
        answer = client.audio.transcriptions.create(model=RECOGNISER, file=sample.path, language="en")
        report = check_parity(url, RECOGNISER, shipped.packaged.fingerprint, shipped.samples)
    assert answer.text == sample.text
    assert report.passed
    assert process.poll() is not None, "the service outlives its block"


def test_other_decoding_is_named_item_by_item(altered: Bento, shipped: Shipped, tmp_path: Path) -> None:
    bundle = read_bundle(altered.bundle)
    card = bundle.card.model_copy(update={"decoding": {**bundle.card.decoding, "max_new_tokens": 3}})
    weights = bundle.fingerprints["asr"].weights
    fingerprints = {"asr": model_fingerprint(card, bundle.placement(1), weights)}
    changed = bundle.model_copy(update={"card": card, "fingerprints": fingerprints})
    (altered.bundle / BUNDLE).write_text(changed.model_dump_json())
    with running(shipped.store, altered, tmp_path / "log") as (url, _):
        report = check_parity(url, RECOGNISER, shipped.packaged.fingerprint, shipped.samples)
        said = command_line(shipped, "parity", RECOGNISER, "--url", url, "--sample", "1", "--json")
    assert [item.id for item in report.different] == [sample.id for sample in shipped.samples]
    assert said.returncode == 1
    assert json.loads(said.stdout)["different"] == [report.different[0].model_dump()]
    requests = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith('{"time"')]
    heard = [line for line in requests if line.get("route") == "/v1/audio/transcriptions"]
    assert len(heard) == len(shipped.samples) + 1 and all(line["status"] == 200 and line["request_id"] for line in heard)


def spoil_weights(bento: Bento) -> None:
    path = bento.bundle / WEIGHTS / "model.bin"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0xFF
    path.write_bytes(content)


def spoil_card(bento: Bento) -> None:
    path = bento.bundle / BUNDLE
    path.write_text(
        path.read_text().replace('"beam_size":1', '"beam_size":5').replace('"beam_size": 1', '"beam_size": 5', 1)
    )


@pytest.mark.parametrize(
    ("spoil", "told"),
    [(spoil_weights, "not those that were packaged: model.bin: expected sha256"), (spoil_card, "beam_size 1 → 5")],
)
def test_what_is_not_as_it_was_packaged_does_not_start(
    spoil: Callable[[Bento], None], told: str, altered: Bento, shipped: Shipped, tmp_path: Path
) -> None:
    spoil(altered)
    with (
        pytest.raises(StateError, match="did not become ready") as caught,
        running(shipped.store, altered, tmp_path / "log"),
    ):
        pass
    assert told in str(caught.value)


def test_a_package_that_answers_otherwise_is_deleted(
    tmp_path: Path, starter: Path, shared_weights: Path, ids: tuple[str, ...]
) -> None:
    lab = make_lab(tmp_path / "lab", shared_weights)
    evaluate_recogniser(lab, starter, ids[:2], texts={ids[0]: "Something else."})
    store = Store(lab.home.root / "bentoml")
    shipped = ship(lab, store, RECOGNISER, quiet)
    assert shipped.parity is not None
    (different,) = shipped.parity.different
    assert (different.id, different.expected) == (f"mini/{ids[0]}", "Something else.")
    assert not shipped.passed and shipped.request is None
    assert store.bentos(RECOGNISER) == []
    assert find_packaged(lab, store, RECOGNISER, quiet) is None


def test_what_was_not_evaluated_is_not_packaged(tmp_path: Path, shared_weights: Path) -> None:
    lab = make_lab(tmp_path / "lab", shared_weights)
    with pytest.raises(StateError, match=f"Run: modellab evaluate {RECOGNISER}"):
        package(lab, Store(lab.home.root / "bentoml"), RECOGNISER, quiet)


def test_a_voice_speaks_over_http_as_it_was_heard(tmp_path: Path, shared_weights: Path) -> None:
    lab = make_lab(tmp_path / "lab", shared_weights)
    evaluate_voice(lab)
    store = Store(lab.home.root / "bentoml")
    shipped = ship(lab, store, VOICE, quiet)
    assert shipped.parity is not None and shipped.parity.passed, shipped.parity
    assert sorted(shipped.parity.checked) == sorted(f"prompts/{name}" for name in PROMPTS)
    assert shipped.passed and not shipped.reused
    assert shipped.request is not None and shipped.request.id == "prompts/short"
    bento = store.get(shipped.tag)
    assert bento.labels["verdict"] == "none"
    warning = f"This version of {VOICE} was never compared; only what passed may be promoted."
    assert warnings_of(read_bundle(bento.bundle)) == (warning,)


def test_one_service_holds_several_packages_and_ends_when_what_was_sent_is_written(
    altered: Bento, shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(altered.bundle)
    other = bundle.model_copy(update={"card": bundle.card.model_copy(update={"name": "other"})})
    (altered.bundle / BUNDLE).write_text(other.model_dump_json())
    monkeypatch.setenv("MODELLAB_BUNDLES", str(altered.bundle))
    sample = shipped.samples[0]
    with running(shipped.store, shipped.bento, tmp_path / "log") as (url, process):
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        assert {model.id for model in client.models.list()} == {RECOGNISER, "other"}
        for name in (RECOGNISER, "other"):
            assert client.audio.transcriptions.create(model=name, file=sample.path, language="en").text == sample.text
        stop = partial(process.send_signal, signal.SIGTERM)
        assert live_transcript(url, sample, when_committed=stop) == sample.text
        assert process.wait(60) == 0


def test_what_is_packaged_already_is_asked_once(shipped: Shipped) -> None:
    again = ship(shipped.lab, shipped.store, RECOGNISER, quiet)
    assert (again.tag, again.reused, again.parity) == (shipped.bento.tag, True, None)
    assert again.passed and again.request is not None
    assert again.request.answer in {sample.text for sample in shipped.samples if isinstance(sample, HeardSample)}
    assert again.command == f"modellab serve {RECOGNISER}"


def test_what_a_killed_process_left_unchecked_is_not_found(shipped: Shipped) -> None:
    report = shipped.bento.bundle / PARITY
    content = report.read_text()
    report.unlink()
    try:
        assert find_packaged(shipped.lab, shipped.store, RECOGNISER, quiet) is None
    finally:
        report.write_text(content)
    assert find_packaged(shipped.lab, shipped.store, RECOGNISER, quiet) == shipped.bento


def test_a_client_is_told_when_the_answer_is_another(shipped: Shipped, tmp_path: Path) -> None:
    sample = shipped.samples[0]
    assert isinstance(sample, HeardSample)
    with running(shipped.store, shipped.bento, tmp_path / "log") as (url, _):
        request = ask_once(url, RECOGNISER, replace(sample, text="Something else."))
        with pytest.raises(StateError, match="gave the OpenAI client no answer"):
            ask_once(url, "no-such-model", sample)
    assert request.different is not None
    assert (request.different.expected, request.different.found) == ("Something else.", sample.text)


def live_transcript(url: str, sample: HeardSample, when_committed: Callable[[], object] = lambda: None) -> str:
    """Send a recording over a WebSocket, in one turn, and give what is written."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    with client.realtime.connect(model=RECOGNISER, extra_query={"language": "en"}) as connection:
        sound = {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None}
        connection.send({"type": "session.update", "session": {"type": "transcription", "audio": {"input": sound}}})  # type: ignore[arg-type, misc]
        samples = np.clip(np.rint(decode(sample.path).samples * 32768), -32768, 32767).astype("<i2")
        for part in np.array_split(samples, 20):
            connection.input_audio_buffer.append(audio=base64.b64encode(part.tobytes()).decode())
        connection.input_audio_buffer.commit()
        for event in connection:
            assert event.type != "error", event
            if event.type == "input_audio_buffer.committed":
                when_committed()
            if event.type == "conversation.item.input_audio_transcription.completed":
                return event.transcript
    raise AssertionError("the connection ended before the text came")


def environment_of(shipped: Shipped) -> dict[str, str]:
    ours = {"MODELLAB_PROJECT": str(shipped.lab.project), "MODELLAB_HOME": str(shipped.lab.home_folder)}
    return {**os.environ, **ours, "PYTHONPATH": str(REPOSITORY)}


def command_line(shipped: Shipped, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modellab", *arguments]
    return subprocess.run(command, env=environment_of(shipped), capture_output=True, text=True, timeout=120)


def test_serve_and_parity_from_the_command_line(shipped: Shipped) -> None:
    port, heard = free_port(), shipped.samples[0]
    assert isinstance(heard, HeardSample)
    serve = [sys.executable, "-m", "modellab", "serve", RECOGNISER, "--port", str(port), "--json"]
    # A shell that starts the tests in the background has Ctrl-C ignored, by them and whatever they start.
    with subprocess.Popen(
        serve,
        env=environment_of(shipped),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as service:
        assert service.stdout is not None
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(service.stdout.readline())
            assert lines[-1], service.stderr and service.stderr.read()
        said = json.loads("".join(lines))
        assert said["tag"] == shipped.bento.tag
        assert httpx2.get(f"{said['url']}/readyz", trust_env=False).status_code == 200
        written = live_transcript(said["url"], heard)
        done = command_line(shipped, "parity", RECOGNISER, "--url", f"{said['url']}/v1", "--json")
        service.send_signal(signal.SIGINT)
        assert service.wait(60) == 0
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"]
    assert written == heard.text
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{said['url']}/readyz", trust_env=False)


def test_speech_may_differ_by_rounding_only(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(np.arange(24_000, dtype=np.float32) / 10)
    soundfile.write(tmp_path / "stored.flac", tone, 24_000, subtype="PCM_16")
    sample = SpokenSample("a", "A tone.", tmp_path / "stored.flac")
    noise = np.random.default_rng(1).normal(size=24_000).astype(np.float32)

    def told(samples: NDArray[np.float32], rate: int = 24_000) -> str | None:
        difference = compare_audio(sample, (samples, rate))
        return difference and difference.found

    assert told(tone) is None
    assert told(np.rint(tone * 32768).astype(np.float32) / 32768) is None
    assert told(tone[:-200]) is None  # 8 ms
    assert told(tone[:-300]) == "0.988 s at 24000 Hz"
    assert told(tone, 22_050) == "1.088 s at 22050 Hz"
    assert told(tone + 0.001 * noise) is None  # -47 dB
    assert told(tone + 0.005 * noise) == "difference -32.6 dB"
    assert told(tone * np.float32(0.98)) == "difference -34.0 dB"


def test_the_level_of_a_difference() -> None:
    tone = np.sin(np.arange(16_000, dtype=np.float32))
    assert difference_db(tone, tone) == -np.inf
    assert difference_db(tone, tone * np.float32(0.9)) == pytest.approx(-20.0, abs=0.01)
    assert difference_db(np.zeros_like(tone), tone) == np.inf


def test_requirements_are_followed_to_their_end() -> None:
    pins = pinned(["faster-whisper"])
    assert {"ctranslate2", "onnxruntime", "tokenizers", "huggingface-hub"} <= pins.keys()
    assert all("+" not in version for version in pins.values())
    with pytest.raises(StateError, match="no-such-thing"):
        pinned(["no-such-thing"])
