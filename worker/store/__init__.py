"""Open the database, and run transactions that are repeated after a deadlock, a lost race or a dead connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from worker.core.backoff import Backoff
from worker.core.errors import RowRefusedError, StoreUnavailableError, UnsuitableDatabaseError
from worker.core.wait import Wait
from worker.store import administration
from worker.store.database_clock import DatabaseClock
from worker.store.dialects import is_retryable
from worker.store.engine import READ_ONLY, open_engine
from worker.store.server_errors import is_out_of_connections, is_read_only
from worker.store.url import check_sqlite_path
from worker.store.write_faults import WriteFault, write_fault

T = TypeVar("T")

MAX_ATTEMPTS = 4  # runs of one transaction
MAX_READ_ONLY_ATTEMPTS = 2  # the same, if the server only reads: the second one runs on a new connection
MAX_RETRY_TIME = 5.0  # seconds from the first attempt, after which a transaction is not repeated

_BACKOFF = Backoff(first=timedelta(milliseconds=20), longest=timedelta(milliseconds=80))


class Store:
    """The database, with one connection pool per process. Its transactions keep `clock` right."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.clock = DatabaseClock()

    @classmethod
    def open(cls, url: str, *, schema: str | None = None) -> Store:
        """Return the store at `url`. Connects when it is first used.

        Raises ConfigurationError if the URL is not supported, StoreUnavailableError if it leads to no place for a SQLite file.
        """
        store = cls(open_engine(url, schema=schema))
        if store.engine.dialect.name == "sqlite":
            check_sqlite_path(store.engine.url)
        return store

    def now(self) -> datetime:
        """Return the time by the database's clock, without a query. Due times, leases and heartbeats use it."""
        return self.clock.now()

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction, commit, and return its result. A deadlock, a lost race or a dead connection runs it again.

        If `work` returns a `Wait`, the transaction is rolled back: a Wait means that nothing was done. To roll back for another
        reason, `work` calls `connection.rollback()` and returns; it must not use the connection after that.

        Raises RowRefusedError if the database refuses a row, and StoreUnavailableError if it did not accept the transaction for
        another reason.
        """
        started = time.monotonic()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with self.engine.begin() as connection:
                    self.clock.measure_if_due(connection)
                    result = work(connection)
                    if isinstance(result, Wait):
                        connection.rollback()
                    return result
            except DBAPIError as error:
                max_attempts = MAX_READ_ONLY_ATTEMPTS if is_read_only(error.orig) else MAX_ATTEMPTS
                if attempt >= max_attempts or time.monotonic() - started > MAX_RETRY_TIME or not is_retryable(error):
                    raise _write_error(error, self.engine) from error
                time.sleep(_BACKOFF.delay(attempt).total_seconds())
            except SQLAlchemyError as error:
                raise unavailable(error, self.engine) from error
            except (UnicodeError, OverflowError) as error:
                # The driver cannot encode a value for this connection. SQLAlchemy does not wrap these errors.
                raise RowRefusedError(f"the database driver cannot send a value: {_encoding_error(error)}") from error
        raise AssertionError("unreachable")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection that only reads and takes no lock. Raises StoreUnavailableError."""
        try:
            with self.engine.connect().execution_options(**READ_ONLY) as connection:
                self.clock.measure_if_due(connection)
                yield connection
        except SQLAlchemyError as error:
            raise unavailable(error, self.engine) from error

    def is_file_missing(self) -> bool:
        """Return whether the database is a SQLite file that does not exist. To connect would create an empty one."""
        return self.engine.dialect.name == "sqlite" and not Path(self.engine.url.database or "").exists()

    def close(self) -> None:
        self.engine.dispose()


def unavailable(error: SQLAlchemyError, engine: Engine, *, may_be_refused: bool = False) -> StoreUnavailableError:
    """Return the exception for a failed transaction: an UnsuitableDatabaseError if an administrator has to act."""
    instruction = administration.instruction(error, engine)
    if instruction is None:
        return StoreUnavailableError(describe(error), may_be_refused=may_be_refused)
    # MariaDB and MySQL apply a GRANT on a database only to new connections.
    engine.dispose()
    return UnsuitableDatabaseError(f"the database refused the statement: {error_text(error)}; {instruction}")


def _write_error(error: DBAPIError, engine: Engine) -> StoreUnavailableError:
    fault = write_fault(error)
    if fault is WriteFault.REFUSED:
        return RowRefusedError(f"the database refuses a row: {error_text(error)}")
    return unavailable(error, engine, may_be_refused=fault is WriteFault.UNCLEAR)


def _encoding_error(error: UnicodeError | OverflowError) -> str:
    """Return a text without the value."""
    if isinstance(error, UnicodeEncodeError):
        return f"{error.encoding} has no such character"
    return type(error).__name__


def describe(error: SQLAlchemyError) -> str:
    """Return a sentence for the operator about a failed transaction, without values of rows."""
    original = getattr(error, "orig", None)
    if is_read_only(original):
        return (
            f"the database server only reads: {error_text(error)}; check that VODSYNC_DATABASE_URL leads to the primary, and that "
            "neither the server nor the database user is set to read-only"
        )
    if is_out_of_connections(original):
        return (
            f"the database server has no connection left: {error_text(error)}; raise its limit of connections, or run fewer "
            "processes or a lower --concurrency: the README states how many connections each process opens"
        )
    return (
        f"the database did not accept the transaction: {error_text(error)}; check VODSYNC_DATABASE_URL and the privileges of its "
        "user, and that the database is reachable, writable and has free space"
    )


def error_text(error: SQLAlchemyError) -> str:
    """Return the type and the first line of the driver's error.

    The statement and its parameters are left out, because they may contain data that must not be logged.
    """
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return f"{type(original).__name__}: {lines[0] if lines else 'no error message'}"
