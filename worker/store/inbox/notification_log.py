"""The recorded notifications, in the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select

from worker.store.tables import notification

#: Notifications looked at in one statement: a filter that lets hardly any through must not keep one at work for minutes.
_WINDOW = 1000


@dataclass(frozen=True, slots=True)
class NotificationFilter:
    """Notifications of which all of this is true: received from `since` on, before `until`, of this type, naming this medium."""

    since: datetime | None = None
    until: datetime | None = None
    event_type: str | None = None
    media_id: str | None = None

    def condition(self) -> ColumnElement[bool]:
        chosen = [notification.c.source == bindparam("s")]
        if self.since is not None:
            chosen.append(notification.c.received_at >= self.since)
        if self.until is not None:
            chosen.append(notification.c.received_at < self.until)
        if self.event_type is not None:
            chosen.append(notification.c.event_type == self.event_type)
        if self.media_id is not None:
            # A notification may name several, of which the column holds the first; who parses the body knows for sure.
            named = notification.c.body.contains(self.media_id, autoescape=True)
            chosen.append(or_(notification.c.media_id == self.media_id, named))
        return and_(*chosen)


@dataclass(frozen=True, slots=True)
class Page:
    """Notifications by id and body; `last` is the last id that was looked at, None where there are no more."""

    found: Sequence[tuple[int, str]]
    last: int | None


class NotificationLog:
    """Works inside the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self) -> int:
        """The id of the newest one of any source, 0 where there is none."""
        return self._connection.execute(select(func.max(notification.c.id))).scalar() or 0

    def page(self, source: str, which: NotificationFilter, *, after: int, until: int) -> Page:
        """Those that are meant among the next ones with an id above `after` and up to `until`."""
        bounds = {"after": after, "until": until}
        last = self._connection.execute(_LAST, bounds).scalar()
        wanted = select(notification.c.id, notification.c.body).where(_BETWEEN, which.condition()).order_by(notification.c.id)
        found = self._connection.execute(wanted, {"s": source, "after": after, "until": until if last is None else last})
        return Page([(row.id, row.body) for row in found], last)


_BETWEEN = and_(notification.c.id > bindparam("after"), notification.c.id <= bindparam("until"))

_LAST = select(notification.c.id).where(_BETWEEN).order_by(notification.c.id).limit(1).offset(_WINDOW - 1)
