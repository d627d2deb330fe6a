"""A local file that takes notifications while the database cannot, and gives them back in order."""

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
from worker.store.engine import READ_ONLY, open_engine
from worker.store.inbox.notifications import Delivery

#: Deliveries moved in one transaction.
GROUP = 500

#: Bytes that have to be free for a spool that can be relied on.
_ROOM = 64 * 2**20

_metadata = MetaData()

# No schema version: a row is an opaque delivery, and a file that an older release left behind is emptied by the next one.
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
    """How many deliveries wait in the spool, and since when the oldest does; None where none does."""

    count: int
    since: datetime | None

    @property
    def problem(self) -> str | None:
        """What somebody should look at, in a sentence; None where the spool is empty."""
        if not self.count or self.since is None:
            return None
        waiting = "1 notification waits" if self.count == 1 else f"{self.count} notifications wait"
        return (
            f"{waiting} in the spool of this machine since {self.since:%Y-%m-%d %H:%M:%S} UTC, because the database did not take "
            "them; the receiver's log says why"
        )


class Spool:
    """One SQLite file (WAL, synchronous=FULL) that several receiver processes of one machine may share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Durable once this returns. Raises StoreUnavailable (a full disk, a folder that is not ours)."""
        rows = [{"received_at": each.received_at.replace(tzinfo=None), "delivery": _encoder.encode(each)} for each in deliveries]
        with self._guarded(), self._opened().begin() as connection:
            connection.execute(insert(_spooled), rows)

    def drain(self, move: Callable[[list[Delivery]], object]) -> int:
        """Hand the oldest deliveries to `move`, and forget them once it returned; gives how many those were.

        A process that dies between the two hands them over again, which the inbox recognises by their event key. What `move` raises
        leaves the spool as it is.
        """
        with self._guarded(), self._opened().connect().execution_options(**READ_ONLY) as connection:
            rows = connection.execute(select(_spooled.c.id, _spooled.c.delivery).order_by(_spooled.c.id).limit(GROUP)).all()
        if not rows:
            return 0
        move([_decoder.decode(row.delivery) for row in rows])
        with self._guarded(), self._opened().begin() as connection:
            connection.execute(delete(_spooled).where(_spooled.c.id <= rows[-1].id, _spooled.c.id >= rows[0].id))
        return len(rows)

    def waiting(self) -> Spooled:
        """Raises StoreUnavailable where the file cannot be read."""
        if self._engine is None and not self.path.exists():
            return Spooled(0, None)
        with self._guarded(), self._opened().connect().execution_options(**READ_ONLY) as connection:
            count, since = connection.execute(select(func.count(), func.min(_spooled.c.received_at))).one()
        return Spooled(count, since.replace(tzinfo=UTC) if since else None)

    def check(self) -> None:
        """Raises StoreUnavailable where nothing could be written to the spool."""
        with self._guarded(), self._opened().begin():
            # The transaction is IMMEDIATE: to begin it is to hold the file's write lock.
            pass
        free = shutil.disk_usage(self.path.parent).free
        if free < _ROOM:
            raise StoreUnavailableError(f"only {free // 2**20} MB are free where the spool {self.path} stands")

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def _opened(self) -> Engine:
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
            original = getattr(error, "orig", None) or error
            raise StoreUnavailableError(f"the spool {self.path} did not take the write: {original}") from error
