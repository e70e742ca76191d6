"""One live transcription: sound in, turns found, partial and final text out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from models.audio import SAMPLE_RATE_HZ
from serving.ears import Asked
from serving.errors import ApiError, invalid
from serving.hearing import check_language, decoding_asked
from serving.pcm import PcmReader
from serving.realtime_events import Append, Format, ServerVad, Update, client_event, error_event, event, item, new_id
from serving.realtime_hearer import Hearer, Item
from serving.records import RequestRecord
from serving.service import Service
from serving.turns import BufferFullError, Started, Turn, Turns
from serving.voice_activity import Silero

MAX_MESSAGE_BYTES = 1 << 20
"""Of one message: 16 s of sound at 24 kHz in base64."""
LEAST_TURN_S = 0.1
"""OpenAI's least for a commit."""
LOOK_S = 1.0
"""How often the limits of time and the key are looked at while nothing comes."""
NORMAL, GOING_AWAY, POLICY, TOO_BIG = 1000, 1001, 1008, 1009
"""Close codes of RFC 6455."""


class EndError(Exception):
    """The session ends, for a reason that the client is told."""

    def __init__(self, code: str, message: str, close_code: int, *, finish: bool = True) -> None:
        """Take the reason, and whether the turns that were sent are finished first."""
        super().__init__(code)
        self.error = ApiError(400, message, code=code)
        self.close_code, self.finish = close_code, finish


