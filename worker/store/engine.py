"""Create connection pools with the drivers, timeouts and isolation levels that vodsync is tested with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from worker.core.errors import ConfigurationError
from worker.store.connections import replace_useless
from worker.store.driver_timeouts import connect_function
from worker.store.session_limits import (
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE,
    KEEPALIVE_INTERVAL,
    LOCK_TIMEOUT,
    STATEMENT_TIMEOUT,
    mysql_limits,
    postgresql_limits,
)
from worker.store.sessions import PostgresqlSessions, connect_mysql, user_options
from worker.store.url import database_url, number, tls_switches

CONNECT_TIMEOUT = 3  # seconds

#: The execution options of a connection that only reads; on SQLite it takes no write lock.
READ_ONLY = {"vodsync_read_only": True}


def open_engine(text: str, *, schema: str | None = None, migrating: bool = False) -> Engine:
    """Return an engine for the URL `text`. With `migrating`, statements have no timeout. Raises ConfigurationError.

    Its pool has no limit: a thread uses one connection at a time, so a process has at most as many connections as threads.
    """
    url = database_url(text)
    match url.get_backend_name(), url.get_driver_name():
        case "postgresql", driver:
            return _postgresql(url, driver, schema, migrating)
        case "mysql" | "mariadb", "pymysql":
            return _mysql(url, migrating)
        case "sqlite", _:
            return _sqlite(url)
    engine = _create(url, {})
    replace_useless(engine)
    return engine


def _create(url: URL, arguments: dict[str, Any], **options: Any) -> Engine:
    """Create the engine. `arguments` are for the driver, in place of those of the URL; `options` are SQLAlchemy's."""
    try:
        return create_engine(
            url,
            connect_args=arguments,
            # Errors are logged, and must not contain the bodies of notifications.
            hide_parameters=True,
            # 0 is no limit. With one, threads would wait for each other and fail when the database is slow.
            pool_size=0,
            pool_recycle=600,
            json_serializer=lambda value: msgspec.json.encode(value).decode(),
            json_deserializer=msgspec.json.decode,
            **options,
        )
    except (ImportError, NoSuchModuleError):
        raise ConfigurationError(
            f"VODSYNC_DATABASE_URL names the driver {url.drivername}, which is not installed; install it, or leave +driver out"
        ) from None
    except (ArgumentError, ValueError, TypeError) as error:
        raise ConfigurationError(f"VODSYNC_DATABASE_URL has a parameter with an invalid value: {error}; correct it") from None


def _postgresql(url: URL, driver: str, schema: str | None, migrating: bool) -> Engine:
    is_psycopg = driver == "psycopg"
    sessions = PostgresqlSessions(_postgresql_settings(schema, migrating), user_options(url) if is_psycopg else "")
    # What the URL sets in place of these is the operator's choice.
    arguments = {name: value for name, value in _postgresql_arguments().items() if is_psycopg and name not in url.query}
    if is_psycopg:
        arguments["client_encoding"] = "utf8"
    engine = _create(url, arguments, isolation_level="READ COMMITTED")
    if is_psycopg:
        connect = _connect_function(engine, migrating)
        event.listen(engine, "do_connect", lambda _, record, __, parameters: sessions.connect(connect, parameters, record.info))
    event.listen(engine, "begin", sessions.begin)
    replace_useless(engine)
    return engine


def _postgresql_settings(schema: str | None, migrating: bool) -> dict[str, str]:
    return postgresql_limits(migrating=migrating) | ({"search_path": schema} if schema else {})


def _postgresql_arguments() -> dict[str, Any]:
    return {
        "connect_timeout": CONNECT_TIMEOUT,
        "keepalives_idle": KEEPALIVE_IDLE,
        "keepalives_interval": KEEPALIVE_INTERVAL,
        "keepalives_count": KEEPALIVE_COUNT,
        "tcp_user_timeout": STATEMENT_TIMEOUT * 1000,
        "application_name": "vodsync",
    }


def _mysql(url: URL, migrating: bool) -> Engine:
    arguments = {
        "charset": "utf8mb4",
        "connect_timeout": number(url, "connect_timeout", CONNECT_TIMEOUT),
        "read_timeout": None if migrating else STATEMENT_TIMEOUT,
        "write_timeout": None if migrating else STATEMENT_TIMEOUT,
    }
    engine = _create(url, arguments | tls_switches(url), isolation_level="READ COMMITTED")
    connect, limits = _connect_function(engine, migrating), mysql_limits(migrating=migrating)
    event.listen(engine, "do_connect", lambda _, __, ___, parameters: connect_mysql(connect, parameters, limits))
    replace_useless(engine)
    return engine


def _connect_function(engine: Engine, migrating: bool) -> Callable[..., Any]:
    connect = None if migrating else connect_function(engine.driver)
    return connect or engine.dialect.loaded_dbapi.connect


def _sqlite(url: URL) -> Engine:
    engine = _create(url, {"timeout": number(url, "timeout", LOCK_TIMEOUT), "check_same_thread": False})
    event.listen(engine, "connect", _open_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself, because _begin_sqlite chooses their kind.
    connection.isolation_level = None
    # synchronous=FULL: a reported commit has reached the disk.
    # wal_autocheckpoint: a checkpoint delays the writer that triggers it, so it runs every 32 MB instead of every 4 MB.
    # cache_size: in KiB if negative.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=8000", "cache_size=-16384"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then writes can fail without waiting. IMMEDIATE waits for the write lock at the beginning.
    read_only = connection.get_execution_options().get("vodsync_read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
