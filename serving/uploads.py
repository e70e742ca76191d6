"""From a multipart request to samples: a file and named fields, within bounds, on disk only while they are read."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from models.audio import Audio, AudioLimits, decode
from models.errors import AudioError
from serving.errors import ApiError, invalid, unsupported
from serving.settings import ServiceSettings

MAX_FIELDS = 20
MAX_FIELD_BYTES = 64 * 1024
FILE_FIELD = "file"
UPLOAD_NAME = "upload"
"""What an uploaded file is called here, whatever its sender calls it: that name is never used."""
LISTS = {"timestamp_granularities[]": "timestamp_granularities", "timestamp_granularities": "timestamp_granularities"}
"""Fields that may come more than once → their name without brackets."""


@dataclass(frozen=True)
class Form:
    """What came in a request."""

    audio: Audio
    """The file, decoded."""
    fields: Mapping[str, str]
    """Field → its value; empty ones are left out, as clients send them for what was not set."""
    lists: Mapping[str, tuple[str, ...]]
    """Field that may come more than once → its values."""


class Uploads:
    """Reads uploads; decodes two at a time, beside the engines."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Take the limits."""
        self._limits = settings.audio_limits
        self._max_decode_s = settings.max_decode_s
        self._threads = ThreadPoolExecutor(2, "decode")
        self.live_threads = ThreadPoolExecutor(2, "live")
        """Where live sound is looked at: it does not wait for the decoding of a long upload."""

    def close(self) -> None:
        """Let what is being decoded end."""
        for threads in (self._threads, self.live_threads):
            threads.shutdown(wait=True, cancel_futures=True)

    async def read(self, request: Request, known: frozenset[str]) -> Form:
        """Read a request's form and decode its file.

        Args:
            request: Whose body `serving.protection` counts and times.
            known: Fields beside the file; others are refused by name.

        Raises:
            ApiError: No form, a field is missing, unknown or repeated, or the file is no audio within the limits.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
            raise ApiError(415, "Send the recording as multipart/form-data.", code="unsupported_media_type")
        try:
            form = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        except (MultiPartException, HTTPException) as error:  # Starlette wraps its own
            message = error.message if isinstance(error, MultiPartException) else error.detail
            raise ApiError(400, f"The form cannot be read: {message}", code="invalid_form") from error
        try:
            file, fields, lists = _sorted(form, known)
            return Form(await self._decoded(file), fields, lists)
        finally:
            await form.close()

    async def _decoded(self, file: UploadFile) -> Audio:
        # The thread may outlive this request by as long as the limits allow, so it has a file of its own.
        call = asyncio.get_running_loop().run_in_executor(self._threads, _decode, file.file, self._limits)
        try:
            async with asyncio.timeout(self._max_decode_s):
                return await asyncio.shield(call)
        except AudioError as error:
            raise invalid(FILE_FIELD, error.message, "invalid_audio") from error
        except TimeoutError:
            message = f"The recording could not be decoded within {self._max_decode_s:g} s."
            raise invalid(FILE_FIELD, message, "decode_timeout") from None
        finally:
            if not call.done():
                call.add_done_callback(lambda done: done.cancelled() or done.exception())


def _sorted(form: FormData, known: frozenset[str]) -> tuple[UploadFile, dict[str, str], dict[str, tuple[str, ...]]]:
    file: UploadFile | None = None
    fields: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) != (name == FILE_FIELD):
            what = "a file" if isinstance(value, UploadFile) else "text"
            raise invalid(name[:64], f"The field {name[:64]!r} cannot be {what}.")
        if isinstance(value, UploadFile):
            file = value
        elif (plain := LISTS.get(name)) and plain in known:
            lists[plain] = (*lists.get(plain, ()), value)
        elif name not in known:
            raise unsupported(name[:64], f"The field {name[:64]!r} is not supported; supported: {', '.join(sorted(known))}.")
        elif name in fields:
            raise invalid(name, f"The field {name!r} comes twice.")
        elif value:
            fields[name] = value
    if file is None:
        raise invalid(FILE_FIELD, "The field 'file' with the recording is missing.", "missing_required_parameter")
    return file, fields, lists


def _decode(upload: BinaryIO, limits: AudioLimits) -> Audio:
    with tempfile.TemporaryDirectory(prefix="modellab-upload-") as folder:
        path = Path(folder) / UPLOAD_NAME
        with path.open("wb") as copy:
            try:
                upload.seek(0)
                shutil.copyfileobj(upload, copy)
            except ValueError as error:  # closed: its request is over
                raise AudioError("The upload was given up.", "Send it again.") from error
        return decode(path, limits=limits)
