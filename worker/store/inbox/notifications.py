"""Record deliveries of notifications, each notification once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from worker.store.dialects import Upsert
from worker.store.tables import notification


class Delivery(msgspec.Struct, frozen=True):
    """One arrival of a notification, ready to be recorded. `media_ids` are the assets that it asks to fetch.

    All other fields are columns of vod_notification. The spool stores deliveries by the names of these fields, and a spool file may
    be drained by the release before or after the one that wrote it. So a new field needs a default, and no field is renamed.
    """

    source: str
    event_key: str
    event_type: str | None
    media_id: str | None
    event_time: datetime | None
    status: str | None
    body: str
    received_at: datetime
    media_ids: tuple[str, ...] = ()
    #: Whether it reports that a whole asset was deleted. None: read from a spool file of a release that did not store this.
    deletes: bool | None = None


class Notifications:
    """Works inside the caller's transaction and never commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def record(self, deliveries: Iterable[Delivery]) -> set[tuple[str, str]]:
        """Store deliveries. Return the (source, event key) of the notifications that were not recorded before.

        A repeated notification only increases the `deliveries` of its row.
        """
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for delivery in deliveries:
            key = delivery.source, delivery.event_key
            if key in rows:
                rows[key]["deliveries"] += 1
            else:
                rows[key] = _row(delivery)
        # Every process takes row locks in the same order, so that two receivers cannot deadlock.
        ordered = [rows[key] for key in sorted(rows)]
        if self._connection.dialect.name in ("postgresql", "sqlite"):
            return self._upsert_returning_new(ordered)
        known = self._known(rows)
        if known:
            repeats = [
                {"key_source": source, "key": key, "repeats": rows[source, key]["deliveries"]} for source, key in sorted(known)
            ]
            self._connection.execute(_COUNT_REPEATS, repeats)
        new = rows.keys() - known
        if new:
            # An upsert, because another receiver may have inserted the same notification a moment ago.
            _UPSERT.execute(self._connection, [rows[key] for key in sorted(new)])
        return set(new)

    def _upsert_returning_new(self, rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
        """Upsert in one statement. A row is new if it counts no more deliveries than were sent."""
        sent = {(row["source"], row["event_key"]): row["deliveries"] for row in rows}
        stored = map(tuple, _UPSERT.execute(self._connection, rows))
        return {(source, key) for source, key, deliveries in stored if deliveries == sent[source, key]}

    def _known(self, keys: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        known: set[tuple[str, str]] = set()
        for source, group in groupby(sorted(keys), key=itemgetter(0)):
            parameters = {"key_source": source, "keys": [event_key for _, event_key in group]}
            known |= {(source, event_key) for event_key in self._connection.execute(_KNOWN, parameters).scalars()}
        return known


#: The columns that a delivery fills.
_COLUMNS = tuple(name for name in Delivery.__struct_fields__ if name != "media_ids")


def _row(delivery: Delivery) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(delivery, name) for name in _COLUMNS}
    row["deliveries"] = 1
    return row


_KNOWN = select(notification.c.event_key).where(
    notification.c.source == bindparam("key_source"), notification.c.event_key.in_(bindparam("keys", expanding=True))
)

_COUNT_REPEATS = (
    update(notification)
    .where(notification.c.source == bindparam("key_source"), notification.c.event_key == bindparam("key"))
    .values(deliveries=notification.c.deliveries + bindparam("repeats"))
)

_UPSERT = Upsert(
    notification,
    (*_COLUMNS, "deliveries"),
    lambda stored, new: [("deliveries", stored.deliveries + new.deliveries)],
    returning=("source", "event_key", "deliveries"),
)
