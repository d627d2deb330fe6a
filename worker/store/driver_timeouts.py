"""Let database drivers time out if a server accepted the connection and then does not respond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RESPONSE_TIMEOUT = 12.0  # seconds; longer than statement_timeout, which the server itself applies


def connect_function(driver: str) -> Callable[..., Any] | None:
    """Return the function that connects with `driver`; None if the driver's own timeouts are enough."""
    create = {"psycopg": _psycopg, "pymysql": _pymysql}.get(driver)
    return create() if create else None


def _psycopg() -> Callable[..., Any]:
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """Time out here too: a server that is frozen or unreachable cannot apply statement_timeout."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = RESPONSE_TIMEOUT) -> Any:
            try:
                return super().wait(gen, interval, timeout)
            except psycopg.OperationalError:
                if not self.closed and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    # The response may still arrive, and would then be taken for the response to the next statement.
                    self.pgconn.finish()
                raise

    return Connection.connect


def _pymysql() -> Callable[..., Any]:
    import pymysql

    class Connection(pymysql.connections.Connection):
        """Apply connect_timeout to the server's greeting too. The driver applies it only until TCP is connected."""

        connect_timeout: float
        _read_timeout: float | None

        def connect(self, sock: Any = None) -> None:
            read_timeout, self._read_timeout = self._read_timeout, self.connect_timeout
            try:
                super().connect(sock)
            finally:
                self._read_timeout = read_timeout

    return Connection
