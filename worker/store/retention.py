"""Old notifications are forgotten, a page at a time.

Ids are in the order of arrival, so the old ones are those with the smallest ids: the walk begins there and ends at the first page
that holds nothing old. An index on the time of arrival would find them as well, and every notification would pay for it when it is
received. One that was spooled while the database was away lies behind younger ones, and goes when these are old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, select

from worker.store.tables import notification, sync_request


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many were forgotten; the next page begins after the id `last`, None where nothing old is left."""

    count: int
    last: int | None


class Retention:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def forget(self, *, before: datetime, after: int, limit: int) -> Forgotten:
        """Delete those received before then, among the `limit` with the smallest ids above `after`.

        Those of media with a sync request stay: what VOD told us of a medium decides what its answer means (deleted, or failed to
        be analysed), and a dead letter may be tried again.
        """
        page = self._connection.execute(_PAGE, {"after": after, "limit": limit}).all()
        old = [(number, owed) for number, received_at, owed in map(tuple, page) if received_at < before]
        ids: Sequence[int] = [number for number, owed in old if not owed]
        if ids:
            self._connection.execute(delete(notification).where(notification.c.id.in_(ids)))
        return Forgotten(len(ids), page[-1][0] if old and len(page) == limit else None)


_OWED = exists().where(sync_request.c.media_id == notification.c.media_id, sync_request.c.source == notification.c.source)

_PAGE = (
    select(notification.c.id, notification.c.received_at, _OWED)
    .where(notification.c.id > bindparam("after"))
    .order_by(notification.c.id)
    .limit(bindparam("limit"))
)
