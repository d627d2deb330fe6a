"""Limit how long a session may wait or pause, so that a client that has vanished does not keep its locks.

A host that loses its power or its network ends no connection. Only the server can end the transaction that it left open. Others
wait for its locks until then.
"""

from __future__ import annotations

STATEMENT_TIMEOUT = 10  # seconds
LOCK_TIMEOUT = 5  # seconds

#: Between two statements of a transaction. Ours are milliseconds apart, because no transaction is open while VOD is called.
IDLE_TIMEOUT = 10  # seconds
#: The same for a migration, which computes between its statements.
MIGRATION_IDLE_TIMEOUT = 60  # seconds

#: TCP keep-alive, in both directions: a dead peer is noticed after KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_COUNT.
KEEPALIVE_IDLE = 10  # seconds
KEEPALIVE_INTERVAL = 5  # seconds
KEEPALIVE_COUNT = 3


def postgresql_limits(*, migrating: bool) -> dict[str, str]:
    """Return the settings of a session on PostgreSQL."""
    return {
        "lock_timeout": f"{LOCK_TIMEOUT}s",
        "statement_timeout": "0" if migrating else f"{STATEMENT_TIMEOUT}s",
        "idle_in_transaction_session_timeout": f"{MIGRATION_IDLE_TIMEOUT if migrating else IDLE_TIMEOUT}s",
        # For the server's side of the connection. statement_timeout does not end a result that the client does not read.
        "tcp_keepalives_idle": str(KEEPALIVE_IDLE),
        "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL),
        "tcp_keepalives_count": str(KEEPALIVE_COUNT),
        "tcp_user_timeout": str(IDLE_TIMEOUT * 1000),
    }


def mysql_limits(*, migrating: bool) -> str:
    """Return the assignments for a SET of MariaDB and MySQL."""
    idle = MIGRATION_IDLE_TIMEOUT if migrating else IDLE_TIMEOUT
    limits = f"innodb_lock_wait_timeout={LOCK_TIMEOUT}, net_read_timeout={IDLE_TIMEOUT}, net_write_timeout={IDLE_TIMEOUT}"
    # MySQL ends an idle transaction only with its connection. So idle connections of our pool end as well, and are opened again.
    limits += f", wait_timeout={idle}"
    # MariaDB has a limit for the transaction. A migration holds a named lock without a transaction.
    wait = "" if migrating else ", wait_timeout=@@global.wait_timeout"
    statement = 0 if migrating else STATEMENT_TIMEOUT
    return f"{limits} /*M!100300 , idle_transaction_timeout={idle}, max_statement_time={statement}{wait} */"
