"""Break connections in the way of a failing network, which an ASGI application alone cannot do."""

from __future__ import annotations

import asyncio
import socket
import struct

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: The ASGI extension that carries the transport of the connection.
_TRANSPORT = "emulator.transport"
#: Seconds between half of a body and the reset, so that the client receives the half before the reset.
_RESET_DELAY = 0.05


class BreakableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with access to the connection for the application."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_TRANSPORT: {"transport": self.transport}}


async def reset_connection(scope: Scope, receive: Receive) -> None:
    """Close the connection with a TCP reset, whether or not a part of the answer was sent.

    Raises RuntimeError if the server does not use BreakableProtocol.
    """
    transport: asyncio.Transport | None = scope.get("extensions", {}).get(_TRANSPORT, {}).get("transport")
    if transport is None:
        raise RuntimeError("this server cannot break connections; start the emulator with worker.emulator.server")
    # A client that was killed or timed out has closed the connection itself.
    if not transport.is_closing():
        connection: socket.socket = transport.get_extra_info("socket")
        # With a linger time of 0 the kernel sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_half(scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
    """Announce the whole of `body`, send half of it, and reset the connection."""
    headers = [(b"content-type", b"application/json;charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await asyncio.sleep(_RESET_DELAY)
    await reset_connection(scope, receive)
