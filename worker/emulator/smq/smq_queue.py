"""The queue: a received message becomes invisible, and visible again unless it is deleted (vod-protocol 3.2)."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import secrets
import uuid
from collections import Counter
from dataclasses import dataclass, field

from worker.emulator.api.api_errors import ApiError


@dataclass(slots=True)
class QueuedMessage:
    """One message; times are unix seconds."""

    body: str
    enqueued_at: float
    visible_at: float
    message_id: str = field(default_factory=lambda: uuid.uuid4().hex.upper())
    #: 0 before the message is received.
    first_received_at: float = 0.0
    receive_count: int = 0
    #: The valid receipt, "" before the message is received.
    receipt: str = ""
    is_deleted: bool = False


#: When a message becomes visible, a number that keeps the order of equal times, and the message. An entry is outdated if the
#: message has another time now or is deleted.
ScheduleEntry = tuple[float, int, QueuedMessage]


class SmqQueue:
    """Messages in the order in which they become visible. `now` is unix seconds."""

    def __init__(self, visibility: float) -> None:
        """A received message stays invisible for `visibility` seconds."""
        self.visibility = visibility
        #: Messages written, received (each time) and deleted, and calls with an invalid receipt.
        self.counts = Counter[str]()
        self._order = itertools.count()
        self._schedule: list[ScheduleEntry] = []
        self._by_receipt: dict[str, QueuedMessage] = {}
        self._message_added = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of messages that are not deleted, visible or not."""
        return self.counts["written"] - self.counts["deleted"]

    def send(self, body: str, now: float) -> QueuedMessage:
        """Add a message, which is visible at once, and return it."""
        message = QueuedMessage(body, now, now)
        self._add_to_schedule(message)
        self.counts["written"] += 1
        # Each event is used once: the tasks that wait for it continue, later ones wait for the next event.
        message_added, self._message_added = self._message_added, asyncio.Event()
        message_added.set()
        return message

    def receive(self, limit: int, now: float) -> list[QueuedMessage]:
        """Return up to `limit` visible messages, each with a new receipt; the receipt before it becomes invalid."""
        received: list[QueuedMessage] = []
        while self._schedule and self._schedule[0][0] <= now and len(received) < limit:
            entry = heapq.heappop(self._schedule)
            if not _is_current(entry):
                continue
            message = entry[2]
            self._make_invisible(message, now, self.visibility)
            message.receive_count += 1
            message.first_received_at = message.first_received_at or now
            received.append(message)
        for message in received:
            self._add_to_schedule(message)
        self.counts["received"] += len(received)
        return received

    def peek(self, limit: int, now: float) -> list[QueuedMessage]:
        """Return up to `limit` visible messages, which stay visible."""
        return [entry[2] for entry in heapq.nsmallest(limit, filter(_is_current, self._schedule)) if entry[0] <= now]

    def delete(self, receipt: str, now: float) -> None:
        """Delete a message. Raises ApiError if the receipt is invalid or has expired."""
        message = self._by_valid_receipt(receipt, now)
        del self._by_receipt[receipt]
        message.is_deleted = True
        self.counts["deleted"] += 1

    def change_visibility(self, receipt: str, seconds: float, now: float) -> QueuedMessage:
        """Make a message invisible for `seconds` from `now`, with a new receipt. Raises ApiError as `delete` does."""
        message = self._by_valid_receipt(receipt, now)
        self._make_invisible(message, now, seconds)
        self._add_to_schedule(message)
        return message

    async def wait(self, until: float, now: float) -> None:
        """Return when a message may have become visible, at the latest at `until` (unix seconds)."""
        next_check = min(until, self._schedule[0][0]) if self._schedule else until
        try:
            async with asyncio.timeout(max(0.0, next_check - now)):
                await self._message_added.wait()
        except TimeoutError:
            pass

    def as_dict(self, now: float) -> dict[str, int]:
        """Return the number of visible and invisible messages, and the counters."""
        visible = sum(entry[0] <= now for entry in filter(_is_current, self._schedule))
        names = ("written", "received", "deleted", "void_receipts")
        return {"visible": visible, "invisible": len(self) - visible, **{name: self.counts[name] for name in names}}

    def _add_to_schedule(self, message: QueuedMessage) -> None:
        heapq.heappush(self._schedule, (message.visible_at, next(self._order), message))

    def _make_invisible(self, message: QueuedMessage, now: float, seconds: float) -> None:
        self._by_receipt.pop(message.receipt, None)
        message.visible_at = now + seconds
        message.receipt = f"1-{secrets.token_urlsafe(24)}"
        self._by_receipt[message.receipt] = message

    def _by_valid_receipt(self, receipt: str, now: float) -> QueuedMessage:
        message = self._by_receipt.get(receipt)
        if message is None or message.visible_at <= now:
            self.counts["void_receipts"] += 1
            raise ApiError("ReceiptHandleError", 400, "The receipt handle you provide is not valid.")
        return message


def _is_current(entry: ScheduleEntry) -> bool:
    visible_at, _, message = entry
    return not message.is_deleted and visible_at == message.visible_at
