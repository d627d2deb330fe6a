"""Pin the settings of a database session that vodsync depends on, merge the user's, and refuse a database that cannot be used.

PostgreSQL: one statement after connecting pins the settings. Through a pooler, such as PgBouncer, a session may belong to other
clients as well, so each transaction pins them for itself. A pooler drops the startup parameter `options`, or refuses it. That is
how it is recognised: the session lacks the marker that we send there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from worker.core.errors import ConfigurationError, UnsuitableDatabaseError

#: Settings of PostgreSQL that change what our statements mean or return. ALTER DATABASE and ALTER ROLE may set others.
_POSTGRESQL = {
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "3",
    "intervalstyle": "postgres",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "timezone": "UTC",
    "transform_null_equals": "off",
    # A generic plan that was made while the tables were empty would be used for ever.
    "plan_cache_mode": "force_custom_plan",
}

#: A notification is answered with 200 because its commit survives a crash. Which standbys a commit waits for stays as it is.
_SYNCHRONOUS_COMMIT = "COALESCE(NULLIF(current_setting('synchronous_commit'), 'off'), 'on')"

#: Settings of MariaDB and MySQL, for the same reason. `SET NAMES utf8mb4` is sent by the driver.
_MYSQL = (
    "time_zone='+00:00', sql_mode='STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', sql_safe_updates=0, "
    "sql_auto_is_null=0, sql_select_limit=DEFAULT, sql_big_selects=1, unique_checks=1, foreign_key_checks=1, completion_type=0"
)

#: A setting that only a direct connection has. PostgreSQL accepts any name with a dot.
_MARKER = "vodsync.direct"

#: In `info` of a connection whose settings are pinned until it is closed.
_PINNED = "vodsync_pinned"

#: What PgBouncer and RDS Proxy answer to the startup parameter `options`.
_OPTIONS_REFUSED = re.compile(r"unsupported startup parameter|command-line options", re.IGNORECASE)

#: How libpq and PostgreSQL refuse a value in the URL, in PGOPTIONS and the like.
_INVALID_VALUE = re.compile(
    r"invalid (\w+ )?value\b|invalid port|invalid value for parameter|unrecognized configuration parameter|"
    r"could not match \d+|invalid connection option|bad value for|weak sslmode"
)

#: Syntax error, unknown variable, wrong value and wrong type in the user's init_command; unknown character set, unknown collation.
_REFUSED_BY_MYSQL = {1064, 1115, 1193, 1231, 1232, 1253, 1273}

#: How our tables store texts, as the migrations create them.
_COLLATION = "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"

Connect = Callable[..., Any]


class PostgresqlSessions:
    """Open connections to PostgreSQL, directly or through a pooler, with `settings` and the user's `-c name=value`."""

    def __init__(self, settings: Mapping[str, str], user_options: str) -> None:
        users_settings = parse_options(user_options)
        self._require_one_search_path(settings.get("search_path"), users_settings.get("search_path"))
        ours = _POSTGRESQL | dict(settings)
        self._options = f"{user_options} -c {_MARKER}=on".strip()
        self._are_options_refused = False
        # Through a pooler, whose next client must not get them, these settings end with this statement.
        marker = f"current_setting('{_MARKER}', true)"
        checked = f"{marker}, current_setting('server_encoding'), current_setting('session_replication_role')"
        self._pin_session = f"{_pinning(ours, f'{marker} IS NULL')}, {checked}"
        self._pin_transaction = _pinning(users_settings | ours, "true")

    @staticmethod
    def _require_one_search_path(schema: str | None, search_path: str | None) -> None:
        if schema and search_path and search_path.split(",")[0].strip().strip('"') != schema:
            raise ConfigurationError(
                f"VODSYNC_DATABASE_SCHEMA is {schema}, but the options in VODSYNC_DATABASE_URL or PGOPTIONS set another "
                "search_path; remove one of the two"
            )

    def connect(self, connect: Connect, parameters: dict[str, Any], info: dict[str, Any]) -> Any:
        """Return a new connection. Raises UnsuitableDatabaseError, and the driver's errors."""
        connection = self._open(connect, parameters)
        try:
            connection.autocommit = True
            *_, marker, encoding, role = connection.execute(self._pin_session, prepare=False).fetchone()
            connection.autocommit = False
            _check_encoding(encoding)
            if role != "origin":
                raise UnsuitableDatabaseError(
                    f"the database user has session_replication_role={role}, which disables constraints; "
                    "run: ALTER ROLE … RESET session_replication_role"
                )
        except BaseException:
            connection.close()
            raise
        info[_PINNED] = marker is not None
        if marker is None:
            # A statement that was prepared here may not exist in the next transaction, or be that of another client.
            connection.prepare_threshold = None
        return connection

    def _open(self, connect: Connect, parameters: dict[str, Any]) -> Any:
        import psycopg

        without_options = parameters | {"options": ""}
        try:
            if self._are_options_refused:
                return connect(**without_options)
            try:
                return connect(**parameters | {"options": self._options})
            except psycopg.OperationalError as error:
                if not _OPTIONS_REFUSED.search(str(error)):
                    raise
            connection = connect(**without_options)
            self._are_options_refused = True
            return connection
        except psycopg.Error as error:
            if _INVALID_VALUE.search(str(error)):
                raise UnsuitableDatabaseError(_refused_values(error)) from None
            raise

    def begin(self, connection: Connection) -> None:
        """Pin the settings for this transaction, unless they are pinned for the whole session."""
        if not connection.info.get(_PINNED):
            connection.exec_driver_sql(self._pin_transaction)


