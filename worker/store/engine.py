"""Create connection pools with the drivers, timeouts and isolation levels that vodsync is tested with."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.util import immutabledict

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

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "sqlite": "sqlite",
}

CONNECT_TIMEOUT = 3  # seconds

#: The execution options of a connection that only reads; on SQLite it takes no write lock.
READ_ONLY = {"vodsync_read_only": True}


def database_url(text: str) -> URL:
    """Return the URL with the driver that vodsync is tested with, or with its explicit `+driver`. Raises ConfigurationError."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "VODSYNC_DATABASE_URL is not a database URL; use for example postgresql://user:password@host/name or sqlite:///vodsync.db"
        ) from None
    backend, plus, _ = url.drivername.partition("+")
    if backend not in _DRIVERS:
        raise ConfigurationError(
            f"VODSYNC_DATABASE_URL begins with {backend}://; use postgresql://, mysql://, mariadb:// or sqlite:///"
        )
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "VODSYNC_DATABASE_URL has no file name, but several processes share the database; use sqlite:///vodsync.db"
        )
    return url if plus else url.set(drivername=_DRIVERS[backend])


def open_engine(text: str, *, schema: str | None = None, migrating: bool = False) -> Engine:
    """Return an engine for the URL `text`. With `migrating`, statements have no timeout. Raises ConfigurationError.

    Its pool has no limit: a thread uses one connection at a time, so a process has at most as many connections as threads.
    """
    url = database_url(text)
    backend = url.get_backend_name()
    arguments: dict[str, Any] = {}
    # hide_parameters: errors are logged, and must not contain the bodies of notifications.
    options: dict[str, Any] = {
        "hide_parameters": True,
        # 0 is no limit. With one, threads would wait for each other and fail when the database is slow.
        "pool_size": 0,
        "pool_recycle": 600,
        "json_serializer": lambda value: msgspec.json.encode(value).decode(),
        "json_deserializer": msgspec.json.decode,
    }
    if backend == "postgresql" and url.get_driver_name() == "psycopg":
        arguments = _postgresql(schema, migrating)
    elif backend in ("mysql", "mariadb") and url.get_driver_name() == "pymysql":
        url = url.set(query=immutabledict({"charset": "utf8mb4"} | dict(url.query)))
        arguments = _mysql(migrating)
        options["isolation_level"] = "READ COMMITTED"
    elif backend == "sqlite":
        arguments = {"timeout": LOCK_TIMEOUT, "check_same_thread": False}
    try:
        engine = create_engine(url, connect_args=arguments, **options)
    except (ImportError, NoSuchModuleError):
        raise ConfigurationError(
            f"VODSYNC_DATABASE_URL names the driver {url.drivername}, which is not installed; install it, or leave +driver out"
        ) from None
    connect = None if migrating else connect_function(engine.driver)
    if connect is not None:
        event.listen(engine, "do_connect", lambda _dialect, _record, arguments, parameters: connect(*arguments, **parameters))
    if backend == "sqlite":
        event.listen(engine, "connect", _open_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        replace_useless(engine)
    return engine


def _postgresql(schema: str | None, migrating: bool) -> dict[str, Any]:
    settings = {
        "timezone": "UTC",
        # A generic plan that was made while the tables were empty would be used for ever.
        "plan_cache_mode": "force_custom_plan",
        **postgresql_limits(migrating=migrating),
    }
    if schema:
        settings["search_path"] = schema
    return {
        "connect_timeout": CONNECT_TIMEOUT,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "keepalives_idle": KEEPALIVE_IDLE,
        "keepalives_interval": KEEPALIVE_INTERVAL,
        "keepalives_count": KEEPALIVE_COUNT,
        "tcp_user_timeout": STATEMENT_TIMEOUT * 1000,
        "application_name": "vodsync",
    }


def _mysql(migrating: bool) -> dict[str, Any]:
    return {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": None if migrating else STATEMENT_TIMEOUT,
        "write_timeout": None if migrating else STATEMENT_TIMEOUT,
        "init_command": (
            f"SET time_zone='+00:00', sql_mode=CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES'), {mysql_limits(migrating=migrating)}"
        ),
    }


def _open_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself, because _begin_sqlite chooses their kind.
    connection.isolation_level = None
    # synchronous=FULL: a reported commit has reached the disk.
    # wal_autocheckpoint: a checkpoint delays the writer that triggers it, so it runs every 32 MB instead of every 4 MB.
    # cache_size: in KiB if negative.
    for pragma in (
        f"busy_timeout={LOCK_TIMEOUT * 1000}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=8000",
        "cache_size=-16384",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then writes can fail without waiting. IMMEDIATE waits for the write lock at the beginning.
    read_only = connection.get_execution_options().get("vodsync_read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
