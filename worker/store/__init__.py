"""One obvious way to the database: transactions that are begun again where that helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from worker.core.errors import StoreUnavailableError
from worker.core.wait import Wait
from worker.store.dialects import worth_repeating
from worker.store.engine import READ_ONLY, open_engine

T = TypeVar("T")

#: A transaction is begun again this often at most, and not after this many seconds.
_TRIES, _PATIENCE = 4, 5.0


class Store:
    """The company's database, reached through one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str, *, schema: str | None = None) -> Store:
        """Raises ConfigurationError where `url` is not one of ours; connects only when used."""
        return cls(open_engine(url, schema=schema))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction, commit, and return its result. A deadlock, a lost race or a dead connection runs it again.

        If `work` returns a `Wait`, the transaction is rolled back: a Wait means that nothing was done. To roll back for another
        reason, `work` calls `connection.rollback()` and returns; it must not use the connection after that.

        Raises StoreUnavailableError if the database did not accept the transaction.
        """
        began = time.monotonic()
        for attempt in range(1, _TRIES + 1):
            try:
                with self.engine.begin() as connection:
                    result = work(connection)
                    if isinstance(result, Wait):
                        connection.rollback()
                    return result
            except DBAPIError as error:
                if attempt == _TRIES or time.monotonic() - began > _PATIENCE or not worth_repeating(error):
                    raise StoreUnavailableError(describe(error)) from error
                time.sleep(0.01 * 2**attempt)
            except SQLAlchemyError as error:
                raise StoreUnavailableError(describe(error)) from error
        raise AssertionError("unreachable")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that only reads and holds no lock. Raises StoreUnavailable."""
        try:
            with self.engine.connect().execution_options(**READ_ONLY) as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreUnavailableError(describe(error)) from error

    def lacks_file(self) -> bool:
        """True for a SQLite file that nobody made yet; to connect would make an empty one."""
        return self.engine.dialect.name == "sqlite" and not Path(self.engine.url.database or "").exists()

    def close(self) -> None:
        self.engine.dispose()


def describe(error: SQLAlchemyError) -> str:
    """The database's own words without statement and parameters, which may hold what nobody should read in a log."""
    original = getattr(error, "orig", None) or error
    first = str(original).strip().splitlines()[:1]
    return f"the database did not take the transaction: {type(original).__name__}: {first[0] if first else 'no message'}"
