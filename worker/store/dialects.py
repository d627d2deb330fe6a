"""Where the three databases differ, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Insert, Select, Table, UniqueConstraint, literal_column
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


def upsert(dialect: str, table: Table, assignments: Assignments) -> Insert:
    """INSERT of one row that turns into an UPDATE where its primary or unique key exists."""
    if dialect == "postgresql":
        statement = postgresql.insert(table)
        return statement.on_conflict_do_update(index_elements=_key(table), set_=dict(assignments(table.c, statement.excluded)))
    if dialect == "sqlite":
        lite = sqlite.insert(table)
        return lite.on_conflict_do_update(index_elements=_key(table), set_=dict(assignments(table.c, lite.excluded)))
    other = mysql.insert(table)
    return other.on_duplicate_key_update(assignments(table.c, other.inserted))


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
