"""A WebSocket's way to its client: refusals with a status, bounded sending, and how it ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from serving.errors import ApiError
from serving.records import RequestRecord

MAX_STALL_S = 30.0
"""How long a client may take nothing of what is sent; what waits for it is in memory."""
ACCEPTED = 101
POLICY, FAILED = 1008, 1011
"""Close codes of RFC 6455: the client broke a rule; the server failed."""
DENIAL = "websocket.http.response"


class SocketAnswer:
    """Notes what was answered, and refuses before or after the handshake."""

    def __init__(self, send: Send, scope: Scope, record: RequestRecord) -> None:
        """Wrap the way to the client."""
        self._send, self._scope, self._record = send, scope, record
        self._accepted = self._closed = False

    async def send(self, message: Message) -> None:
        """Pass a message on.

        Raises:
            ClientDisconnect: The client has gone, or takes nothing.
        """
        if message["type"] == "websocket.accept":
            self._accepted, self._record.status = True, ACCEPTED
            MutableHeaders(raw=message.setdefault("headers", []))["X-Request-ID"] = self._record.request_id
        elif message["type"] == f"{DENIAL}.start":
            self._record.status = message["status"]
            MutableHeaders(raw=message.setdefault("headers", []))["X-Request-ID"] = self._record.request_id
        elif message["type"] == "websocket.close":
            self._closed, self._record.close_code = True, message.get("code", 1000)
        try:
            async with asyncio.timeout(MAX_STALL_S):
                await self._send(message)
        except (OSError, RuntimeError) as error:  # the second: the server has noted the end already
            raise ClientDisconnect from error

    async def refuse(self, error: ApiError, receive: Receive) -> None:
        """End a socket with an error: as an HTTP answer before the handshake, by a close code after it."""
        self._record.code = error.code
        with suppress(ClientDisconnect):
            if self._accepted:
                if not self._closed:
                    code = FAILED if error.status >= 500 else POLICY
                    await self.send({"type": "websocket.close", "code": code, "reason": error.code})
                return
            self._record.status = error.status
            if DENIAL not in self._scope.get("extensions", {}):
                await self.send({"type": "websocket.close", "code": POLICY})
                return
            response = error.response()
            await self.send({"type": f"{DENIAL}.start", "status": response.status_code, "headers": response.raw_headers})
            await self.send({"type": f"{DENIAL}.body", "body": bytes(response.body), "more_body": False})
