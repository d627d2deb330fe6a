"""What changed is told to whoever listens: never before it is committed, at least once, and in order for each medium."""

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

LEASE = "changes"

#: One process at a time hands changes over: two that did would overtake each other. One that is killed holds the others up for
#: this long. Sending ends well before; the rest is for one call to the broker that takes as long as it may (queue/brokers).
_LEASE, _ENOUGH = timedelta(seconds=20), timedelta(seconds=5)

#: Changes read at once, and looked at when old ones are dropped.
_GROUP, _OLD = 200, 1000


class ChangePublisher(Protocol):
    """The way to whoever listens."""

    def open(self) -> None:
        """Make sure that there is one; raises whatever says why not."""

    def send(self, change: Change) -> None:
        """Returns once the change is in safe hands; raises where that is not certain."""


def announce(store: Store, line: ChangePublisher, *, holder: str, stopping: threading.Event) -> int:
    """Send the oldest changes, one by one, and delete those that arrived; gives how many those were.

    0 where none waits, or another process is at it. Where a process dies in between, or cannot delete, they are sent again, so one
    may come twice. What `line` raises leaves the change, and those after it, for the next time. Raises StoreUnavailable.
    """
    with store.reading() as connection:
        if not Outbox(connection).any():
            return 0
    # Whoever cannot reach the broker takes no lease from those who can.
    line.open()
    began = time.monotonic()
    group: list[Change] = store.transact(lambda connection: _take(connection, holder))
    taken: list[int] = []
    try:
        for change in group:
            if stopping.is_set() or time.monotonic() - began > _ENOUGH.total_seconds():
                break
            line.send(change)
            taken.append(change.id)
    finally:
        if group:
            store.transact(lambda connection: _give_back(connection, holder, taken))
    return len(taken)


def drop_old(store: Store, *, now: datetime, keep: timedelta, stopping: threading.Event) -> int:
    """Delete changes that no broker took for `keep`, until `stopping`; gives how many those were. Raises StoreUnavailable."""
    dropped = 0
    while not stopping.is_set():
        some = store.transact(lambda connection: Outbox(connection).drop(before=now - keep, limit=_OLD))
        if not some:
            break
        dropped += some
    if dropped:
        log.warning("changes dropped that no broker took", count=dropped, older_than_hours=keep // timedelta(hours=1))
    return dropped


def _take(connection: Connection, holder: str) -> list[Change]:
    if not Leases(connection).take(LEASE, holder, _LEASE):
        return []
    group = Outbox(connection).oldest(_GROUP)
    if not group:
        connection.rollback()
    return group


def _give_back(connection: Connection, holder: str, taken: list[int]) -> None:
    Outbox(connection).forget(taken)
    Leases(connection).release(LEASE, holder)
