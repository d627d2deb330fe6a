"""Replace connections of the pool that are dead, or that lead to a server that only reads."""

from __future__ import annotations

import select
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from worker.store.server_errors import ends_connection, is_read_only

#: A connection that was not used for this long must answer before it is used. One that is in use all the time never has to.
PING_AFTER = 5.0  # seconds
PING_TIMEOUT = 1.0  # seconds

#: In `info` of a connection: when it was returned to the pool, by `time.monotonic`.
_IDLE_SINCE = "vodsync_idle_since"


def replace_useless(engine: Engine) -> None:
    """Let the pool of `engine` replace connections that cannot be used, before they are used and after an error that shows it.

    After such an error, older connections are replaced as well, so that a pool of many dead connections costs one failed attempt.
    """
    dialect = engine.dialect
    event.listen(engine, "checkin", _record_checkin)
    event.listen(engine, "checkout", lambda connection, entry, _proxy: _check(dialect, connection, entry))
    event.listen(engine, "handle_error", _discard)


def _record_checkin(_connection: object, entry: ConnectionPoolEntry) -> None:
    entry.info[_IDLE_SINCE] = time.monotonic()


def _check(dialect: Dialect, connection: Any, entry: ConnectionPoolEntry) -> None:
    """Raises DisconnectionError, upon which SQLAlchemy opens a new connection, if this one is dead."""
    idle_since = entry.info.get(_IDLE_SINCE)
    if idle_since is None:
        # It was opened just now.
        return
    if _has_unread_data(connection):
        raise DisconnectionError("the server closed the connection while it was idle")
    if time.monotonic() - idle_since > PING_AFTER and not _answers(dialect, connection):
        raise InvalidatePoolError("the server did not answer on an idle connection")


def _has_unread_data(connection: Any) -> bool:
    """Return whether the socket of an idle connection is closed, or has data. A server only sends unasked to say that it closes."""
    socket = getattr(connection, "_sock", None) if hasattr(connection, "_sock") else connection
    if socket is None or getattr(connection, "closed", False):
        return True
    if not hasattr(socket, "fileno"):
        # A driver that we are not tested with.
        return False
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _answers(dialect: Dialect, connection: Any) -> bool:
    """Return whether the server answers within `PING_TIMEOUT`. True for drivers without a limit: they would wait for ever."""
    timeout = getattr(connection, "response_timeout", None)
    if timeout is None:
        return True
    connection.response_timeout = PING_TIMEOUT
    try:
        return bool(dialect.do_ping(connection))
    except dialect.loaded_dbapi.Error:
        return False
    finally:
        connection.response_timeout = timeout


def _discard(context: ExceptionContext) -> None:
    """Make SQLAlchemy discard the connection, and all that are as old, if a new one may lead to a server that accepts writes."""
    if ends_connection(context.original_exception) or is_read_only(context.original_exception):
        context.is_disconnect = True
