"""Hide the differences between PostgreSQL, MariaDB / MySQL and SQLite: clock, upsert, index hints, retryable errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Insert,
    Row,
    Select,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

#: The assignments of an upsert: a function of the stored and the new columns that returns the value of each changed column.
#: MySQL evaluates them from left to right and reads assigned values, so a column comes after the columns that read its old value.
Assignments = Callable[[Any, Any], list[tuple[str, Any]]]

_CLOCKS = {
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "sqlite": "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000",
}
_MYSQL_CLOCK = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"

#: MariaDB and MySQL: deadlock, lock wait timeout, record changed since last read, and duplicate key: another process inserted it
#: first. PostgreSQL: serialization_failure, deadlock_detected, lock_not_available, unique_violation
_RETRYABLE = {1213, 1205, 1020, 1062, "40001", "40P01", "55P03", "23505"}


def clock(dialect: str) -> ColumnElement[int]:
    """Return the expression for the database's clock, in microseconds since 1970 UTC."""
    return literal_column(_CLOCKS.get(dialect, _MYSQL_CLOCK), BigInteger())


class Upsert:
    """INSERT many rows, and UPDATE those whose unique key exists.

    One statement per row would cost more for the round trips to PostgreSQL, and for releasing Python's global lock around SQLite,
    than for the work itself. So on these two, one statement has all rows. PyMySQL combines the rows by itself.
    """

    def __init__(self, table: Table, columns: Sequence[str], assignments: Assignments, *, returning: Sequence[str] = ()) -> None:
        self._table = table
        # In the order of the table, in which SQLAlchemy renders them.
        self._columns = [column.name for column in table.columns if column.name in columns]
        self._assignments = assignments
        self._returning = returning
        self._statement = cache(self._build)
        self._sqlite_statement = lru_cache(maxsize=128)(self._build_sqlite)

    def execute(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Row[*tuple[Any, ...]]]:
        """Write rows. Each has all `columns`, and no two have the same key.

        Return the `returning` columns of the stored rows on PostgreSQL and SQLite, and nothing on MySQL, which cannot return them.
        """
        if connection.dialect.name == "postgresql":
            result = connection.execute(self._statement("postgresql"), {"rows": msgspec.json.encode(rows).decode()})
            return list(result) if self._returning else []
        if connection.dialect.name == "sqlite":
            starts = range(0, len(rows), SQLITE_MAX_ROWS)
            return [row for start in starts for row in self._execute_sqlite(connection, rows[start : start + SQLITE_MAX_ROWS])]
        connection.execute(self._statement("mysql"), rows)
        return []

    def _execute_sqlite(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Row[*tuple[Any, ...]]]:
        columns = [(name, _binder(self._table.c[name], connection.dialect)) for name in self._columns]
        values = tuple([bind(row[name]) if bind else row[name] for row in rows for name, bind in columns])
        result = connection.exec_driver_sql(self._sqlite_statement(connection.dialect, len(rows)), values)
        return list(result) if self._returning else []

    def _build_sqlite(self, dialect: Dialect, rows: int) -> str:
        statement = str(self._statement("sqlite").compile(dialect=dialect, column_keys=list(self._columns)))
        one_row = f"({', '.join('?' * len(self._columns))})"
        return statement.replace(one_row, ", ".join([one_row] * rows), 1)

    def _build(self, dialect: str) -> Insert:
        table = self._table
        if dialect == "mysql":
            insert = mysql.insert(table)
            return insert.on_duplicate_key_update(self._assignments(table.c, insert.inserted))
        # Any: the two dialects' Insert have no common type with on_conflict_do_update.
        upsert: Any
        if dialect == "postgresql":
            # The rows are sent as JSON, because the driver's arrays escape texts in Python.
            columns = (column(name, table.c[name].type) for name in self._columns)
            rows = cast(bindparam("rows", type_=String), postgresql.JSON)
            incoming = func.json_to_recordset(rows).table_valued(*columns).render_derived(with_types=True)
            upsert = postgresql.insert(table).from_select(list(self._columns), select(incoming))
        else:
            upsert = sqlite.insert(table)
        assignments = dict(self._assignments(table.c, upsert.excluded))
        upsert = upsert.on_conflict_do_update(index_elements=_key(table), set_=assignments)
        result: Insert = upsert.returning(*(table.c[name] for name in self._returning)) if self._returning else upsert
        return result


SQLITE_MAX_ROWS = 500  # rows in one statement; SQLite accepts 32,766 values


@cache
def _binder(target: Column[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return target.type.dialect_impl(dialect).bind_processor(dialect)


def _key(table: Table) -> list[str]:
    """Return the columns of the unique constraint, or else of the primary key."""
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            return [column.name for column in constraint.columns]
    return [column.name for column in table.primary_key.columns]


def force_index(statement: Select[Any], table: Table, index: str) -> Select[Any]:
    """Return the query with a hint that makes MariaDB and MySQL read `index`, even if the table is small enough for a scan."""
    for name in ("mysql", "mariadb"):
        statement = statement.with_hint(table, f"FORCE INDEX ({index})", name)
    return statement


def is_retryable(error: DBAPIError) -> bool:
    """Return whether the same transaction is expected to succeed if repeated: after a deadlock, a lost race, a dead connection."""
    if error.connection_invalidated or error_code(error) in _RETRYABLE:
        return True
    # SQLite
    return isinstance(error, IntegrityError) and "UNIQUE" in str(error.orig)


def is_lock_timeout(error: SQLAlchemyError) -> bool:
    """Return whether a statement of PostgreSQL or MariaDB / MySQL waited in vain for a lock of another session."""
    return error_code(error) in {"55P03", 1205}


def error_code(error: SQLAlchemyError) -> str | int | None:
    """Return MariaDB's or MySQL's error number, or PostgreSQL's SQLSTATE; None if the error has neither."""
    original: Any = getattr(error, "orig", None)
    number = original.args[0] if getattr(original, "args", None) else None
    # PyMySQL's errors have a SQLSTATE too, which is HY000 for most numbers.
    state: str | None = getattr(original, "sqlstate", None)
    return number if isinstance(number, int) else state