def is_pooled(connection: Connection) -> bool:
    """Return whether the connection leads to PostgreSQL through a pooler. Only known with psycopg."""
    return connection.info.get(_PINNED) is False


def user_options(url: URL) -> str:
    """Return the startup options of the URL or, as libpq does, those of PGOPTIONS."""
    given = url.query.get("options")
    if given is not None:
        return given if isinstance(given, str) else " ".join(given)
    import psycopg

    defaults = {option.keyword: option.val for option in psycopg.pq.Conninfo.get_defaults()}
    return (defaults[b"options"] or b"").decode()


def parse_options(text: str) -> dict[str, str]:
    """Return the settings in PostgreSQL's startup options, `-c name=value` or `--name=value`. Raises ConfigurationError."""
    # A backslash escapes a blank and itself.
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", text)]
    settings = {}
    while words:
        word = words.pop(0)
        assignment = words.pop(0) if word == "-c" and words else re.sub(r"^(--|-c)", "", word)
        name, equals, value = assignment.partition("=")
        if not equals or word[:2] not in ("-c", "--") or not re.fullmatch(r"[\w.-]+", name):
            raise ConfigurationError(
                f"the options in VODSYNC_DATABASE_URL or PGOPTIONS contain {word}; write each setting as -c name=value, "
                "in the URL as options=-c%20name%3Dvalue"
            )
        settings[name.replace("-", "_").lower()] = value
    return settings


def _pinning(settings: Mapping[str, str], is_local: str) -> str:
    """Return the query that applies `settings`, for the transaction if `is_local` is true in SQL, else for the session."""
    values = {name: _literal(value) for name, value in settings.items()} | {"synchronous_commit": _SYNCHRONOUS_COMMIT}
    return "SELECT " + ", ".join(f"set_config({_literal(name)}, {value}, {is_local})" for name, value in values.items())


def _literal(value: str) -> str:
    # E'' means the same whatever standard_conforming_strings is. SQLAlchemy passes parameters to the driver, so % is doubled there.
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("%", "%%")
    return f"E'{escaped}'"


def _check_encoding(encoding: str) -> None:
    if encoding == "UTF8":
        return
    raise UnsuitableDatabaseError(
        f"the PostgreSQL database has the encoding {encoding}, which cannot store every title; create one with "
        "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in VODSYNC_DATABASE_URL"
    )


