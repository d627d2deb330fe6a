"""Define the column types, and how each database stores their values."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Numeric, String, Text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

from worker.core.media import ID_LENGTH, JOB_ID_LENGTH


@lru_cache(maxsize=1024)
def _sqlite_text(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time with microseconds: TIMESTAMPTZ on PostgreSQL, DATETIME(6) in UTC on MySQL, text on SQLite."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def bind_processor(self, dialect: Dialect) -> Any:
        # The receiver writes four times per notification, and SQLAlchemy's own conversion to text takes six times as long.
        return _sqlite_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal below 10^12 with six decimal places.

    SQLite has no decimals and stores a float with 15 exact digits. That is enough for six decimal places of a duration in seconds
    below thirty years.
    """

    impl = Numeric(18, 6)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Numeric(18, 6, asdecimal=False))
        return dialect.type_descriptor(Numeric(18, 6))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return float(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return Decimal(repr(value)) if isinstance(value, int | float) else value


def as_sqlite(value: Decimal | None) -> Decimal | None:
    """Return the decimal that SQLite returns for a stored `value`."""
    return None if value is None else Decimal(repr(float(value)))


#: Text of any length and alphabet. MySQL's TEXT ends at 64 KiB, and one long description must not make a batch fail.
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")

#: JSON that SQL can query. Python's None is stored as NULL.
Json = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

SourceName = String(64)

#: Twice the length of an id, to leave space for the prefix that marks a reference id.
MediaId = String(2 * ID_LENGTH)

JobId = String(JOB_ID_LENGTH)
