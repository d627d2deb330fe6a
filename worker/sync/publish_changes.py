"""Publish committed changes to the change feed: each at least once, and in order for each asset."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection

from worker import logs
from worker.store import Store
from worker.store.leases import Leases
from worker.store.outbox import Change, Outbox

log = logs.get(__name__)

LEASE_NAME = "changes"

#: One process publishes at a time, as two would overtake each other. If it is killed, the others wait for this long. A call to the
#: broker that takes as long as it may (queue/brokers) still ends within it.
LEASE_DURATION = timedelta(seconds=20)

#: No further change is sent this long after the lease was claimed.
MAX_SENDING_TIME = 5.0  # seconds

GROUP_SIZE = 200  # changes per lease
DROP_PAGE_SIZE = 1000  # changes that are checked for their age in one transaction


class Publisher(Protocol):
    """The connection to the broker."""

    def open(self) -> None:
        """Connect if necessary. Raises any exception if the broker cannot be reached."""

    def send(self, change: Change) -> None:
        """Return once the broker has confirmed the change. Raises any exception if that is uncertain."""


def publish_changes(store: Store, publisher: Publisher, *, holder: str, stopping: threading.Event) -> int:
    """Send the oldest changes in order, delete those that were confirmed, and return their number.

    Returns 0 if there are none, or if another process has the lease (`holder` names this one). If this process dies after sending,
    or cannot delete, the changes are sent again. Exceptions of `publisher` are passed on; the change that failed and those after
    it stay. Raises StoreUnavailableError.
    """
    with store.reading() as connection:
        if Outbox(connection).is_empty():
            return 0
    # Before the lease is claimed: a process that cannot reach the broker must not keep out those that can.
    publisher.open()
    started = time.monotonic()
    changes = store.transact(lambda connection: _claim(connection, holder))
    sent: list[int] = []
    try:
        for change in changes:
            if stopping.is_set() or time.monotonic() - started > MAX_SENDING_TIME:
                break
            publisher.send(change)
            sent.append(change.id)
    finally:
        if changes:
            store.transact(lambda connection: _release(connection, holder, sent))
    return len(sent)


def drop_old_changes(store: Store, *, now: datetime, keep: timedelta, stopping: threading.Event) -> int:
    """Delete the changes that could not be published for `keep`, until `stopping` is set, and return their number.

    Raises StoreUnavailableError.
    """
    dropped = 0
    while not stopping.is_set():
        count = store.transact(lambda connection: Outbox(connection).delete_older(before=now - keep, limit=DROP_PAGE_SIZE))
        if not count:
            break
        dropped += count
    if dropped:
        log.warning("unpublished changes dropped", count=dropped, older_than_hours=keep // timedelta(hours=1))
    return dropped


def _claim(connection: Connection, holder: str) -> list[Change]:
    """Return the oldest changes, with the lease; nothing if there are none or another process holds it."""
    if not Leases(connection).claim(LEASE_NAME, holder, LEASE_DURATION):
        return []
    changes = Outbox(connection).oldest(GROUP_SIZE)
    if not changes:
        # Do not keep the lease.
        connection.rollback()
    return changes


def _release(connection: Connection, holder: str, sent: list[int]) -> None:
    Outbox(connection).delete(sent)
    Leases(connection).release(LEASE_NAME, holder)
