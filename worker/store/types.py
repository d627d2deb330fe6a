"""How our values look on each database."""

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
    """An aware UTC time with microseconds; TIMESTAMPTZ on PostgreSQL, DATETIME(6) in UTC elsewhere."""

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
        # On the receiver's path each notification has four times; SQLAlchemy's way to SQLite's text costs six times this one.
        return _sqlite_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal with six places below 10^12.

    SQLite has no decimals: it keeps a number with 15 exact digits, which six places of any duration below thirty years need.
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
    """The decimal that SQLite gives back for `value`."""
    return None if value is None else Decimal(repr(float(value)))


#: Text of any length and alphabet; MySQL's TEXT ends at 64 KiB, and one long description must not sink a batch.
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")

#: JSON that SQL can look into; Python's None is SQL's NULL.
Json = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

SourceName = String(64)

#: Twice an id's length leaves room for the prefix that marks a reference id.
MediaId = String(2 * ID_LENGTH)

JobId = String(JOB_ID_LENGTH)
