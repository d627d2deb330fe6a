"""Let database drivers time out if a server accepted the connection and then does not respond."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from worker.store.session_limits import KEEPALIVE_COUNT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL

RESPONSE_TIMEOUT = 12.0  # seconds; longer than statement_timeout, which the server itself applies


def connect_function(driver: str) -> Callable[..., Any] | None:
    """Return the function that connects with `driver`; None if the driver's own timeouts are enough.

    Its connections have an attribute `response_timeout`: how many seconds a statement may take from now on.
    """
    create = {"psycopg": _psycopg, "pymysql": _pymysql}.get(driver)
    return create() if create else None


def _psycopg() -> Callable[..., Any]:
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """Time out here too: a server that is frozen or unreachable cannot apply statement_timeout."""

        response_timeout = RESPONSE_TIMEOUT

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, self.response_timeout if timeout is None else timeout)
            except psycopg.OperationalError:
                if not self.closed and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    # The response may still arrive, and would then be taken for the response to the next statement.
                    self.pgconn.finish()
                raise

    return Connection.connect


def _pymysql() -> Callable[..., Any]:
    import pymysql

    class Connection(pymysql.connections.Connection):
        """Apply connect_timeout to the server's greeting too, and keep idle connections alive.

        The driver applies the timeout only until TCP is connected, and leaves the times of keep-alive to the system: two hours.
        """

        connect_timeout: float
        _read_timeout: float | None
        _sock: socket.socket | None

        @property
        def response_timeout(self) -> float | None:
            return self._read_timeout

        @response_timeout.setter
        def response_timeout(self, seconds: float | None) -> None:
            self._read_timeout = seconds

        def connect(self, sock: Any = None) -> None:
            read_timeout, self._read_timeout = self._read_timeout, self.connect_timeout
            try:
                super().connect(sock)
            finally:
                self._read_timeout = read_timeout
            _keep_alive(self._sock)

    return Connection


def _keep_alive(connection: socket.socket | None) -> None:
    """Let the system check an idle TCP connection, which also keeps firewalls and proxies from forgetting it."""
    if connection is None or connection.family == socket.AF_UNIX:
        return
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
    ):
        # Not every system has all of them.
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
