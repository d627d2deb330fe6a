"""Where the three databases differ, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    CursorResult,
    Insert,
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
    """INSERT of many rows, each turning into an UPDATE where the table's unique key exists."""

    def __init__(self, table: Table, columns: Sequence[str], assignments: Assignments, *, returning: Sequence[str] = ()) -> None:
        self._table = table
        self._columns = columns
        self._assignments = assignments
        self._returning = returning
        self._statements: dict[str, Insert] = {}

    def execute(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> CursorResult[Any]:
        """Each row has all `columns`, and no two the same key. PostgreSQL's result holds the stored rows' `returning` columns."""
        dialect = connection.dialect.name
        statement = self._statements.get(dialect)
        if statement is None:
            statement = self._statements[dialect] = self._build(dialect)
        if dialect == "postgresql":
            return connection.execute(statement, {"rows": msgspec.json.encode(rows).decode()})
        return connection.execute(statement, rows)

    def _build(self, dialect: str) -> Insert:
        table = self._table
        if dialect == "postgresql":
            # One statement for all rows, which travel as JSON: row by row the round trips cost four times the work, and the
            # driver's arrays escape texts in Python.
            columns = (column(name, table.c[name].type) for name in self._columns)
            rows = cast(bindparam("rows", type_=String), postgresql.JSON)
            incoming = func.json_to_recordset(rows).table_valued(*columns).render_derived(with_types=True)
            many = postgresql.insert(table).from_select(list(self._columns), select(incoming))
            many = many.on_conflict_do_update(index_elements=_key(table), set_=dict(self._assignments(table.c, many.excluded)))
            return many.returning(*(table.c[name] for name in self._returning)) if self._returning else many
        if dialect == "sqlite":
            lite = sqlite.insert(table)
            return lite.on_conflict_do_update(index_elements=_key(table), set_=dict(self._assignments(table.c, lite.excluded)))
        other = mysql.insert(table)
        return other.on_duplicate_key_update(self._assignments(table.c, other.inserted))


def _key(table: Table) -> list[str]:
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            return [column.name for column in constraint.columns]
    return [column.name for column in table.primary_key.columns]


def in_index_order(statement: Select[Any], table: Table, index: str) -> Select[Any]:
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
