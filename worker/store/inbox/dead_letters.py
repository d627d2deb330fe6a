"""The sync requests that were given up on: kept for a person, who looks at them, has them tried again, or drops them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from worker.store.inbox.sync_requests import MANUAL
from worker.store.tables import sync_request


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter. `failed_at` is when it was given up on, `error` names VOD's request where there was one."""

    source: str
    media_id: str
    reason: str
    attempts: int
    requested_at: datetime
    failed_at: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: those of a source, with one of these ids, whose error or reason contains a text."""

    source: str | None = None
    media_ids: Collection[str] = ()
    text: str | None = None

    def condition(self) -> ColumnElement[bool]:
        chosen: ColumnElement[bool] = sync_request.c.state == "dead"
        if self.source is not None:
            chosen &= sync_request.c.source == self.source
        if self.media_ids:
            chosen &= sync_request.c.media_id.in_(list(self.media_ids))
        if self.text is not None:
            chosen &= or_(sync_request.c.last_error.contains(self.text, autoescape=True), sync_request.c.reason == self.text)
        return chosen


class DeadLetters:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def count(self, choice: DeadLetterFilter) -> int:
        return self._connection.execute(select(func.count()).where(choice.condition())).scalar_one()

    def find(self, choice: DeadLetterFilter, *, limit: int) -> Iterator[DeadLetter]:
        """The latest first."""
        columns = sync_request.c
        rows = self._connection.execute(
            select(
                columns.source,
                columns.media_id,
                columns.reason,
                columns.attempts,
                columns.requested_at,
                columns.available_at,
                columns.last_error,
            )
            .where(choice.condition())
            .order_by(columns.available_at.desc(), columns.media_id)
            .limit(limit)
        )
        return (DeadLetter(*row) for row in rows)

    def retry(self, choice: DeadLetterFilter, *, now: datetime) -> int:
        """Make them due, with all their attempts before them; gives how many."""
        fresh: dict[str, Any] = {
            "state": "due",
            "attempts": 0,
            "waits": 0,
            "priority": MANUAL,
            "available_at": now,
            "requested_at": now,
            "generation": sync_request.c.generation + 1,
        }
        return self._connection.execute(update(sync_request).where(choice.condition()).values(fresh)).rowcount

    def drop(self, choice: DeadLetterFilter) -> int:
        """Forget them; gives how many. The next notification of a medium makes it due again."""
        return self._connection.execute(delete(sync_request).where(choice.condition())).rowcount
