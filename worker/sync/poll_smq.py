"""Store the notifications that VOD writes to a queue (SMQ), and only then delete them from the queue."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from worker import logs
from worker.core import events
from worker.core.errors import NotificationRejectedError, VodError
from worker.core.urls import storable, strip_signature
from worker.store.inbox.notifications import Delivery
from worker.sync.receive import NotificationWriter, delivery
from worker.vod.smq_xml import Message

log = logs.get(__name__)

#: Value of vod_notification.status for a message that is not a notification.
UNREADABLE = "unreadable"

MAX_BODY_LENGTH = 65_536  # characters kept of a message that is not a notification; the queue accepts no more than 64 KiB

MAX_COUNTED_MESSAGES = 10_000


class MessageQueue(Protocol):
    """A message that was received and is not deleted is received again later."""

    def receive(self, *, wait: int) -> list[Message]:
        """Wait up to `wait` seconds for messages. Raises VodError."""

    def delete(self, receipts: Sequence[str]) -> int:
        """Return how many messages were deleted. Raises VodError."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """How many messages were received, how many notifications were new, and how many messages are still in the queue."""

    received: int = 0
    new: int = 0
    left: int = 0
    #: Why the stored messages could not be deleted. `left` is then the highest possible number.
    undeleted: VodError | None = None


class RedeliveryCounter:
    """Counts how often each faulty message was received, in this process: the queue's own count does not always grow."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str | int, int] = OrderedDict()

    def count(self, message: Message) -> int:
        """Return how often the message was added."""
        return self._counts.get(_key(message), 0)

    def add(self, message: Message) -> None:
        """Count a message once more. Only the latest messages are remembered."""
        self._counts[_key(message)] = self.count(message) + 1
        self._counts.move_to_end(_key(message))
        if len(self._counts) > MAX_COUNTED_MESSAGES:
            self._counts.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Received:
    """A message and the delivery to store for it. `is_last_attempt`: it must not be left in the queue again."""

    message: Message
    delivery: Delivery
    is_last_attempt: bool


def poll_queue(
    writer: NotificationWriter,
    queue: MessageQueue,
    source: str,
    *,
    wait: int,
    max_attempts: int,
    redeliveries: RedeliveryCounter,
    now: Callable[[], datetime],
    wake_workers: Callable[[], object],
) -> PollResult:
    """Wait up to `wait` seconds for messages, store them, wake the workers, and delete the messages.

    A message that is not a notification is stored as it is, with the status `unreadable`. If its digest shows that it was damaged
    on the way, that happens only at the last of `max_attempts`. The queue and we both count attempts; the higher count applies.
    A notification that the database refuses is set aside by `writer`.

    Raises StoreUnavailableError (nothing was deleted, every message is received again), and VodError if the queue does not answer.
    """
    messages = queue.receive(wait=wait)
    if not messages:
        return PollResult()
    received_at = now()
    received = [
        parsed for message in messages if (parsed := _parse(message, source, max_attempts, redeliveries, received_at)) is not None
    ]
    stored, new = _store(writer, received)
    if new:
        wake_workers()
    receipts = [item.message.receipt for item in stored if item.message.receipt]
    deleted, undeleted = 0, None
    try:
        deleted = queue.delete(receipts) if receipts else 0
    except VodError as error:
        undeleted = error
    result = PollResult(len(messages), new, len(messages) - deleted, undeleted)
    log.info("queue messages stored", source=source, received=result.received, new=new, left=result.left)
    return result


def _parse(
    message: Message, source: str, max_attempts: int, redeliveries: RedeliveryCounter, received_at: datetime
) -> _Received | None:
    """Return what to store for a message; None if it is damaged and left in the queue for another attempt."""
    attempts_before = redeliveries.count(message)
    is_last_attempt = max(message.dequeue_count, attempts_before + 1) >= max_attempts
    fields = {"source": source, "message_id": message.message_id, "dequeue_count": message.dequeue_count}
    if not message.intact:
        redeliveries.add(message)
        if not attempts_before:
            log.warning("queue message does not match its digest", **fields)
    try:
        parsed = delivery(source, events.parse_queued(message.body), received_at=received_at)
        return _Received(message, parsed, is_last_attempt)
    except NotificationRejectedError:
        if not message.intact and not is_last_attempt:
            # It may be received undamaged the next time.
            log.warning("queue message is not a notification", **fields)
            return None
    log.error("queue message stored as unreadable; see vod_notification with this status", **fields)
    return _Received(message, _unreadable(message, source, received_at), is_last_attempt)


def _key(message: Message) -> str | int:
    return message.message_id or hash(message.body)


def _unreadable(message: Message, source: str, received_at: datetime) -> Delivery:
    """Return a delivery with the text of a message that is not a notification, for the operator."""
    digest = hashlib.sha256(b"unreadable\0" + message.body.encode("utf-8", "replace")).hexdigest()
    return Delivery(
        source=source,
        event_key=digest,
        event_type=None,
        media_id=None,
        event_time=None,
        status=UNREADABLE,
        body=strip_signature(storable(message.body[:MAX_BODY_LENGTH])),
        received_at=received_at,
        deletes=False,
    )


def _store(writer: NotificationWriter, received: Sequence[_Received]) -> tuple[list[_Received], int]:
    """Return the messages that are durable, and how many notifications were new.

    A notification that the database refuses is set aside. If the message was damaged on the way, that waits for its last attempt.
    Raises StoreUnavailableError if the database is not available.
    """
    result = writer.write_accepted([item.delivery for item in received])
    refused = {id(delivery): reason for delivery, reason in result.refused}
    durable, refusals = [], []
    for item in received:
        reason = refused.get(id(item.delivery))
        if reason is None or item.message.intact or item.is_last_attempt:
            durable.append(item)
            if reason is not None:
                refusals.append((item.delivery, reason))
    writer.set_aside(refusals)
    return durable, result.new
