"""Record deliveries and request the media assets that they name, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from worker.core.events import Notification
from worker.store import Store
from worker.store.inbox.notifications import Delivery, Notifications
from worker.store.inbox.sync_requests import LIVE, Request, SyncRequests

MAX_REASON_LENGTH = 64  # characters; the width of vod_sync_request.reason, which names the event type


def delivery(source: str, notification: Notification, *, received_at: datetime) -> Delivery:
    """Return what is recorded of a parsed notification that arrived at `received_at`."""
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
        deletes=notification.is_deletion,
    )


def receive(store: Store, deliveries: Sequence[Delivery], *, now: datetime) -> int:
    """Store deliveries, all or none. Return how many notifications were new.

    A repeated notification is counted and requests nothing. Raises StoreUnavailableError: nothing was written, and the sender
    should retry.
    """
    return store.transact(lambda connection: _receive(connection, deliveries, now))


def _receive(connection: Connection, deliveries: Sequence[Delivery], now: datetime) -> int:
    new = Notifications(connection).record(deliveries)
    requests = [
        Request(
            delivery.source,
            media_id,
            (delivery.event_type or "notification")[:MAX_REASON_LENGTH],
            LIVE,
            requested_at=delivery.received_at,
        )
        for delivery in deliveries
        if (delivery.source, delivery.event_key) in new
        for media_id in delivery.media_ids
    ]
    SyncRequests(connection).request(requests, now=now)
    return len(new)
