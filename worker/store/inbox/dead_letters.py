"""List, retry and drop dead letters: the sync requests that were given up on and are kept for an operator."""

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
    """One dead letter. `failed_at` is when it was given up on. `error` contains VOD's request id if VOD sent one."""

    source: str
    media_id: str
    reason: str
    attempts: int
    requested_at: datetime
    failed_at: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Match dead letters of a source, with one of these ids, whose error contains `text` or whose reason is `text`.

    A field that is None or empty matches all.
    """

    source: str | None = None
    media_ids: Collection[str] = ()
    text: str | None = None

    def condition(self) -> ColumnElement[bool]:
        """Return the condition on a row of vod_sync_request."""
        condition: ColumnElement[bool] = sync_request.c.state == "dead"
        if self.source is not None:
            condition &= sync_request.c.source == self.source
        if self.media_ids:
            condition &= sync_request.c.media_id.in_(list(self.media_ids))
        if self.text is not None:
            condition &= or_(sync_request.c.last_error.contains(self.text, autoescape=True), sync_request.c.reason == self.text)
        return condition


class DeadLetters:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def count(self, selection: DeadLetterFilter) -> int:
        """Return how many dead letters match."""
        return self._connection.execute(select(func.count()).where(selection.condition())).scalar_one()

    def find(self, selection: DeadLetterFilter, *, limit: int) -> Iterator[DeadLetter]:
        """Return up to `limit` matching dead letters, the latest first."""
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
            .where(selection.condition())
            .order_by(columns.available_at.desc(), columns.media_id)
            .limit(limit)
        )
        return (DeadLetter(*row) for row in rows)

    def retry(self, selection: DeadLetterFilter, *, now: datetime) -> int:
        """Make matching dead letters due, with no failed attempts. Return how many there were."""
        values: dict[str, Any] = {
            "state": "due",
            "attempts": 0,
            "waits": 0,
            "priority": MANUAL,
            "available_at": now,
            "requested_at": now,
            "generation": sync_request.c.generation + 1,
        }
        return self._connection.execute(update(sync_request).where(selection.condition()).values(values)).rowcount

    def drop(self, selection: DeadLetterFilter) -> int:
        """Delete matching dead letters. Return how many there were. The next notification of an asset makes it due again."""
        return self._connection.execute(delete(sync_request).where(selection.condition())).rowcount
