"""Speak HTTP with limits: the protocol class that `vodsync serve` passes to uvicorn.

uvicorn by itself accepts heads of any size and keeps connections without a request open. It also drops the body of a request that
asks for an upgrade of the protocol.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from worker.web import responses
from worker.web.connections import BODY, HEAD, IDLE, RESPONSE, Connections, Phase, connection_limit

MAX_HEAD_SIZE = 64 * 1024  # bytes of the request line and the header fields
MAX_HEADER_FIELDS = 100

#: Of a request, with a body that is not read any more: the sender of a body that is too large gets to read its response.
MAX_REQUEST_SIZE = 16 * 1024 * 1024  # bytes

#: Bytes of chunk sizes and trailers. uvicorn keeps trailers in memory.
MAX_FRAMING_SIZE = MAX_HEAD_SIZE

MAX_PIPELINED = 8  # requests that wait for the response to the one before


class RequestRefusedError(Exception):
    """The request exceeds a limit."""

    def __init__(self, status: int, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason


@functools.cache
def process_connections() -> Connections:
    """Return the connections of this process."""
    return Connections(connection_limit())


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Any: uvicorn's arguments."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.open_connections = process_connections()
        self.phase: Phase = IDLE
        self.since = self.loop.time()
        self.address = ""
        self.is_trusted = False
        #: Bytes received since the last complete request, and how many of them are of a body.
        self._received_size = 0
        self._body_size = 0
        #: uvicorn knows only the last one. More than one if the client does not wait for responses.
        self._unanswered: deque[RequestResponseCycle] = deque()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self.open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.remove(self)
        self._end_cycles()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._received_size += len(data)
        try:
            self.parser.feed_data(data)
            self._check_size()
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(data[upgrade.args[0] :])
        except (httptools.HttpParserError, RequestRefusedError) as error:
            refusal = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
            if not isinstance(refusal, RequestRefusedError):
                refusal = RequestRefusedError(400, "this is not a valid HTTP/1.1 request", "request")
            self._refuse(refusal)

    def pause_writing(self) -> None:
        super().pause_writing()
        # The client does not read its response.
        self.open_connections.wait(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.phase.is_evictable:
            self.open_connections.stop_waiting(self)

    # The parser calls these.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._enter(HEAD)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            # `data_received` feeds the request again.
            return
        if len(self.headers) > MAX_HEADER_FIELDS or (self._received_size > MAX_HEAD_SIZE and self._head_size() > MAX_HEAD_SIZE):
            raise _head_too_large()
        if len(self._unanswered) > MAX_PIPELINED:
            raise RequestRefusedError(400, "too many requests were sent without waiting for a response", "request")
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        self._enter(BODY)

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._received_size = self._body_size = 0
        self._enter(RESPONSE if self._unanswered else IDLE)

    # The response calls this when it is complete.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        cycle = self._unanswered.popleft()
        if not self.is_trusted:
            self.is_trusted = "is_accepted" in cycle.scope["state"]
        if self.phase is RESPONSE and not self._unanswered:
            self._enter(IDLE)

    # `Connections` calls these.

    def expire(self) -> None:
        """End the connection because its phase has lasted too long."""
        if self.phase is HEAD and not self.transport.is_closing():
            self._refuse(RequestRefusedError(408, f"the request's head did not arrive within {HEAD.timeout:g} s", "slow"))
            return
        if self.phase is not IDLE:
            self.open_connections.report("slow", self.address)
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        # asyncio calls `connection_lost` later. Until then a response must not be written.
        self._end_cycles()
        self.transport.abort()

    def _end_cycles(self) -> None:
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self.loop.time()
        if phase is RESPONSE:
            self.open_connections.stop_waiting(self)
        elif phase is IDLE:
            self.open_connections.wait(self)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _check_size(self) -> None:
        """Raises RequestRefusedError if an incomplete request is too large."""
        if self.phase is HEAD and self._received_size > MAX_HEAD_SIZE:
            raise _head_too_large()
        if self.phase is BODY and (
            self._received_size > MAX_REQUEST_SIZE or self._received_size - self._body_size > MAX_HEAD_SIZE + MAX_FRAMING_SIZE
        ):
            raise RequestRefusedError(413, "the request is too large; VOD's notifications are smaller", "size")

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Parse a request with the header `Upgrade` again, as if it had none, and then what follows its head.

        A server may ignore that header (RFC 9110, 7.8). The parser does not read the body of such a request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(RequestRefusedError(400, "this server is not a proxy; send callbacks with POST", "request"))
            return
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._received_size = 0
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _refuse(self, error: RequestRefusedError) -> None:
        """Answer the request that cannot be read, if no response to an earlier one is under way, and close the connection."""
        self.open_connections.report(error.reason, self.address)
        if self.transport.is_closing():
            return
        if self._unanswered or self.phase is BODY:
            self.abort()
            return
        response = responses.error(error.status, str(error), error.reason, {"Connection": "close"})
        headers = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(STATUS_LINE[error.status] + headers + b"\r\n" + bytes(response.body))
        self.transport.close()


def _head_too_large() -> RequestRefusedError:
    sentence = f"the request's head is over {MAX_HEAD_SIZE // 1024} KiB or has over {MAX_HEADER_FIELDS} header fields"
    return RequestRefusedError(431, sentence, "size")
