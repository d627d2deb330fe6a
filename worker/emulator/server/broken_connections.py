"""Connections that break: what a well-behaved server cannot do, but a network does every day."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TRANSPORT = "emulator.transport"


class BreakableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol that lets the application get at its connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: {"transport": self.transport}}


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close the connection with a reset, whatever of the answer has been sent."""
    transport: asyncio.Transport | None = scope.get("extensions", {}).get(_TRANSPORT, {}).get("transport")
    if transport is None:
        raise RuntimeError("this server cannot break connections; start the emulator with worker.emulator.server")
    # A caller that was killed, or lost its patience, has hung up by itself.
    if not transport.is_closing():
        connection: Any = transport.get_extra_info("socket")
        # Lingering for no time at all makes the kernel send RST in place of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_half(scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
    """Promise all of `body`, send half of it, and break the connection."""
    headers = [(b"content-type", b"application/json;charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    # The half that was sent should arrive before the reset overtakes it.
    await asyncio.sleep(0.05)
    await hang_up(scope, receive)
