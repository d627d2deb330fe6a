"""What VOD wrote to a queue becomes rows, and only then goes from the queue."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from sqlalchemy import select

from worker import logs
from worker.core import events
from worker.core.errors import NotificationRejectedError, StoreUnavailableError, VodError
from worker.core.urls import storable, strip_signature
from worker.store import Store
from worker.store.inbox.notifications import Delivery
from worker.sync.receive import delivery, receive
from worker.vod.smq_xml import Message

log = logs.get(__name__)

#: The status of a notification that could not be read as one.
UNREADABLE = "unreadable"

#: Characters that are kept of a message that nobody can read; the queue takes no more than 64 KiB.
_KEPT = 65_536

#: Messages that came back, or that do not fit their digest, of which this process knows at the same time.
_REMEMBERED = 10_000


class Queue(Protocol):
    """Where messages wait; one that is received and not deleted comes back."""

    def receive(self, *, wait: int) -> list[Message]: ...

    def delete(self, receipts: Sequence[str]) -> int: ...


@dataclass(frozen=True, slots=True)
class Collected:
    """How many messages came, how many notifications among them were new, and how many messages are left to come back."""

    received: int = 0
    new: int = 0
    left: int = 0
    #: Why the queue did not delete what is stored; `left` is the most that it can be then.
    undeleted: VodError | None = None


class RedeliveryCounter:
    """How often a message came that something is wrong with, by our own count: the queue's may stand still."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str | int, int] = OrderedDict()

    def count(self, message: Message) -> int:
        """How often it was noted."""
        return self._seen.get(_name(message), 0)

    def note(self, message: Message) -> None:
        self._seen[_name(message)] = self.count(message) + 1
        self._seen.move_to_end(_name(message))
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A message and what is to be written down of it; `last` where it is not to come back once more."""

    message: Message
    delivery: Delivery
    last: bool


def collect(
    store: Store,
    queue: Queue,
    source: str,
    *,
    wait: int,
    max_attempts: int,
    memory: RedeliveryCounter,
    now: Callable[[], datetime],
    wake_workers: Callable[[], object],
) -> Collected:
    """Wait up to `wait` seconds for messages, write them down, `ring`, and delete them.

    What is no notification is written down as it is, with the status `unreadable`: at once, or where its digest says that it was
    something else on its way, the last of `max_attempts` times. A message counts as often as the queue or `memory` says, whoever
    says more. Raises StoreUnavailable (nothing was deleted, all of it comes back), and what the queue raises when it is asked for
    messages.
    """
    messages = queue.receive(wait=wait)
    if not messages:
        return Collected()
    at = now()
    taken = [each for message in messages if (each := _take(message, source, max_attempts, memory, at))]
    written, new = _write(store, taken, memory, at)
    if new:
        wake_workers()
    receipts = [each.message.receipt for each in written if each.message.receipt]
    deleted, undeleted = 0, None
    try:
        deleted = queue.delete(receipts) if receipts else 0
    except VodError as error:
        undeleted = error
    collected = Collected(len(messages), new, len(messages) - deleted, undeleted)
    log.info("queue messages taken", source=source, received=collected.received, new=new, left=collected.left)
    return collected


def _take(message: Message, source: str, max_attempts: int, memory: RedeliveryCounter, at: datetime) -> _Taken | None:
    known = memory.count(message)
    last = max(message.dequeue_count, known + 1) >= max_attempts
    fields = {"source": source, "message_id": message.message_id, "dequeue_count": message.dequeue_count}
    if not message.intact:
        memory.note(message)
        if not known:
            log.warning("queue message does not fit its digest", **fields)
    try:
        return _Taken(message, delivery(source, events.parse_queued(message.body), received_at=at), last)
    except NotificationRejectedError:
        if not message.intact and not last:
            # Another time it may come as it was written.
            log.warning("queue message is no notification", **fields)
            return None
    log.error("queue message is kept unread; look at vod_notification where status is unreadable", **fields)
    return _Taken(message, _unread(message, source, at), last)


def _name(message: Message) -> str | int:
    return message.message_id or hash(message.body)


def _unread(message: Message, source: str, at: datetime) -> Delivery:
    """A message as a person may want to read it."""
    digest = hashlib.sha256(b"unreadable\0" + message.body.encode("utf-8", "replace")).hexdigest()
    body = strip_signature(storable(message.body[:_KEPT]))
    return Delivery(source, digest, None, None, None, UNREADABLE, body, at, deletes=False)


def _write(store: Store, taken: Sequence[_Taken], memory: RedeliveryCounter, at: datetime) -> tuple[list[_Taken], int]:
    """Those that are committed, and how many notifications were new. Raises StoreUnavailable where none could be."""
    if not taken:
        return [], 0
    try:
        return list(taken), receive(store, [each.delivery for each in taken], now=at)
    except StoreUnavailableError as error:
        fault = error
    # Either the database is away, or one of them is more than it takes; that one must not sink the others.
    written, new = [], 0
    for each in taken:
        _require_database(store)
        count = _write_one(store, each, at)
        if count is not None:
            written.append(each)
            new += count
        elif each.message.intact:
            # The others were noted when they came.
            memory.note(each.message)
    if not written:
        raise fault
    return written, new


def _write_one(store: Store, taken: _Taken, at: datetime) -> int | None:
    fields = {"source": taken.delivery.source, "message_id": taken.message.message_id}
    try:
        return receive(store, [taken.delivery], now=at)
    except StoreUnavailableError as error:
        if not taken.last:
            log.warning("queue message was not stored", **fields, error=str(error))
            return None
    _require_database(store)
    # The media that it names are what counts; they were checked, and are fetched all the same.
    plain = taken.delivery.body.encode("ascii", "backslashreplace").decode()[:_KEPT]
    stripped = msgspec.structs.replace(
        taken.delivery, event_type=None, event_time=None, status=UNREADABLE, body=plain, deletes=False
    )
    try:
        new = receive(store, [stripped], now=at)
    except StoreUnavailableError as error:
        log.error("queue message cannot be stored", **fields, error=str(error))
        return None
    log.error("queue message is kept unread; look at vod_notification where status is unreadable", **fields)
    return new


def _require_database(store: Store) -> None:
    with store.reading() as connection:
        connection.execute(select(1))
