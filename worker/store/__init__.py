"""Open the database, and run transactions that are repeated after a deadlock, a lost race or a dead connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from worker.core.backoff import Backoff
from worker.core.errors import StoreUnavailableError, UnsuitableDatabaseError
from worker.core.wait import Wait
from worker.store import administration
from worker.store.dialects import is_retryable
from worker.store.engine import READ_ONLY, open_engine

T = TypeVar("T")

MAX_ATTEMPTS = 4  # runs of one transaction
MAX_RETRY_TIME = 5.0  # seconds from the first attempt, after which a transaction is not repeated

_BACKOFF = Backoff(first=timedelta(milliseconds=20), longest=timedelta(milliseconds=80))


class Store:
    """The database, with one connection pool per process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str, *, schema: str | None = None) -> Store:
        """Return the store at `url`. Connects when it is first used. Raises ConfigurationError if the URL is not supported."""
        return cls(open_engine(url, schema=schema))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction, commit, and return its result. A deadlock, a lost race or a dead connection runs it again.

        If `work` returns a `Wait`, the transaction is rolled back: a Wait means that nothing was done. To roll back for another
        reason, `work` calls `connection.rollback()` and returns; it must not use the connection after that.

        Raises StoreUnavailableError if the database did not accept the transaction.
        """
        started = time.monotonic()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with self.engine.begin() as connection:
                    result = work(connection)
                    if isinstance(result, Wait):
                        connection.rollback()
                    return result
            except DBAPIError as error:
                if attempt == MAX_ATTEMPTS or time.monotonic() - started > MAX_RETRY_TIME or not is_retryable(error):
                    raise unavailable(error, self.engine) from error
                time.sleep(_BACKOFF.delay(attempt).total_seconds())
            except SQLAlchemyError as error:
                raise unavailable(error, self.engine) from error
        raise AssertionError("unreachable")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection that only reads and takes no lock. Raises StoreUnavailableError."""
        try:
            with self.engine.connect().execution_options(**READ_ONLY) as connection:
                yield connection
        except SQLAlchemyError as error:
            raise unavailable(error, self.engine) from error

    def is_file_missing(self) -> bool:
        """Return whether the database is a SQLite file that does not exist. To connect would create an empty one."""
        return self.engine.dialect.name == "sqlite" and not Path(self.engine.url.database or "").exists()

    def close(self) -> None:
        self.engine.dispose()


def unavailable(error: SQLAlchemyError, engine: Engine) -> StoreUnavailableError:
    """Return the exception for a failed transaction: a UnsuitableDatabaseError if an administrator has to act."""
    instruction = administration.instruction(error, engine)
    if instruction is None:
        return StoreUnavailableError(describe(error))
    # MariaDB and MySQL apply a GRANT on a database only to new connections.
    engine.dispose()
    return UnsuitableDatabaseError(f"the database refused the statement: {error_text(error)}; {instruction}")


def describe(error: SQLAlchemyError) -> str:
    """Return a sentence for the operator about a failed transaction, without values of rows."""
    return (
        f"the database did not accept the transaction: {error_text(error)}; check that the database is reachable, writable and "
        "has free space"
    )


def error_text(error: SQLAlchemyError) -> str:
    """Return the type and the first line of the driver's error.

    The statement and its parameters are left out, because they may contain data that must not be logged.
    """
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return f"{type(original).__name__}: {lines[0] if lines else 'no error message'}"
