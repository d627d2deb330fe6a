"""Keep notifications in a local file while the database does not accept them, and return them in order."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import BigInteger, Column, DateTime, Engine, Integer, LargeBinary, MetaData, Table, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from worker.core.errors import StoreUnavailableError
from worker.store import error_text
from worker.store.engine import READ_ONLY, open_engine
from worker.store.inbox.notifications import Delivery

MAX_GROUP_SIZE = 500  # deliveries moved in one transaction
MIN_FREE_SPACE = 64 * 2**20  # bytes; with less, the spool reports a problem

_metadata = MetaData()

# The file has no schema version. A row is an encoded delivery, and each release can read the deliveries of the release before.
_spooled = Table(
    "spooled",
    _metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("received_at", DateTime, nullable=False),
    Column("delivery", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Delivery)


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
    """One SQLite file (WAL, synchronous=FULL) that several receiver processes of one machine may share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries durably. Raises StoreUnavailableError, for example if the disk is full or the folder not writable."""
        rows = [
            {"received_at": delivery.received_at.replace(tzinfo=None), "delivery": _encoder.encode(delivery)}
            for delivery in deliveries
        ]
        with self._guarded(), self._opened().begin() as connection:
            connection.execute(insert(_spooled), rows)

    def move_oldest(self, move: Callable[[list[Delivery]], object]) -> int:
        """Call `move` with the oldest deliveries and delete them when it returns. Return how many there were.

        If the process dies between the two, the same deliveries are moved again later; Notifications.record recognises them by
        their event key. If `move` raises, the spool stays as it is.
        """
        with self._guarded(), self._opened().connect().execution_options(**READ_ONLY) as connection:
            oldest = select(_spooled.c.id, _spooled.c.delivery).order_by(_spooled.c.id).limit(MAX_GROUP_SIZE)
            rows = connection.execute(oldest).all()
        if not rows:
            return 0
        move([_decoder.decode(row.delivery) for row in rows])
        with self._guarded(), self._opened().begin() as connection:
            connection.execute(delete(_spooled).where(_spooled.c.id <= rows[-1].id, _spooled.c.id >= rows[0].id))
        return len(rows)

    def waiting(self) -> Spooled:
        """Count the deliveries in the spool. Raises StoreUnavailableError if the file cannot be read."""
        if self._engine is None and not self.path.exists():
            return Spooled(0, None)
        with self._guarded(), self._opened().connect().execution_options(**READ_ONLY) as connection:
            count, since = connection.execute(select(func.count(), func.min(_spooled.c.received_at))).one()
        return Spooled(count, since.replace(tzinfo=UTC) if since else None)

    def check(self) -> None:
        """Raises StoreUnavailableError if the spool could not store a delivery now."""
        with self._guarded(), self._opened().begin():
            # The transaction is IMMEDIATE: it takes the file's write lock when it begins.
            pass
        free = shutil.disk_usage(self.path.parent).free
        if free < MIN_FREE_SPACE:
            raise StoreUnavailableError(f"only {free // 2**20} MB are free on the disk of the spool {self.path}; free some space")

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def _opened(self) -> Engine:
        """Return the engine, and create the file at the first call."""
        with self._opening:
            if self._engine is None:
                engine = open_engine(f"sqlite:///{self.path}")
                _metadata.create_all(engine)
                self._engine = engine
            return self._engine

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise StoreUnavailableError(
                f"the spool {self.path} cannot be used: {error_text(error)}; check the disk and the rights to this file, or set "
                "VODSYNC_SPOOL to another path"
            ) from error
