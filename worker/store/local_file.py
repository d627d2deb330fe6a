"""Open the SQLite file of this machine that keeps notifications which are not in the database: spooled and refused ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.exc import SQLAlchemyError

from worker.core.errors import StoreUnavailableError
from worker.store import error_text
from worker.store.engine import READ_ONLY, open_engine
from worker.store.inbox.notifications import Delivery

_metadata = MetaData()

_Id = BigInteger().with_variant(Integer(), "sqlite")

# The file has no schema version. A row is an encoded delivery, and each release can read the deliveries of the release before.
spooled = Table(
    "spooled",
    _metadata,
    Column("id", _Id, primary_key=True),
    Column("received_at", DateTime, nullable=False),
    Column("delivery", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

refused = Table(
    "refused",
    _metadata,
    Column("id", _Id, primary_key=True),
    Column("source", String, nullable=False),
    Column("event_key", String, nullable=False),
    Column("event_type", String),
    Column("reason", Text, nullable=False),
    Column("refused_at", DateTime, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("delivery", LargeBinary, nullable=False),
    UniqueConstraint("source", "event_key"),
    sqlite_autoincrement=True,
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Delivery)
encode = _encoder.encode
decode = _decoder.decode


class LocalFile:
    """One SQLite file (WAL, synchronous=FULL) that several processes of one machine may share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    @property
    def is_missing(self) -> bool:
        """True if nothing was ever stored. To read the file would create it."""
        return self._engine is None and not self.path.exists()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Run a transaction. The file is created at the first call. Raises StoreUnavailableError."""
        with self._guarded(), self._opened().begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection that only reads. Raises StoreUnavailableError."""
        with self._guarded(), self._opened().connect().execution_options(**READ_ONLY) as connection:
            yield connection

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
            raise StoreUnavailableError(
                f"the spool {self.path} cannot be used: {error_text(error)}; check the disk and the rights to this file, or set "
                "VODSYNC_SPOOL to another path"
            ) from error
