"""Record deliveries and request the media assets that they name, in one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from worker import logs
from worker.core.errors import RowRefusedError, StoreUnavailableError
from worker.core.events import Notification
from worker.outage import Outage
from worker.store import Store
from worker.store.dialects import max_packet_size
from worker.store.inbox.notifications import Delivery, Notifications
from worker.store.inbox.sync_requests import LIVE, Request, SyncRequests
from worker.store.refused import RefusedDeliveries, RefusedFilter
from worker.store.write_check import check_write
from worker.sync.isolate import Isolated, commit_in_parts

log = logs.get(__name__)

RETRY_GROUP_SIZE = 50  # refused notifications that are stored in one transaction; each has up to 1 MiB

ROW_OVERHEAD = 1024  # bytes that a notification takes in a statement beside its body, at most

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

    A repeated notification is counted and requests nothing. Raises RowRefusedError, or StoreUnavailableError: nothing was written,
    and the sender should retry.
    """
    return store.transact(lambda connection: _receive(connection, deliveries, now))


def receive_in_parts(store: Store, deliveries: Sequence[Delivery], *, now: datetime) -> Isolated[Delivery]:
    """Store deliveries except those that the database refuses. Raises StoreUnavailableError: the sender should retry all."""

    def explain(part: Sequence[Delivery]) -> str | None:
        return too_large(store, sum(len(delivery.body.encode("utf-8", "replace")) + ROW_OVERHEAD for delivery in part))

    return commit_in_parts(
        deliveries,
        lambda part: receive(store, part, now=now),
        check_others=lambda: check_others(store, now),
        explain=explain,
    )


def check_others(store: Store, now: datetime) -> None:
    """Raises StoreUnavailableError unless the database accepts an ordinary notification now."""
    try:
        check_write(store, now=now)
    except RowRefusedError as error:
        raise StoreUnavailableError(f"{error}; it refuses every row: check its settings and its schema") from error


def too_large(store: Store, size: int) -> str | None:
    """Return why the server cannot take a statement of `size` bytes; None if it can.

    MariaDB and MySQL close the connection when they receive too large a packet, and most clients never see the reason.
    """
    with store.reading() as connection:
        limit = max_packet_size(connection)
    if limit is None or size <= limit:
        return None
    return f"with about {size:,} bytes it is larger than the database server's max_allowed_packet of {limit:,}; raise that limit"


def retry_refused(store: Store, refused: RefusedDeliveries, ids: Sequence[int], *, now: datetime) -> tuple[int, list[str]]:
    """Store refused notifications again. Return how many the database took, and the reasons for the others, which stay refused.

    Raises StoreUnavailableError if the database is not available; what was taken is no longer refused.
    """
    taken, reasons = 0, []
    for start in range(0, len(ids), RETRY_GROUP_SIZE):
        group = refused.find(RefusedFilter(ids=ids[start : start + RETRY_GROUP_SIZE]), limit=RETRY_GROUP_SIZE)
        result = receive_in_parts(store, [item.delivery for item in group], now=now)
        if result.refused:
            refused.put(result.refused, now=now)
            reasons += [reason for _, reason in result.refused]
        still_refused = {id(delivery) for delivery, _ in result.refused}
        refused.drop(RefusedFilter(ids=[item.id for item in group if id(item.delivery) not in still_refused]))
        taken += len(result.stored)
    return taken, reasons


class NotificationWriter:
    """Stores deliveries in the database, and keeps those that it refuses in a file of this machine, with the reason."""

    def __init__(self, store: Store, refused: RefusedDeliveries, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._refused = refused
        self._now = now
        self._outage = Outage()

    def write(self, deliveries: Sequence[Delivery]) -> int:
        """Return how many notifications were new once each delivery is durable. Raises StoreUnavailableError: retry all of them."""
        result = self.write_accepted(deliveries)
        self.set_aside(result.refused)
        return result.new

    def write_accepted(self, deliveries: Sequence[Delivery]) -> Isolated[Delivery]:
        """Store what the database does not refuse. Raises StoreUnavailableError: retry all of them."""
        return receive_in_parts(self._store, deliveries, now=self._now())

    def set_aside(self, refusals: Sequence[tuple[Delivery, str]]) -> None:
        """Keep refused deliveries and their reasons, and request the assets that they name. Raises StoreUnavailableError."""
        if not refusals:
            return
        self._refused.put(refusals, now=self._now())
        # The body is only a hint (vod-protocol 1.3), so the assets are fetched in any case.
        requests = [
            Request(delivery.source, media_id, "refused", LIVE, requested_at=delivery.received_at)
            for delivery, _ in refusals
            for media_id in delivery.media_ids
        ]
        try:
            if requests:
                self._store.transact(lambda connection: SyncRequests(connection).request(requests, now=self._now()))
        except RowRefusedError as error:
            log.error("assets of refused notifications were not requested", error=str(error))
        delivery, reason = refusals[-1]
        if self._outage.failed(reason):
            log.error(
                "notification refused by the database and set aside; see: vodsync failures list",
                source=delivery.source,
                media_id=delivery.media_id,
                error=reason,
                count=self._outage.unlogged + 1,
            )


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
