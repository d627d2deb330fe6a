"""The address VOD calls: it writes the delivery down, answers, and forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from worker import logs
from worker.core import events, signature
from worker.core.errors import NotificationRejectedError, StoreUnavailableError
from worker.settings import DEFAULT_SOURCE, Source
from worker.store.inbox.sync_requests import Delivery
from worker.sync.receive import delivery
from worker.web import responses
from worker.web.group_commit import BufferFullError, GroupCommit

log = logs.get(__name__)

#: Bytes. The queue variant of these notifications ends at 64 KiB (vod-protocol 1.1).
BODY_LIMIT = 1024 * 1024

#: Seconds for a body to come. VOD waits no longer for an answer (vod-protocol 1.2).
_BODY_TIME = 5.0

# VOD counts only 200 as delivered, and gives up after three tries. Most requests end here, so the answer is made once.
_ACCEPTED: tuple[Message, ...] = (
    {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2")],
    },
    {"type": "http.response.body", "body": b"ok"},
)

_STATUS = {"malformed": 400}
_RETRY = {"Retry-After": "1"}
_NO_PARAMETERS: dict[str, str] = {}


class BodyTooLargeError(Exception):
    """The body is longer than any notification."""


class ClientDisconnectedError(Exception):
    """The sender left before its body was complete."""


@dataclass(slots=True)
class RefusedCallbacks:
    """Callbacks of one source that were not signed as they should be, since one was taken."""

    since: datetime
    reason: str
    count: int = 0


class Receiver:
    """An ASGI endpoint; `group` makes deliveries durable, `now` is the clock that signatures are judged by."""

    def __init__(self, sources: Mapping[str, Source], group: GroupCommit[Delivery], *, now: Callable[[], datetime]) -> None:
        self._checks = {name: _Check(source) for name, source in sources.items()}
        self._group = group
        self._reading = _Reading()
        self._now = now
        self._refused: dict[str, RefusedCallbacks] = {}

    @property
    def problems(self) -> list[str]:
        """Whose callbacks are all refused, and what to compare."""
        return [
            f"{refused.count} callback{'s' if refused.count > 1 else ''} to source {source} refused since "
            f"{refused.since:%Y-%m-%d %H:%M:%S} UTC ({refused.reason}), and none was taken; "
            "compare VODSYNC_CALLBACK_URL, VODSYNC_CALLBACK_KEYS and the clock with VOD's "
            "callback settings: vodsync doctor"
            for source, refused in self._refused.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except ClientDisconnectedError:
            return
        if response is not None:
            await response(scope, receive, send)
            return
        for message in _ACCEPTED:
            await send(message)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """None once the notification is stored; otherwise what to tell the sender."""
        source = scope.get("path_params", _NO_PARAMETERS).get("source", DEFAULT_SOURCE)
        check = self._checks.get(source)
        if check is None:
            return responses.error(404, "no source has this name; it stands in vodsync.toml as [sources.NAME]", "source")
        now = self._now()
        try:
            headers = {name: value for name, value in scope["headers"] if name in _HEADERS}
            try:
                check(headers, now)
            except NotificationRejectedError as error:
                self._refuse(source, error, now)
                raise
            self._refused.pop(source, None)
            body = await self._reading.read(receive, headers.get(b"content-length"))
            notification = events.parse(body)
            if notification.dropped_ids:
                taken = len(notification.media_ids)
                log.warning("notification names too many media", source=source, taken=taken, dropped=notification.dropped_ids)
            await self._group.submit(delivery(source, notification, received_at=now), len(body))
        except NotificationRejectedError as error:
            log.info("notification rejected", source=source, reason=error.reason)
            return responses.error(_STATUS.get(error.reason, 401), str(error), error.reason)
        except BodyTooLargeError:
            return responses.error(413, "the body is over 1 MiB; VOD's notifications are not", "size")
        except TimeoutError:
            return responses.error(
                408, f"the body did not come within {_BODY_TIME:g} s; send it again", "slow", {"Connection": "close"}
            )
        except BufferFullError as error:
            return responses.error(503, f"{error}; send it again", "buffer", _RETRY)
        except StoreUnavailableError as error:
            log.error("notification not stored", source=source, error=str(error))
            return responses.error(503, "the database did not take the notification; send it again", "store", _RETRY)
        except (ClientDisconnectedError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.error("notification not handled", source=source, error=type(error).__name__)
            return responses.error(503, "vodsync failed to handle the notification; its log says why", "fault", _RETRY)
        return None

    def _refuse(self, source: str, error: NotificationRejectedError, now: datetime) -> None:
        refused = self._refused.setdefault(source, RefusedCallbacks(now, error.reason))
        refused.count += 1
        refused.reason = error.reason
        if refused.count == 1:
            log.warning("callbacks are refused from now on", source=source, reason=error.reason, error=str(error))


class _Check:
    """Whether a source's callback is signed as it should be."""

    def __init__(self, source: Source) -> None:
        self._url = source.callback_url or ""
        self._keys = [key.get_secret_value() for key in source.callback_keys]
        self._tolerance = timedelta(seconds=source.callback_tolerance)
        self._unsigned = source.callback_unsigned == "accept"

    def __call__(self, headers: Mapping[bytes, bytes], now: datetime) -> None:
        timestamp, digest = headers.get(b"x-vod-timestamp"), headers.get(b"x-vod-signature")
        if self._unsigned and (not self._keys or (timestamp is None and digest is None)):
            return
        signature.verify(
            url=self._url,
            keys=self._keys,
            timestamp=None if timestamp is None else timestamp.decode("latin-1"),
            signature=None if digest is None else digest.decode("latin-1"),
            now=now,
            tolerance=self._tolerance,
        )


class _Reading:
    """Bodies on their way; one watcher ends those that take too long, which costs a request less than a timer of its own."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._watcher: asyncio.Task[None] | None = None

    async def read(self, receive: Receive, announced: bytes | None) -> bytes:
        """The body. Raises TooLarge, Disconnected, and TimeoutError where it does not come."""
        loop = asyncio.get_running_loop()
        task = cast("asyncio.Task[Any]", asyncio.current_task(loop))
        self._since[task] = loop.time()
        if self._watcher is None:
            self._watcher = loop.create_task(self._watch())
        try:
            return await _read(receive, announced)
        except asyncio.CancelledError:
            if task not in self._expired:
                raise
            task.uncancel()
            raise TimeoutError from None
        finally:
            del self._since[task]
            self._expired.discard(task)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_BODY_TIME / 5)
            late = asyncio.get_running_loop().time() - _BODY_TIME
            for task, since in list(self._since.items()):
                if since < late and task not in self._expired:
                    self._expired.add(task)
                    task.cancel()


_HEADERS = frozenset((b"x-vod-timestamp", b"x-vod-signature", b"content-length"))


async def _read(receive: Receive, announced: bytes | None) -> bytes:
    """The body, never more of it in memory than the limit."""
    # Twenty digits tell enough, and Python refuses to convert thousands; what really comes is counted anyhow.
    if announced is not None and announced.isdigit() and int(announced[:20]) > BODY_LIMIT:
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
