"""Read recorded notifications in the order of their arrival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select

from worker.store.tables import notification

#: Notifications read in one statement. Without this limit, a filter that matches few of them would run one statement for minutes.
WINDOW_SIZE = 1000


@dataclass(frozen=True, slots=True)
class NotificationFilter:
    """Match notifications for which all of these are true; None matches all. `since` is inclusive, `until` exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    event_type: str | None = None
    media_id: str | None = None

    def condition(self) -> ColumnElement[bool]:
        """Return the condition on a row of vod_notification; its parameter is `key_source`.

        With `media_id` it can match too much: a caller that needs to be exact parses the body.
        """
        conditions = [notification.c.source == bindparam("key_source")]
        if self.since is not None:
            conditions.append(notification.c.received_at >= self.since)
        if self.until is not None:
            conditions.append(notification.c.received_at < self.until)
        if self.event_type is not None:
            conditions.append(notification.c.event_type == self.event_type)
        if self.media_id is not None:
            # A notification may name several assets; the column contains the first one.
            is_named = notification.c.body.contains(self.media_id, autoescape=True)
            conditions.append(or_(notification.c.media_id == self.media_id, is_named))
        return and_(*conditions)


@dataclass(frozen=True, slots=True)
class Page:
    """Matching notifications as id and body. `last` is the last id that was read, None if there are no more."""

    notifications: Sequence[tuple[int, str]]
    last: int | None


class NotificationLog:
    """Works inside the caller's transaction and never writes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self) -> int:
        """Return the id of the newest notification of any source, 0 if there is none."""
        return self._connection.execute(select(func.max(notification.c.id))).scalar() or 0

    def page(self, source: str, selection: NotificationFilter, *, after: int, until: int) -> Page:
        """Return the matching ones among the next WINDOW_SIZE notifications with an id above `after` and up to `until`."""
        bounds = {"after": after, "until": until}
        last = self._connection.execute(_LAST, bounds).scalar()
        matching = select(notification.c.id, notification.c.body).where(_BETWEEN, selection.condition()).order_by(notification.c.id)
        parameters = {"key_source": source, "after": after, "until": until if last is None else last}
        return Page([(row.id, row.body) for row in self._connection.execute(matching, parameters)], last)


_BETWEEN = and_(notification.c.id > bindparam("after"), notification.c.id <= bindparam("until"))

#: The last id of the next window; no row if fewer notifications remain.
_LAST = select(notification.c.id).where(_BETWEEN).order_by(notification.c.id).limit(1).offset(WINDOW_SIZE - 1)
