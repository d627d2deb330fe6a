"""Receive VOD's callbacks: verify the signature, store the notification, answer 200."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from worker import logs
from worker.core import events, signature
from worker.core.errors import NotificationRejectedError, StoreUnavailableError
from worker.outage import Outage
from worker.settings import DEFAULT_SOURCE, Source
from worker.store.database_clock import MAX_CLOCK_SKEW
from worker.store.inbox.notifications import Delivery
from worker.store.installation_health import clock_problem
from worker.sync.receive import delivery
from worker.web import responses
from worker.web.group_commit import BufferFullError, GroupCommit
from worker.web.refusals import Refusals

log = logs.get(__name__)

#: Notifications that come through a queue have at most 64 KiB (vod-protocol 1.1).
BODY_LIMIT = 1024 * 1024  # bytes

#: VOD waits no longer for a response (vod-protocol 1.2).
BODY_TIMEOUT = 5.0  # seconds

#: VOD counts only 200 as delivered and gives up after three tries. Most requests end with this response, so it is built once.
_ACCEPTED: tuple[Message, ...] = (
    {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2")],
    },
    {"type": "http.response.body", "body": b"ok"},
)

_SIGNATURE_HEADERS = frozenset((b"x-vod-timestamp", b"x-vod-signature"))

#: The headers that the receiver reads.
_HEADERS = _SIGNATURE_HEADERS | {b"content-length"}
_RETRY_AFTER = {"Retry-After": "1"}
_NO_PARAMETERS: dict[str, str] = {}

#: When these are logged. Each request can be the cause, and the end of neither is known.
_unhandled = Outage()
_too_many_ids = Outage()


class UnknownSourceError(Exception):
    """The path names a source that is not configured."""


class BodyTooLargeError(Exception):
    """The body is longer than `BODY_LIMIT`."""


class ClientDisconnectedError(Exception):
    """The sender disconnected before its body was complete."""


class Receiver:
    """The ASGI endpoint. `group_commit` stores deliveries. Signatures must not be older than the tolerance at `now()`.

    `now` is this machine's clock, and `clock_ahead` returns how far it is ahead of the database's clock, by which deliveries are
    recorded.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        group_commit: GroupCommit[Delivery],
        *,
        now: Callable[[], datetime],
        clock_ahead: Callable[[], timedelta] = timedelta,
    ) -> None:
        self._signature_checks = {name: _SignatureCheck(source) for name, source in sources.items()}
        self._group_commit = group_commit
        self._body_reader = _BodyReader()
        self._now = now
        self._clock_ahead = clock_ahead
        self._refusals = Refusals(sources, clock_problem=self._clock_problem)

    @property
    def problems(self) -> list[str]:
        """Return sentences about refused and misrouted callbacks, with what to compare or change."""
        return self._refusals.problems(self._now())

    def _clock_problem(self, source: str) -> str | None:
        """Return a sentence if this machine's clock is the reason why signatures of a source are stale."""
        tolerance = min(MAX_CLOCK_SKEW, self._signature_checks[source].tolerance)
        return clock_problem(socket.gethostname(), self._clock_ahead(), tolerance=tolerance)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        source = scope.get("path_params", _NO_PARAMETERS).get("source", DEFAULT_SOURCE)
        try:
            await self._store_notification(source, scope, receive)
        except ClientDisconnectedError:
            return
        except Exception as error:
            if isinstance(error, UnknownSourceError):
                self._count_misrouted(scope, "source")
            elif isinstance(error, NotificationRejectedError) and error.reason == "malformed":
                self._refusals.log(source, error.reason, str(error))
            await _error_response(source, error)(scope, receive, send)
            return
        if "state" in scope:
            # `LimitedHttpProtocol` prefers to keep this connection. Other servers may have no state.
            scope["state"]["is_accepted"] = True
        for message in _ACCEPTED:
            await send(message)

    async def routing_error(self, request: Request, exc: Exception) -> Response:
        """Answer a request at an unknown path or with a wrong method. A signed one is a callback that did not reach us."""
        is_method = isinstance(exc, HTTPException) and exc.status_code == 405
        self._count_misrouted(request.scope, "method" if is_method else "path")
        return await responses.routing_error(request, exc)

    async def _store_notification(self, source: str, scope: Scope, receive: Receive) -> None:
        """Return once the notification is stored. Raises one of the errors that `_error_response` knows."""
        check_signature = self._signature_checks.get(source)
        if check_signature is None:
            raise UnknownSourceError
        now = self._now()
        headers = {name: value for name, value in scope["headers"] if name in _HEADERS}
        try:
            check_signature(headers, now)
        except NotificationRejectedError as error:
            is_signed = not _SIGNATURE_HEADERS.isdisjoint(headers)
            self._refusals.refused(source, error.reason, str(error), is_signed=is_signed, now=now)
            raise
        self._refusals.accepted(source, now)
        body = await self._body_reader.read(receive, headers.get(b"content-length"))
        notification = events.parse(body)
        if notification.dropped_ids and _too_many_ids.failed(source, kind=source):
            log.warning(
                "notification names too many media",
                source=source,
                kept=len(notification.media_ids),
                dropped=notification.dropped_ids,
                unlogged=_too_many_ids.unlogged,
            )
        await self._group_commit.submit(delivery(source, notification, received_at=now - self._clock_ahead()), len(body))

    def _count_misrouted(self, scope: Scope, reason: str) -> None:
        if any(name == b"x-vod-signature" for name, _ in scope["headers"]):
            self._refusals.misrouted(scope["method"], scope["path"], reason, self._now())


