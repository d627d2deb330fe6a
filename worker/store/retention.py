"""Delete old notifications, a page at a time.

Ids are in the order of arrival, so the oldest notifications have the lowest ids. A walk begins there and ends at the first page
without an old notification. An index on `received_at` would find them as well, but would cost time for each notification that is
received. A notification that was spooled has a higher id than younger ones; it is deleted when these are old.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, select

from worker.store.tables import notification, sync_request


@dataclass(frozen=True, slots=True)
class DeletedPage:
    """How many notifications were deleted. The next page begins after the id `last`; None if nothing old remains."""

    count: int
    last: int | None


class Retention:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def delete_page(self, *, before: datetime, after: int, limit: int) -> DeletedPage:
        """Delete notifications received before that time among the `limit` lowest ids above `after`.

        Notifications of an asset with a sync request stay. They are still needed: whether they report a deletion or a failed
        analysis decides what VOD's next answer means, and an operator may retry a dead letter.
        """
        page = self._connection.execute(_PAGE, {"after": after, "limit": limit}).all()
        old = [row for row in page if row.received_at < before]
        ids = [row.id for row in old if not row.is_needed]
        if ids:
            self._connection.execute(delete(notification).where(notification.c.id.in_(ids)))
        return DeletedPage(len(ids), page[-1].id if old and len(page) == limit else None)


_IS_NEEDED = exists().where(sync_request.c.media_id == notification.c.media_id, sync_request.c.source == notification.c.source)

_PAGE = (
    select(notification.c.id, notification.c.received_at, _IS_NEEDED.label("is_needed"))
    .where(notification.c.id > bindparam("after"))
    .order_by(notification.c.id)
    .limit(bindparam("limit"))
)
