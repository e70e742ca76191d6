"""How an engine's calls and answers cross a pipe: JSON and raw samples, nothing that could be run.

A frame is the length of its header (4 bytes, big-endian), the header (JSON, UTF-8), and the arrays that the header names, as
float32 in little-endian order, one after the other.
"""

from __future__ import annotations

import json
import struct
from dataclasses import fields
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from models.types import Segment, Speech, Transcript

LENGTH = struct.Struct(">I")
MAX_HEADER_BYTES = 64 * 1024**2
"""More than any transcript: a larger one means that the other side wrote something else into the pipe."""
SAMPLE = np.dtype("<f4")

Array = NDArray[np.float32]


class Closed(Exception):  # noqa: N818 - how a conversation ends, not yet an error
    """The other side has closed the pipe."""


def send(pipe: IO[bytes], message: dict[str, Any]) -> None:
    """Write one frame.

    Args:
        pipe: Where to.
        message: Of texts, numbers, lists, dicts, one-dimensional float32 arrays, `Transcript` and `Speech`.

    Raises:
        TypeError: Something in it cannot cross.
        OSError: The pipe is broken.
    """
    arrays: list[Array] = []
    header = json.dumps(_pack(message, arrays), allow_nan=False).encode()
    pipe.write(LENGTH.pack(len(header)) + header)
    for array in arrays:
        pipe.write(array.astype(SAMPLE, copy=False).tobytes())
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, Any]:
    """Read one frame.

    Raises:
        Closed: The other side is gone, or what it wrote is no frame.
    """
    (length,) = LENGTH.unpack(_read(pipe, LENGTH.size))
    if length > MAX_HEADER_BYTES:
        raise Closed("what came is no frame")
    message: dict[str, Any] = _unpack(json.loads(_read(pipe, length)), pipe)
    return message


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)  # a buffered pipe gives all of it, or less at its end
    if len(data) < size:
        raise Closed("the pipe was closed")
    return data


def _pack(value: Any, arrays: list[Array]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.ndarray():
            if value.ndim != 1 or value.dtype != np.float32:
                raise TypeError(f"an array of {value.dtype} and shape {value.shape} cannot cross; float32 and (n,) can")
            arrays.append(value)
            return {"array": len(value)}
        case Transcript():
            return {"transcript": value.model_dump(mode="json")}
        case Segment():
            return {"segment": value.model_dump(mode="json")}
        case Speech():
            return {"speech": {part.name: _pack(getattr(value, part.name), arrays) for part in fields(value)}}
        case dict():
            return {"dict": {str(key): _pack(entry, arrays) for key, entry in value.items()}}
        case list() | tuple():
            return [_pack(entry, arrays) for entry in value]
    raise TypeError(f"{type(value).__name__} cannot cross to another process")


def _unpack(value: Any, pipe: IO[bytes]) -> Any:
    """Turn what `_pack` made back; arrays follow the header in the order in which they were met."""
    match value:
        case {"array": int(length)}:
            return np.frombuffer(_read(pipe, length * SAMPLE.itemsize), SAMPLE).astype(np.float32)
        case {"transcript": parts}:
            return Transcript.model_validate_json(json.dumps(parts))
        case {"segment": parts}:
            return Segment.model_validate_json(json.dumps(parts))
        case {"speech": parts}:
            speech = {name: _unpack(entry, pipe) for name, entry in parts.items()}
            return Speech(**{**speech, "timings": tuple(speech["timings"])})
        case {"dict": entries}:
            return {key: _unpack(entry, pipe) for key, entry in entries.items()}
        case list():
            return [_unpack(entry, pipe) for entry in value]
    return value