def _refused_values(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    reason = lines[0].rpartition("FATAL:  ")[2].removeprefix("connection failed: ")
    return f"the database connection cannot be opened: {reason}; correct VODSYNC_DATABASE_URL, or PGOPTIONS and the like"


#: The schema in which tables would be created, and whether any schema of search_path exists.
_EFFECTIVE_SCHEMA = sa.text(
    "SELECT current_schema(), EXISTS (SELECT FROM pg_namespace WHERE nspname = "
    "ANY (string_to_array(translate(current_setting('search_path'), ' \"', ''), ',')))"
)


def require_schema(connection: Connection, schema: str | None) -> None:
    """Raises UnsuitableDatabaseError if new tables would be created in another schema than `schema`, or if there is none.

    If the role may not use the schema, PostgreSQL refuses to create a table.
    """
    if connection.dialect.name != "postgresql":
        return
    effective, exists = connection.execute(_EFFECTIVE_SCHEMA).one()
    if schema and effective not in (schema, None):
        raise UnsuitableDatabaseError(
            f"new tables would be in the schema {effective}, but VODSYNC_DATABASE_SCHEMA is {schema}; check that nothing between "
            "vodsync and PostgreSQL changes search_path"
        )
    if not exists and effective is None:
        raise UnsuitableDatabaseError(
            "no schema of search_path exists in the PostgreSQL database; create it, or set VODSYNC_DATABASE_SCHEMA"
        )


def connect_mysql(connect: Connect, parameters: dict[str, Any], settings: str) -> Any:
    """Return a new connection to MariaDB or MySQL, with what we depend on and `settings` set last.

    Everything else is as the server's init_connect and the user's init_command left it. Raises UnsuitableDatabaseError, and the
    driver's errors.
    """
    import pymysql

    try:
        connection = connect(**parameters)
    except pymysql.MySQLError as error:
        if error.args and error.args[0] in _REFUSED_BY_MYSQL:
            raise UnsuitableDatabaseError(
                f"the database refuses a parameter of VODSYNC_DATABASE_URL, such as init_command: {error.args[-1]}; correct it"
            ) from None
        raise
    except (OSError, ValueError, TypeError, LookupError) as error:
        # The driver reads its arguments, for example the file of a certificate, before it connects.
        raise UnsuitableDatabaseError(
            f"VODSYNC_DATABASE_URL has a parameter that cannot be used: {str(error) or type(error).__name__}; correct or remove it"
        ) from None
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET {_MYSQL}, {settings}")
    except BaseException:
        with suppress(pymysql.MySQLError):
            connection.close()
        raise
    return connection


#: Those of our tables that cannot store every text, that compare ids without regard to case, or that have no transactions.
_UNSUITABLE_TABLES = sa.text(
    "SELECT t.table_name, t.engine, MIN(c.collation_name) FROM information_schema.tables t "
    "LEFT JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name "
    "AND c.collation_name <> 'utf8mb4_bin' "
    "WHERE t.table_schema = DATABASE() AND t.table_name IN :names AND (c.column_name IS NOT NULL OR t.engine <> 'InnoDB') "
    "GROUP BY t.table_name, t.engine ORDER BY t.table_name"
).bindparams(sa.bindparam("names", expanding=True))


def check_tables(connection: Connection, names: Iterable[str]) -> None:
    """Raises UnsuitableDatabaseError if one of our tables in MariaDB or MySQL has another collation or engine than we gave it."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return
    table = connection.execute(_UNSUITABLE_TABLES, {"names": list(names)}).first()
    if table is None:
        return
    name, engine, collation = table
    if collation is not None:
        problem, remedy = f"the collation {collation}, with which texts are lost or mixed up", _COLLATION
    else:
        problem, remedy = f"the engine {engine}, which has no transactions", "ENGINE=InnoDB"
    raise UnsuitableDatabaseError(f"the table {name} has {problem}; stop vodsync and run: ALTER TABLE {name} {remedy}")
