"""Two hundred hostile uploads on a real service in a process of its own: all refused within limits of time and memory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.serving.hostile import (
    COUNT,
    MAX_AUDIO_S,
    MAX_UPLOAD_BYTES,
    MAX_UPLOAD_S,
    MODEL,
    RATE_HZ,
    Upload,
    silence,
    table,
    wav,
    with_file,
)
from tests.serving.service import wait_until

pytestmark = pytest.mark.real

PATH = "/v1/audio/transcriptions"
DECODES = 2
"""What the service decodes at a time."""
AT_ONCE = 4
"""Clients."""
HANG_S = 60
"""An answer that takes longer counts as a hang; the service's own limits add up to less."""
LIMITS = {
    "max_upload_bytes": MAX_UPLOAD_BYTES, "max_audio_s": MAX_AUDIO_S, "max_upload_s": MAX_UPLOAD_S, "max_decode_s": 20,
    "rate_burst": 10_000,
}  # fmt: skip
MIB = 2**20
PER_DECODE_BYTES = 2 * MAX_AUDIO_S * RATE_HZ * 4 + 40 * MIB
"""A recording at the limit, as blocks and joined, and the block that is being decoded at the file's rate and channels."""
GROWTH_BYTES = DECODES * PER_DECODE_BYTES + AT_ONCE * MAX_UPLOAD_BYTES + 40 * MIB
"""Two decodes, the bodies on their way, and what allocators keep. Ten hours of samples would be 2.2 GB."""

ENGINE_BYTES = 100 * MIB
"""What the engine takes for two recordings heard together. A block of 30 s of 8 channels at 192 kHz would be 184 MB."""


@dataclass(frozen=True)
class Alone:
    """The service's process."""

    process: subprocess.Popen[str]
    url: str
    port: int
    scratch: Path
    """Its folder for temporary files."""

    def memory(self, what: str) -> int:
        """Bytes, of ``VmRSS`` or its high-water mark ``VmHWM``."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))

    def growth(self, work: Callable[[], None]) -> int:
        """Bytes by which the work takes more memory at its peak than there was before it."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # the high-water mark begins anew
        floor = self.memory("VmRSS")
        work()
        return self.memory("VmHWM") - floor


@pytest.fixture(scope="module")
def alone(shared_weights: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    scratch = tmp_path_factory.mktemp("scratch")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MODELLAB_")}
    environment = {**kept, "PYTHONPATH": str(repository), "TMPDIR": str(scratch)}
    command = [sys.executable, str(Path(__file__).with_name("alone.py")), str(shared_weights), json.dumps(LIMITS)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=scratch) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield Alone(process, f"http://127.0.0.1:{port}", port, scratch)
        finally:
            process.terminate()
    assert process.returncode in (0, -15)


def send(alone: Alone, upload: Upload) -> tuple[int, str]:
    """Give the answer's status and body."""
    if upload.never_ends:
        return _unended(alone, upload)
    content: bytes | Iterable[bytes] = upload.body
    if upload.chunked:
        content = (upload.body[at : at + 65536] for at in range(0, len(upload.body), 65536))
    headers = {"Content-Type": upload.content_type, **upload.headers}
    with httpx2.Client(base_url=alone.url, timeout=HANG_S, trust_env=False) as client:
        answer = client.post(PATH, content=content, headers=headers)
    return answer.status_code, answer.text


def _unended(alone: Alone, upload: Upload) -> tuple[int, str]:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {upload.content_type}\r\n"
    with socket.create_connection(("127.0.0.1", alone.port), HANG_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(upload.body) + 1}\r\n\r\n".encode() + upload.body)
        received = b""
        while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
            block = connection.recv(65536)
            assert block, received
            received += block
    top, _, body = received.partition(b"\r\n\r\n")
    return int(top.split()[1]), body.decode()


def clip_text(alone: Alone, path: Path) -> str:
    with httpx2.Client(base_url=alone.url, timeout=HANG_S, trust_env=False) as client:
        answer = client.post(PATH, data={"model": MODEL}, files={"file": ("a", path.read_bytes())})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


def is_refusal(status: int, body: str) -> bool:
    """Whether it is a 4xx in OpenAI's form."""
    try:
        error: Mapping[str, object] = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return 400 <= status < 500 and set(error) == {"message", "type", "param", "code"}


def test_all_are_refused_within_the_limits(alone: Alone, audio: Path) -> None:
    uploads = table()
    assert len(uploads) == COUNT and len({(upload.kind, upload.name) for upload in uploads}) == COUNT
    # Warm: what the first uploads load and keep is not growth.
    before = clip_text(alone, audio / "digits-george-0.flac")
    assert send(alone, Upload("warm", "harmless", with_file(wav(50))))[0] == 200
    answers: list[tuple[int, str]] = []

    def all_of_them() -> None:
        with ThreadPoolExecutor(AT_ONCE) as clients:
            answers.extend(clients.map(lambda upload: send(alone, upload), uploads))

    growth = alone.growth(all_of_them)
    wrong = [
        f"{upload.kind}: {upload.name} → {status} {body[:200]}"
        for upload, (status, body) in zip(uploads, answers, strict=True)
        if not is_refusal(status, body)
    ]
    assert not wrong, "\n".join(wrong)
    assert growth < GROWTH_BYTES, f"{growth / MIB:.0f} MiB more than at rest, at most {GROWTH_BYTES / MIB:.0f} are expected"
    print(f"\n{COUNT} uploads; {growth / MIB:.0f} MiB of growth at the peak, {GROWTH_BYTES / MIB:.0f} allowed")
    # Nobody is left in the queue, nothing on the disk, and it answers as before.
    with httpx2.Client(base_url=alone.url, timeout=HANG_S, trust_env=False) as client:
        wait_until(lambda: client.get("/v1/statistics").json()["queue"] == {"running": 0, "waiting": 0})
    wait_until(lambda: not list(alone.scratch.iterdir()))
    assert clip_text(alone, audio / "digits-george-0.flac") == before


def test_what_is_allowed_and_expensive_stays_within_the_same_memory(alone: Alone) -> None:
    """Eight channels at 192 kHz, as long as may be: 200 kB on the wire, 245 MB if it were decoded at once."""
    expensive = Upload("allowed", "8 channels of 192 kHz", with_file(silence(40, 192_000, 8, "FLAC", "PCM_16")))
    assert send(alone, Upload("warm", "harmless", with_file(wav(50))))[0] == 200
    answers: list[tuple[int, str]] = []

    def all_at_once() -> None:
        with ThreadPoolExecutor(DECODES) as clients:
            answers.extend(clients.map(lambda upload: send(alone, upload), [expensive] * DECODES))

    growth = alone.growth(all_at_once)
    assert [status for status, _ in answers] == [200] * DECODES, answers
    most = GROWTH_BYTES + ENGINE_BYTES
    assert growth < most, f"{growth / MIB:.0f} MiB more than at rest, at most {most / MIB:.0f} are expected"
    print(f"\nallowed: {growth / MIB:.0f} MiB of growth at the peak, {most / MIB:.0f} allowed")
