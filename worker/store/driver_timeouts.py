"""Connections that give up on a server that accepted them and says nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Seconds; longer than any statement may take by PostgreSQL's own clock.
_FROZEN = 12.0


def connector(driver: str) -> Callable[..., Any] | None:
    """What connects with `driver`; None where the driver's own time-outs are enough."""
    make = {"psycopg": _psycopg, "pymysql": _pymysql}.get(driver)
    return make() if make else None


def _psycopg() -> Callable[..., Any]:
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """statement_timeout is kept by the server; one that is frozen, or behind a dead line, keeps nothing."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = _FROZEN) -> Any:
            try:
                return super().wait(gen, interval, timeout)
            except psycopg.OperationalError:
                if not self.closed and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    # What comes over this connection later would be the answer to another question.
                    self.pgconn.finish()
                raise

    return Connection.connect


def _pymysql() -> Callable[..., Any]:
    import pymysql

    class Connection(pymysql.connections.Connection):
        """The driver's connect_timeout ends when TCP is up; the server's greeting gets no longer than that either."""

        connect_timeout: float
        _read_timeout: float | None

        def connect(self, sock: Any = None) -> None:
            patience, self._read_timeout = self._read_timeout, self.connect_timeout
            try:
                super().connect(sock)
            finally:
                self._read_timeout = patience

    return Connection
