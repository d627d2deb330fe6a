"""A queue as SMQ keeps it: what is received becomes invisible, and comes back unless it is deleted (vod-protocol 3.2)."""

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
    first_taken_at: float = 0.0
    taken: int = 0
    #: "" as long as nobody holds it.
    receipt: str = ""
    deleted: bool = False


#: When a message may be received; out of date where the message has another time by now, or is gone.
Entry = tuple[float, int, QueuedMessage]


class SmqQueue:
    """Messages in the order in which they may be received."""

    def __init__(self, visibility: float) -> None:
        self.visibility = visibility
        #: Of messages written, received (each time), deleted, and of calls whose receipt was void.
        self.counts = Counter[str]()
        self._order = itertools.count()
        self._agenda: list[Entry] = []
        self._held: dict[str, QueuedMessage] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """Messages that are not deleted, visible or not."""
        return self.counts["written"] - self.counts["deleted"]

    def put(self, body: str, now: float) -> QueuedMessage:
        letter = QueuedMessage(body, now, now)
        self._plan(letter)
        self.counts["written"] += 1
        news, self._news = self._news, asyncio.Event()
        news.set()
        return letter

    def take(self, limit: int, now: float) -> list[QueuedMessage]:
        """Up to `limit` visible messages, each with a receipt of its own; the receipt before it is void."""
        taken: list[QueuedMessage] = []
        while self._agenda and self._agenda[0][0] <= now and len(taken) < limit:
            entry = heapq.heappop(self._agenda)
            if not _counts(entry):
                continue
            letter = entry[2]
            self._hold(letter, now, self.visibility)
            letter.taken += 1
            letter.first_taken_at = letter.first_taken_at or now
            taken.append(letter)
        for letter in taken:
            self._plan(letter)
        self.counts["received"] += len(taken)
        return taken

    def peek(self, limit: int, now: float) -> list[QueuedMessage]:
        return [entry[2] for entry in heapq.nsmallest(limit, filter(_counts, self._agenda)) if entry[0] <= now]

    def delete(self, receipt: str, now: float) -> None:
        """Raises Refusal where the receipt is not, or no longer, that of a message."""
        letter = self._find(receipt, now)
        del self._held[receipt]
        letter.deleted = True
        self.counts["deleted"] += 1

    def postpone(self, receipt: str, seconds: float, now: float) -> QueuedMessage:
        """The message stays invisible for `seconds` from now, under another receipt. Raises Refusal as `delete` does."""
        letter = self._find(receipt, now)
        self._hold(letter, now, seconds)
        self._plan(letter)
        return letter

    async def wait(self, until: float, now: float) -> None:
        """Return when something may have become visible, at the latest at `until` (unix seconds)."""
        due = min(until, self._agenda[0][0]) if self._agenda else until
        try:
            async with asyncio.timeout(max(0.0, due - now)):
                await self._news.wait()
        except TimeoutError:
            pass

    def as_dict(self, now: float) -> dict[str, int]:
        visible = sum(entry[0] <= now for entry in filter(_counts, self._agenda))
        names = ("written", "received", "deleted", "void_receipts")
        return {"visible": visible, "invisible": len(self) - visible, **{name: self.counts[name] for name in names}}

    def _plan(self, letter: QueuedMessage) -> None:
        heapq.heappush(self._agenda, (letter.visible_at, next(self._order), letter))

    def _hold(self, letter: QueuedMessage, now: float, seconds: float) -> None:
        self._held.pop(letter.receipt, None)
        letter.visible_at = now + seconds
        letter.receipt = f"1-{secrets.token_urlsafe(24)}"
        self._held[letter.receipt] = letter

    def _find(self, receipt: str, now: float) -> QueuedMessage:
        letter = self._held.get(receipt)
        if letter is None or letter.visible_at <= now:
            self.counts["void_receipts"] += 1
            raise ApiError("ReceiptHandleError", 400, "The receipt handle you provide is not valid.")
        return letter


def _counts(entry: Entry) -> bool:
    due, _, letter = entry
    return not letter.deleted and due == letter.visible_at
