"""Has the turns of one live transcription heard, one after another; tells what they say in part meanwhile, then whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect

from models.audio import SAMPLE_RATE_HZ
from models.types import Transcript
from serving.ears import Asked, Samples
from serving.errors import ApiError, internal
from serving.formats import confidence
from serving.hearing import calibration_of
from serving.logs import log_failure
from serving.partials import Agreement
from serving.realtime_events import event, failed_event, new_id
from serving.records import RequestRecord
from serving.service import Service
from serving.turns import Turn, Turns

PENDING_TURNS = 4
"""Turns that wait to be heard; with more, nothing is read from the client until one is."""
TRANSCRIPTION = "conversation.item.input_audio_transcription"

Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(eq=False)
class Item:
    """A turn under way, and what was told of it."""

    id: str = field(default_factory=lambda: new_id("item"))
    partial: Agreement = field(default_factory=Agreement)
    asked: int = 0
    """Its samples when a partial text was last asked for."""
    ended: bool = False


class Hearer:
    """One engine call at a time for one connection, so that no client takes more than its share."""

    def __init__(self, service: Service, record: RequestRecord, send: Send, again: Callable[[], None]) -> None:
        """Take the way to the client, and what raises `ApiError` when its rate is used up."""
        self._service, self._record, self._send, self._again = service, record, send, again
        self._pending: asyncio.Queue[tuple[Item, Turn, Asked] | None] = asyncio.Queue(PENDING_TURNS)
        self._unheard = 0
        self._guessing: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether turns wait or are being heard."""
        return self._unheard > 0

    async def put(self, item: Item, turn: Turn, asked: Asked) -> None:
        """Take a turn that has ended; waits while too many do."""
        item.ended = True
        self._unheard += 1
        await self._pending.put((item, turn, asked))

    async def finish(self) -> None:
        """Let `run` end when all that were put are heard."""
        await self._pending.put(None)

    async def run(self) -> None:
        """Hear turns until `finish`, or until the client has gone."""
        try:
            while (pending := await self._pending.get()) is not None:
                outcome = "completed" if await self._hear(*pending) else "failed"
                self._service.metrics.live_turns.labels(outcome).inc()
                self._record.turns = (self._record.turns or 0) + 1
                self._unheard -= 1
        finally:
            if self._guessing is not None:
                self._guessing.cancel()
                await asyncio.gather(self._guessing, return_exceptions=True)

    async def _hear(self, item: Item, turn: Turn, asked: Asked) -> bool:
        try:
            self._again()
            with self._service.queue.place(kept_free=True):
                transcript = await self._service.ears.hear(asked, turn.samples)
        except ApiError as error:
            await self._send(failed_event(item.id, error))
            return False
        except Exception as error:
            log_failure(error, self._record.request_id)
            await self._send(failed_event(item.id, internal()))
            return False
        await self._tell(item, turn, asked, transcript)
        return True

    async def _tell(self, item: Item, turn: Turn, asked: Asked, transcript: Transcript) -> None:
        if rest := item.partial.finish(transcript.text):
            await self._send(_delta(item, rest))
        await self._send(
            event(
                f"{TRANSCRIPTION}.completed",
                item_id=item.id,
                content_index=0,
                transcript=transcript.text,
                usage={"type": "duration", "seconds": turn.samples.size / SAMPLE_RATE_HZ},
                language=transcript.language,
                confidence=confidence(transcript, calibration_of(asked)),
                confidence_raw=transcript.confidence,
                **({"untested": list(asked.untested)} if asked.untested else {}),
            )
        )

    def guess(self, item: Item, turns: Turns, asked: Asked) -> None:
        """Ask for a partial text of the turn under way, where there is new speech and nobody waits for the engine."""
        every_s = self._service.settings.partial_every_s
        guessing = self._guessing is not None and not self._guessing.done()
        if not every_s or guessing or self.busy or self._service.queue.places:
            return
        if turns.length - item.asked >= every_s * SAMPLE_RATE_HZ:
            item.asked = turns.length
            self._guessing = asyncio.create_task(self._guess(item, turns.current(), asked))

    async def _guess(self, item: Item, samples: Samples, asked: Asked) -> None:
        with suppress(ApiError, ClientDisconnect):  # the final text comes in any case
            with self._service.queue.place():
                heard = await self._service.ears.hear(asked, samples)
            if not item.ended and (new := item.partial.add(heard.text)):
                await self._send(_delta(item, new))


def _delta(item: Item, text: str) -> dict[str, Any]:
    return event(f"{TRANSCRIPTION}.delta", item_id=item.id, content_index=0, delta=text)