class RealtimeSession:
    """One connection that was accepted."""

    def __init__(
        self, service: Service, socket: WebSocket, record: RequestRecord, asked: Asked, still: Callable[[], None],
        again: Callable[[], None], threads: Executor,
    ) -> None:  # fmt: skip
        """Take what the endpoint found out.

        Args:
            service: The process's.
            socket: Accepted.
            record: For the log.
            asked: The model, and as what it is asked for; a session may change both.
            still: Raises `ApiError` when the key was taken back.
            again: Raises `ApiError` when the rate is used up; counts one use.
            threads: Where sound is looked at.
        """
        self._service, self._socket, self._record, self._asked = service, socket, record, asked
        self._still, self._threads = still, threads
        self._settings = service.settings
        self._id, self._began, self._last_came = new_id("sess"), time.monotonic(), time.monotonic()
        self._vad: ServerVad | None = ServerVad()
        self._pcm = PcmReader()
        self._turns = self._new_turns(0)
        self._item = Item()
        self._previous: str | None = None
        self._hearer = Hearer(service, record, self._send, again)

    async def run(self) -> None:
        """Serve the client until it leaves or the session ends."""
        await self._send(event("session.created", session=self._described()))
        hearing = asyncio.create_task(self._hearer.run())
        try:
            await self._read(hearing)
        except EndError as end:
            await self._end(end, hearing)
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _read(self, hearing: asyncio.Task[None]) -> None:
        receiving: asyncio.Task[Any] | None = None
        draining = asyncio.create_task(self._service.draining.begun.wait())
        try:
            while True:
                receiving = receiving or asyncio.create_task(self._socket.receive())
                watched: set[asyncio.Task[Any]] = {receiving, draining, hearing}
                done, _ = await asyncio.wait(watched, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if hearing in done:
                    hearing.result()
                self._check_key()
                if receiving in done:  # before the end, of which its sender knew nothing
                    message = receiving.result()
                    receiving = None
                    if message["type"] == "websocket.disconnect":
                        raise WebSocketDisconnect(message.get("code", 1005))
                    self._last_came = time.monotonic()
                    await self._take(message.get("text"), message.get("bytes"))
                self._check_time(draining.done())
        finally:
            for task in (receiving, draining):
                if task is not None:
                    task.cancel()

    def _check_key(self) -> None:
        try:
            self._still()
        except ApiError as error:
            raise EndError(error.code, error.message, POLICY, finish=False) from error

    def _check_time(self, draining: bool) -> None:
        now = time.monotonic()
        if draining:
            raise EndError("server_shutting_down", "The service ends; connect again later.", GOING_AWAY)
        if now - self._began > self._settings.max_session_s:
            most = f"A session lasts at most {self._settings.max_session_s:g} s."
            raise EndError("session_expired", most, NORMAL)
        if now - self._last_came > self._settings.session_idle_s and not self._hearer.busy:
            raise EndError("session_idle", f"Nothing came for {self._settings.session_idle_s:g} s.", NORMAL)

    async def _end(self, end: EndError, hearing: asyncio.Task[None]) -> None:
        self._record.code = end.error.code
        if end.finish:
            if turn := self._turns.commit():
                await self._commit(turn)
            await self._hearer.finish()
            await hearing
        await self._send(error_event(end.error))
        await self._socket.close(end.close_code, end.error.code)

    async def _take(self, text: str | None, data: bytes | None) -> None:
        if len(text or data or b"") > MAX_MESSAGE_BYTES:
            too_big = f"A message has at most {MAX_MESSAGE_BYTES} bytes; send sound in smaller pieces."
            raise EndError("message_too_large", too_big, TOO_BIG)
        event_id = None
        try:
            if data is not None:
                await self._listen(data)
                return
            message = _parsed(text or "")
            given = message.get("event_id")
            event_id = given[:64] if isinstance(given, str) else None
            asked = client_event(message)
            if isinstance(asked, Append):
                await self._listen(_decoded(asked.audio))
            elif isinstance(asked, Update):
                await self._update(asked)
            elif asked.type == "input_audio_buffer.commit":
                await self._commit_asked()
            else:
                self._pcm.end()
                self._turns.clear()
                self._item.ended, self._item = True, Item()
                await self._send(event("input_audio_buffer.cleared"))
        except ApiError as error:
            await self._send(error_event(error, event_id))

    async def _listen(self, data: bytes) -> None:
        def look() -> tuple[list[Started | Turn], int]:
            samples = self._pcm.add(data)
            return self._turns.add(samples), samples.size

        try:
            happened, count = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        except BufferFullError:
            most = f"A turn lasts at most {self._longest_s():g} s, so this sound was not taken; commit or clear the buffer."
            raise ApiError(400, most, code="input_audio_buffer_full") from None
        self._record.audio_s = (self._record.audio_s or 0.0) + count / SAMPLE_RATE_HZ
        self._service.metrics.live_audio_seconds.inc(count / SAMPLE_RATE_HZ)
        for what in happened:
            if isinstance(what, Started):
                await self._send(
                    event("input_audio_buffer.speech_started", audio_start_ms=_ms(what.at), item_id=self._item.id)
                )
            else:
                await self._send(
                    event("input_audio_buffer.speech_stopped", audio_end_ms=_ms(what.end), item_id=self._item.id)
                )
                await self._commit(what)
        self._hearer.guess(self._item, self._turns, self._asked)

    async def _commit_asked(self) -> None:
        if self._vad is None:
            with suppress(BufferFullError):  # by some milliseconds
                self._turns.add(self._pcm.end())
        elif not self._turns.speaking:
            raise _empty("Nobody speaks")
        if self._turns.length < LEAST_TURN_S * SAMPLE_RATE_HZ:
            raise _empty(f"The buffer has {1000 * self._turns.length / SAMPLE_RATE_HZ:.0f} ms")
        turn = self._turns.commit()
        assert turn is not None, "it was not empty"
        await self._commit(turn)

    async def _commit(self, turn: Turn) -> None:
        """Hand a turn over to be heard; waits while too many do."""
        now, self._item = self._item, Item()
        previous, self._previous = self._previous, now.id
        await self._send(event("input_audio_buffer.committed", item_id=now.id, previous_item_id=previous))
        await self._send(event("conversation.item.added", item=item(now.id), previous_item_id=previous))
        await self._send(event("conversation.item.done", item=item(now.id), previous_item_id=previous))
        await self._hearer.put(now, turn, self._asked)

    async def _update(self, update: Update) -> None:
        given = update.session.audio.input
        changed = given.model_fields_set
        asked, vad, rate = self._asked, self._vad, self._pcm.rate_hz
        if "transcription" in changed:
            asked = self._asked_by(given.transcription.model_dump(exclude_unset=True) if given.transcription else {})
        if "format" in changed:
            rate = (given.format or Format()).rate
        if "turn_detection" in changed:
            vad = given.turn_detection
        if (vad, rate) != (self._vad, self._pcm.rate_hz):
            if self._turns.length:
                raise invalid("session", "Sound waits in the buffer; commit or clear it before this is changed.")
            self._vad, self._pcm = vad, PcmReader(rate)
            self._turns = self._new_turns(self._turns.at)
        self._asked = asked
        self._record.model = asked.model.name
        await self._send(event("session.updated", session=self._described()))

    def _asked_by(self, given: dict[str, Any]) -> Asked:
        fields = {name: value for name, value in given.items() if value}
        model = self._service.model(fields.pop("model", self._asked.model.name), "asr")
        language = fields.get("language") if "language" in given else self._asked.language
        check_language(model, language)
        prompt = decoding_asked(model, fields).get("prompt") if "prompt" in given else self._asked.prompt
        return replace(self._asked, model=model, language=language, prompt=prompt)

    def _new_turns(self, at: int) -> Turns:
        detection = self._vad.detection if self._vad else None
        return Turns(detection, Silero() if detection else None, self._longest_s(), at)

    def _longest_s(self) -> float:
        return self._settings.max_turn_s if self._vad else self._settings.max_audio_s

    def _described(self) -> dict[str, Any]:
        transcription = {"model": self._asked.model.name, "language": self._asked.language, "prompt": self._asked.prompt}
        sound = {
            "format": {"type": "audio/pcm", "rate": self._pcm.rate_hz},
            "transcription": transcription,
            "turn_detection": self._vad.model_dump() if self._vad else None,
            "noise_reduction": None,
        }
        left_s = self._settings.max_session_s - (time.monotonic() - self._began)
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": self._id,
            "expires_at": int(time.time() + left_s),
            "audio": {"input": sound},
        }

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_text(json.dumps(message))


def _parsed(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise ApiError(400, "The message is not a JSON object.", code="invalid_json")
    return message


def _decoded(audio: str) -> bytes:
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("audio", "The field 'audio' is not base64.") from None


def _empty(what: str) -> ApiError:
    message = f"{what}; a turn has {1000 * LEAST_TURN_S:.0f} ms at least."
    return ApiError(400, message, code="input_audio_buffer_commit_empty")


def _ms(samples: int) -> int:
    return round(1000 * samples / SAMPLE_RATE_HZ)
