"""A connection pool with our drivers, our time-outs and our isolation, whatever the database."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.util import immutabledict

from worker.core.errors import ConfigurationError
from worker.store.driver_timeouts import connector

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "sqlite": "sqlite",
}

#: Seconds to wait for a connection, for one statement, for a lock, and for the next statement of a transaction.
_CONNECT, _STATEMENT, _LOCK, _IDLE = 3, 10, 5, 60

#: Marks a connection that only reads: on SQLite it then takes no write lock.
READ_ONLY = {"vodsync_read_only": True}


def database_url(text: str) -> URL:
    """The URL with the driver that we test with; an explicit `+driver` is kept. Raises ConfigurationError."""
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
        raise ConfigurationError("VODSYNC_DATABASE_URL names no file; several processes share it, so use sqlite:///vodsync.db")
    return url if plus else url.set(drivername=_DRIVERS[backend])


def open_engine(text: str, *, schema: str | None = None, migrating: bool = False, pool_size: int = 8) -> Engine:
    """An engine for `text`. While `migrating`, statements may take as long as they need."""
    url = database_url(text)
    backend = url.get_backend_name()
    arguments: dict[str, Any] = {}
    # Statements in errors show no values: a notification's body is nobody's business in a log.
    options: dict[str, Any] = {
        "hide_parameters": True,
        "pool_size": pool_size,
        "max_overflow": 8,
        "pool_timeout": _CONNECT,
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
        arguments = {"timeout": _LOCK, "check_same_thread": False}
    try:
        engine = create_engine(url, connect_args=arguments, **options)
    except (ImportError, NoSuchModuleError):
        raise ConfigurationError(
            f"VODSYNC_DATABASE_URL asks for the driver {url.drivername}, which is not there; leave +driver out"
        ) from None
    connect = None if migrating else connector(engine.driver)
    if connect is not None:
        event.listen(engine, "do_connect", lambda _dialect, _record, arguments, parameters: connect(*arguments, **parameters))
    if backend == "sqlite":
        event.listen(engine, "connect", _open_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(schema: str | None, migrating: bool) -> dict[str, Any]:
    settings = {
        "timezone": "UTC",
        # A plan made while the tables were empty would serve them for ever.
        "plan_cache_mode": "force_custom_plan",
        "lock_timeout": f"{_LOCK}s",
        "idle_in_transaction_session_timeout": f"{_IDLE}s",
        "statement_timeout": "0" if migrating else f"{_STATEMENT}s",
    }
    if schema:
        settings["search_path"] = schema
    return {
        "connect_timeout": _CONNECT,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": _STATEMENT * 1000,
        "application_name": "vodsync",
    }


def _mysql(migrating: bool) -> dict[str, Any]:
    return {
        "connect_timeout": _CONNECT,
        "read_timeout": None if migrating else _STATEMENT,
        "write_timeout": None if migrating else _STATEMENT,
        "init_command": (
            f"SET time_zone='+00:00', innodb_lock_wait_timeout={_LOCK}, sql_mode=CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')"
            # A process that stands still in a transaction must not hold its rows for ever; MySQL has no such setting.
            f" /*M!100300 , idle_transaction_timeout={_IDLE} */"
        ),
    }


def _open_sqlite(connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: _begin_sqlite decides which kind.
    connection.isolation_level = None
    # synchronous=FULL: a commit that we report has reached the disk.
    # A checkpoint stops the writer that runs into it, so it comes every 32 MB instead of every 4; the cache is in KiB.
    for pragma in (
        f"busy_timeout={_LOCK * 1000}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=8000",
        "cache_size=-16384",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that begins by reading and then writes can fail at once; IMMEDIATE waits for its turn instead.
    read_only = connection.get_execution_options().get("vodsync_read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
