"""A delivery becomes a row and, where it is news of audio or video, a request to fetch: in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from worker.core.events import Notification
from worker.store import Store
from worker.store.inbox.sync_requests import LIVE, Delivery, Inbox, Request

#: The reason of a sync request names the event; the column holds this many characters.
_REASON_LENGTH = 64


def delivery(source: str, notification: Notification, *, received_at: datetime) -> Delivery:
    """A parsed notification as the inbox takes it."""
    return Delivery(
        source=source,
        event_key=notification.event_key,
        event_type=notification.event_type or None,
        media_id=notification.media_ids[0] if notification.media_ids else None,
        event_time=notification.event_time,
        status=notification.status,
        body=notification.body,
        received_at=received_at,
        media_ids=notification.media_ids if notification.needs_fetch else (),
    )


def receive(store: Store, deliveries: Sequence[Delivery], *, now: datetime) -> int:
    """Write deliveries down, all or none; gives how many notifications were new. A repeated one is counted and asks for nothing.

    Raises StoreUnavailable (nothing was written, the sender should try again).
    """
    return store.transact(lambda connection: _receive(connection, deliveries, now))


def _receive(connection: Connection, deliveries: Sequence[Delivery], now: datetime) -> int:
    inbox = Inbox(connection)
    new = inbox.record(deliveries)
    inbox.request(
        (
            Request(
                each.source,
                media_id,
                (each.event_type or "notification")[:_REASON_LENGTH],
                LIVE,
                requested_at=each.received_at,
            )
            for each in deliveries
            if (each.source, each.event_key) in new
            for media_id in each.media_ids
        ),
        now=now,
    )
    return len(new)
