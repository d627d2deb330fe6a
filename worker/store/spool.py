"""Keep notifications in a local file while the database does not accept them, and return them in order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import delete, func, insert, select

from worker.core.errors import StoreUnavailableError
from worker.store.inbox.notifications import Delivery
from worker.store.local_file import LocalFile, decode, encode, spooled
from worker.store.write_check import commit_page

MAX_GROUP_SIZE = 500  # deliveries moved in one transaction
MIN_FREE_SPACE = 64 * 2**20  # bytes; with less, the spool reports a problem


@dataclass(frozen=True, slots=True)
class Spooled:
    """How many deliveries the spool contains. `since` is the arrival of the oldest one, None if the spool is empty."""

    count: int
    since: datetime | None

    @property
    def problem(self) -> str | None:
        """What the operator should look at, in a sentence; None if the spool is empty."""
        if not self.count or self.since is None:
            return None
        waiting = "1 notification waits" if self.count == 1 else f"{self.count} notifications wait"
        return (
            f"{waiting} in the spool of this machine since {self.since:%Y-%m-%d %H:%M:%S} UTC, because the database did not accept "
            "them; read the receiver's log for the reason"
        )


class Spool:
    """The spooled deliveries in the local file, which several receiver processes of one machine may share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LocalFile(path)

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries durably. Raises StoreUnavailableError, for example if the disk is full or the folder not writable."""
        rows = [{"received_at": delivery.received_at.replace(tzinfo=None), "delivery": encode(delivery)} for delivery in deliveries]
        with self._file.writing() as connection:
            connection.execute(insert(spooled), rows)

    def move_oldest(self, move: Callable[[list[Delivery]], object]) -> int:
        """Call `move` with the oldest deliveries and delete them when it returns. Return how many there were.

        If the process dies between the two, the same deliveries are moved again later; Notifications.record recognises them by
        their event key. If `move` raises, the spool stays as it is.
        """
        with self._file.reading() as connection:
            oldest = select(spooled.c.id, spooled.c.delivery).order_by(spooled.c.id).limit(MAX_GROUP_SIZE)
            rows = connection.execute(oldest).all()
        if not rows:
            return 0
        move([decode(row.delivery) for row in rows])
        with self._file.writing() as connection:
            connection.execute(delete(spooled).where(spooled.c.id <= rows[-1].id, spooled.c.id >= rows[0].id))
        return len(rows)

    def waiting(self) -> Spooled:
        """Count the deliveries in the spool. Raises StoreUnavailableError if the file cannot be read."""
        if self._file.is_missing:
            return Spooled(0, None)
        with self._file.reading() as connection:
            count, since = connection.execute(select(func.count(), func.min(spooled.c.received_at))).one()
        return Spooled(count, since.replace(tzinfo=UTC) if since else None)

    def check(self) -> None:
        """Raises StoreUnavailableError if the spool could not store a delivery now."""
        with self._file.writing() as connection:
            commit_page(connection)
        free = shutil.disk_usage(self.path.parent).free
        if free < MIN_FREE_SPACE:
            raise StoreUnavailableError(f"only {free // 2**20} MB are free on the disk of the spool {self.path}; free some space")

    def close(self) -> None:
        self._file.close()