def _error_response(source: str, error: Exception) -> Response:
    """Log `error`, and return the response. Its status decides whether the sender tries again."""
    match error:
        case UnknownSourceError():
            return responses.error(404, "no source has this name; sources are defined in vodsync.toml as [sources.NAME]", "source")
        case NotificationRejectedError():
            return responses.error(400 if error.reason == "malformed" else 401, str(error), error.reason)
        case BodyTooLargeError():
            return responses.error(413, "the body is over 1 MiB; VOD's notifications are smaller", "size")
        case TimeoutError():
            sentence = f"the body did not arrive within {BODY_TIMEOUT:g} s; send it again"
            return responses.error(408, sentence, "slow", {"Connection": "close"})
        case BufferFullError():
            return responses.error(503, f"{error}; send it again", "buffer", _RETRY_AFTER)
        case StoreUnavailableError():
            # The group commit logs the reason, once for all callbacks that it concerns.
            return responses.error(503, "the notification could not be stored; send it again", "store", _RETRY_AFTER)
        case _:
            # The type alone: the message of an unforeseen exception may contain the body.
            name = type(error).__name__
            if _unhandled.failed(name, kind=name):
                log.error("notification not handled", source=source, error=name, unlogged=_unhandled.unlogged)
            return responses.error(503, "vodsync failed to handle the notification; its log has the reason", "fault", _RETRY_AFTER)


class _SignatureCheck:
    """Verifies the callbacks of one source."""

    def __init__(self, source: Source) -> None:
        self._url = source.callback_url or ""
        self._keys = [key.get_secret_value() for key in source.callback_keys]
        self.tolerance = timedelta(seconds=source.callback_tolerance)
        self._accepts_unsigned = source.callback_unsigned == "accept"

    def __call__(self, headers: Mapping[bytes, bytes], now: datetime) -> None:
        """Raises NotificationRejectedError if the signature is missing, wrong or stale."""
        timestamp, digest = headers.get(b"x-vod-timestamp"), headers.get(b"x-vod-signature")
        if self._accepts_unsigned and (not self._keys or (timestamp is None and digest is None)):
            return
        signature.verify(
            url=self._url,
            keys=self._keys,
            timestamp=None if timestamp is None else timestamp.decode("latin-1"),
            signature=None if digest is None else digest.decode("latin-1"),
            now=now,
            tolerance=self.tolerance,
        )


class _BodyReader:
    """Reads bodies with a time limit. One task watches all of them, which is cheaper than a timer for each request."""

    def __init__(self) -> None:
        #: When each task began to read.
        self._started_at: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._watcher: asyncio.Task[None] | None = None

    async def read(self, receive: Receive, content_length: bytes | None) -> bytes:
        """Return the body. Raises BodyTooLargeError, ClientDisconnectedError, or TimeoutError after `BODY_TIMEOUT`."""
        loop = asyncio.get_running_loop()
        task = cast("asyncio.Task[Any]", asyncio.current_task(loop))
        self._started_at[task] = loop.time()
        if self._watcher is None:
            self._watcher = loop.create_task(self._watch())
        try:
            return await _read_body(receive, content_length)
        except asyncio.CancelledError:
            if task not in self._expired:
                raise
            task.uncancel()
            raise TimeoutError from None
        finally:
            del self._started_at[task]
            self._expired.discard(task)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(BODY_TIMEOUT / 5)
            latest_start = asyncio.get_running_loop().time() - BODY_TIMEOUT
            for task, started_at in list(self._started_at.items()):
                if started_at < latest_start and task not in self._expired:
                    self._expired.add(task)
                    task.cancel()


async def _read_body(receive: Receive, content_length: bytes | None) -> bytes:
    """Return the body, and never keep much more than `BODY_LIMIT` of it in memory."""
    # The first 20 digits decide. Python refuses to convert thousands of digits. The bytes that arrive are counted in any case.
    if content_length is not None and content_length.isdigit() and int(content_length[:20]) > BODY_LIMIT:
        raise BodyTooLargeError
    message: Message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        if len(body) > BODY_LIMIT:
            raise BodyTooLargeError
        return body
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_LIMIT:
            raise BodyTooLargeError
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
