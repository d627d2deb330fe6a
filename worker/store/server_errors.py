"""Recognise the errors of a database server that concern the connection or the server, not the statement."""

from __future__ import annotations

from typing import Any

#: The server ends the session: admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout,
#: idle_in_transaction_session_timeout, transaction_timeout.
_POSTGRESQL_ENDED = {"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}
#: Shutdown in progress, aborted connection, timeout while a packet was read or written, offline mode, a node of a Galera cluster
#: that is not ready, killed connection, closed because idle.
_MYSQL_ENDED = {1053, 1152, 1159, 1161, 1184, 3032, 1047, 1927, 4031}

#: read_only_sql_transaction: also each write on a standby
_POSTGRESQL_READ_ONLY = {"25006"}
#: Transaction is read-only, server is read-only, InnoDB is read-only.
_MYSQL_READ_ONLY = {1792, 1836, 1874}
#: "The server is running with the --read-only option". The same number names other options too.
_MYSQL_OPTION = 1290

#: too_many_connections. An error of psycopg's connect has no code, and its message is in the language of the server.
_POSTGRESQL_NO_CONNECTION = {"53300"}
_POSTGRESQL_NO_CONNECTION_TEXTS = (
    "too many clients",
    "connection slots are reserved",
    "too many connections",
    "no more connections",
)
#: Too many connections, too many of this user (a limit of the server, a limit of the account).
_MYSQL_NO_CONNECTION = {1040, 1203, 1226}


#: lock_not_available (PostgreSQL), lock wait timeout (MariaDB and MySQL)
_LOCK_TIMEOUT = {"55P03", 1205}


def error_code(error: Any) -> str | int | None:
    """Return the number of a MariaDB or MySQL error, or the SQLSTATE of a PostgreSQL error; None if the error has neither."""
    number = error.args[0] if getattr(error, "args", None) else None
    # The number first: PyMySQL's errors have a SQLSTATE too, which is the same for most numbers.
    return number if isinstance(number, int) else getattr(error, "sqlstate", None)


def ends_connection(error: BaseException | None) -> bool:
    """Return whether the server closes this connection, so that only a new one can be used."""
    return error_code(error) in _POSTGRESQL_ENDED | _MYSQL_ENDED


def is_read_only(error: BaseException | None) -> bool:
    """Return whether the server refuses every write, for instance because it is not the primary any more."""
    code = error_code(error)
    if code == _MYSQL_OPTION:
        return any(option in str(error).lower() for option in ("read-only", "read_only"))
    return code in _POSTGRESQL_READ_ONLY | _MYSQL_READ_ONLY


def is_out_of_connections(error: BaseException | None) -> bool:
    """Return whether the server, or a pooler before it, accepts no further connection."""
    code = error_code(error)
    if code in _POSTGRESQL_NO_CONNECTION | _MYSQL_NO_CONNECTION:
        return True
    return not isinstance(code, int) and any(text in str(error) for text in _POSTGRESQL_NO_CONNECTION_TEXTS)


def is_lock_timeout(error: BaseException | None) -> bool:
    """Return whether a statement waited in vain for a lock of another session."""
    return error_code(error) in _LOCK_TIMEOUT
