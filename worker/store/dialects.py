"""Where the three databases differ, once."""

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
from sqlalchemy.exc import DBAPIError, IntegrityError

#: Assignments of an upsert: given the stored and the incoming columns, the new value of each column, in order.
#: MySQL evaluates them from left to right with the values already assigned, so a column comes after those that read it.
Assignments = Callable[[Any, Any], list[tuple[str, Any]]]

_CLOCKS = {
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "sqlite": "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000",
}
_MYSQL_CLOCK = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"

#: Deadlock, lock wait time-out, record changed since last read (MariaDB), and a lost race for a new key.
_MYSQL_RETRY = {1213, 1205, 1020, 1062}
#: serialization_failure, deadlock_detected, lock_not_available, unique_violation
_POSTGRESQL_RETRY = {"40001", "40P01", "55P03", "23505"}


def clock(dialect: str) -> ColumnElement[int]:
    """The database's own clock, in microseconds since 1970 UTC."""
    return literal_column(_CLOCKS.get(dialect, _MYSQL_CLOCK), BigInteger())


class Upsert:
    """INSERT of many rows, each turning into an UPDATE where the table's unique key exists.

    Row by row, the round trips to PostgreSQL and the hand-overs of Python's lock around SQLite cost more than the work itself; so
    there one statement takes all rows. PyMySQL makes one statement of many rows by itself.
    """

    def __init__(self, table: Table, columns: Sequence[str], assignments: Assignments, *, returning: Sequence[str] = ()) -> None:
        self._table = table
        # In the order of the table, in which SQLAlchemy renders them.
        self._columns = [column.name for column in table.columns if column.name in columns]
        self._assignments = assignments
        self._returning = returning
        self._statement = cache(self._build)
        self._flat = lru_cache(maxsize=128)(self._build_flat)

    def execute(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Row[*tuple[Any, ...]]]:
        """Each row has all `columns`, and no two the same key.

        Gives the `returning` columns of the stored rows, on PostgreSQL and SQLite; MySQL cannot tell.
        """
        if connection.dialect.name == "postgresql":
            result = connection.execute(self._statement("postgresql"), {"rows": msgspec.json.encode(rows).decode()})
            return list(result) if self._returning else []
        if connection.dialect.name == "sqlite":
            parts = [rows[start : start + _FLAT] for start in range(0, len(rows), _FLAT)]
            return [row for part in parts for row in self._execute_flat(connection, part)]
        connection.execute(self._statement("mysql"), rows)
        return []

    def _execute_flat(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Row[*tuple[Any, ...]]]:
        columns = [(name, _binder(self._table.c[name], connection.dialect)) for name in self._columns]
        values = tuple([bind(row[name]) if bind else row[name] for row in rows for name, bind in columns])
        result = connection.exec_driver_sql(self._flat(connection.dialect, len(rows)), values)
        return list(result) if self._returning else []

    def _build_flat(self, dialect: Dialect, rows: int) -> str:
        one = str(self._statement("sqlite").compile(dialect=dialect, column_keys=list(self._columns)))
        marks = f"({', '.join('?' * len(self._columns))})"
        return one.replace(marks, ", ".join([marks] * rows), 1)

    def _build(self, dialect: str) -> Insert:
        table = self._table
        if dialect == "mysql":
            other = mysql.insert(table)
            return other.on_duplicate_key_update(self._assignments(table.c, other.inserted))
        many: Any
        if dialect == "postgresql":
            # The rows travel as JSON: the driver's arrays escape texts in Python.
            columns = (column(name, table.c[name].type) for name in self._columns)
            rows = cast(bindparam("rows", type_=String), postgresql.JSON)
            incoming = func.json_to_recordset(rows).table_valued(*columns).render_derived(with_types=True)
            many = postgresql.insert(table).from_select(list(self._columns), select(incoming))
        else:
            many = sqlite.insert(table)
        many = many.on_conflict_do_update(index_elements=_key(table), set_=dict(self._assignments(table.c, many.excluded)))
        return many.returning(*(table.c[name] for name in self._returning)) if self._returning else many  # type: ignore[no-any-return]


#: Rows in one statement on SQLite, which takes 32,766 values.
_FLAT = 500


@cache
def _binder(of: Column[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return of.type.dialect_impl(dialect).bind_processor(dialect)


def _key(table: Table) -> list[str]:
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            return [column.name for column in constraint.columns]
    return [column.name for column in table.primary_key.columns]


def force_index(statement: Select[Any], table: Table, index: str) -> Select[Any]:
    """The same query, reading `index` on MariaDB and MySQL even where the table is small enough for a scan."""
    for name in ("mysql", "mariadb"):
        statement = statement.with_hint(table, f"FORCE INDEX ({index})", name)
    return statement


def worth_repeating(error: DBAPIError) -> bool:
    """True where the same transaction is expected to work when begun again: a deadlock, a lost race, a stale connection."""
    original: Any = error.orig
    if error.connection_invalidated:
        return True
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return state in _POSTGRESQL_RETRY
    if isinstance(error, IntegrityError) and "UNIQUE" in str(original):
        return True
    number = original.args[0] if getattr(original, "args", None) else None
    return number in _MYSQL_RETRY
