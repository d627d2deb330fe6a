"""Compare parsed assets with the columns that store them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Boolean, Connection, Integer, String, Table, select
from sqlalchemy.sql.type_api import TypeEngine

from tests.fuzz.notification_rules import is_storable
from worker.core.media import Media
from worker.store import tables
from worker.store.types import ExactDecimal, Json, UtcDateTime

#: Columns that do not come from VOD's answer.
_OUR_COLUMNS = {
    *("source", "state", "first_seen_at", "observed_at", "changed_at", "deleted_at", "content_hash", "audit_status", "region_id"),
}


class StoredAsset(NamedTuple):
    """What the tables contain of an asset: the answer in vod_media, and the answer in all other tables."""

    details: Media
    parts: Media


def expected_asset(history: Sequence[Media]) -> StoredAsset:
    """Return what is stored after these answers about one asset.

    An answer without MediaInfo keeps the stored one. An answer without an analysis keeps that of an analysed file.
    """
    details = parts = history[0]
    for media in history[1:]:
        if media.has_details:
            details = media
        is_partial = not media.is_analysed and not media.is_source_file_deleted
        if not media.is_empty and not (is_partial and parts.is_analysed):
            parts = media
    return StoredAsset(details, parts)


def parts(media: Media) -> list[tuple[Table, list[object]]]:
    """Return each table of an asset with the objects that are its rows."""
    return [
        (tables.media, [media]),
        (tables.mezzanine, [media.mezzanine] if media.mezzanine else []),
        (tables.audio_stream, [*media.audio_streams]),
        (tables.video_stream, [*media.video_streams]),
        (tables.play_info, [*media.play_infos]),
    ]


def misfits(media: Media) -> list[str]:
    """Return the columns that cannot store their value, with the value."""
    return [
        f"{table.name}.{column.name}: {str(value)[:60]!r}"
        for table, items in parts(media)
        for item in items
        for column in table.columns
        if (value := getattr(item, column.name, None)) is not None and not _fits(column.type, value)
    ]


def _fits(column_type: TypeEngine[Any], value: Any) -> bool:
    if isinstance(column_type, ExactDecimal):
        return isinstance(value, Decimal) and abs(value) < 10**12 and value.as_tuple().exponent == -6
    if isinstance(column_type, UtcDateTime):
        return isinstance(value, datetime) and value.utcoffset() == timedelta(0) and value.year >= 1000
    if isinstance(column_type, Boolean):
        return isinstance(value, bool)
    if isinstance(column_type, Integer):
        bits = 63 if isinstance(column_type, BigInteger) else 31
        return type(value) is int and -(2**bits) <= value < 2**bits
    if column_type is Json:
        return isinstance(value, tuple) and all(isinstance(part, str) and is_storable(part) for part in value)
    assert isinstance(column_type, String)
    return isinstance(value, str) and is_storable(value) and len(value) <= (column_type.length or math.inf)


def differing_tables(connection: Connection, source: str, stored: StoredAsset) -> list[str]:
    """Return the names of the tables whose rows differ from those of `stored`."""
    differing = []
    expected: list[tuple[Table, list[object]]] = [(tables.media, [stored.details]), *parts(stored.parts)[1:]]
    for table, items in expected:
        rows = connection.execute(select(table).where(table.c.source == source, table.c.media_id == stored.details.media_id)).all()
        names = [column.name for column in table.columns if column.name not in _OUR_COLUMNS]
        if table is not tables.media:
            names.remove("media_id")
        if Counter(_values(row, names) for row in rows) != Counter(_values(item, names) for item in items):
            differing.append(table.name)
    return differing


def _values(item: object, names: list[str]) -> tuple[Any, ...]:
    return tuple(_comparable(getattr(item, name)) for name in names)


def _comparable(value: Any) -> Any:
    # SQLite keeps 15 digits of a decimal.
    if isinstance(value, Decimal):
        return f"{float(value):.12g}"
    return tuple(value) if isinstance(value, list) else value
