"""Map the parts of an asset (mezzanine, streams, play infos) to the rows of their tables."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from sqlalchemy import Delete, Insert, Select, Table, delete, insert, select

from worker.core.media import Media
from worker.store import tables
from worker.store.asset_rows import data_columns, is_any_asset
from worker.store.types import ExactDecimal, as_sqlite


class Part:
    """The table of one field of `Media`, which is None, one object, or a tuple of objects.

    The attributes of these objects have the names of the columns. `key` is the column that distinguishes the rows of an asset; None
    if an asset has at most one row.
    """

    def __init__(self, name: str, table: Table, *, key: str | None = None) -> None:
        self.name = name
        self.table = table
        self.key = key
        self.columns = data_columns(table)
        self.insert: Insert = insert(table)
        self.delete: Delete = delete(table).where(is_any_asset(table))
        self.select: Select[Any] = select(table.c.media_id, *self.columns)
        self._names = tuple(column.name for column in self.columns)
        self._row_names = ("source", "media_id", *self._names)
        self._values = attrgetter(*self._names)
        self._decimals = [index for index, column in enumerate(self.columns) if isinstance(column.type, ExactDecimal)]

    def rows(self, source: str, assets: Iterable[Media]) -> list[dict[str, Any]]:
        """Return the rows of these assets, ready for `insert`."""
        return [
            dict(zip(self._row_names, (source, asset.media_id, *self._values(item)), strict=True))
            for asset in assets
            for item in self._items(asset)
        ]

    def records(self, asset: Media) -> list[dict[str, Any]]:
        """Return the rows of an asset without its key."""
        return [dict(zip(self._names, self._values(item), strict=True)) for item in self._items(asset)]

    def stored_values(self, asset: Media, dialect: str) -> list[tuple[Any, ...]]:
        """Return the values of `columns` as the database returns them after a write, a tuple per row."""
        values = [self._values(item) for item in self._items(asset)]
        return [self._as_sqlite(row) for row in values] if dialect == "sqlite" else values

    def _items(self, asset: Media) -> tuple[object, ...]:
        value = getattr(asset, self.name)
        if value is None:
            return ()
        return value if isinstance(value, tuple) else (value,)

    def _as_sqlite(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for index in self._decimals:
            values[index] = as_sqlite(values[index])
        return tuple(values)


#: Everything that an asset consists of, beside its row in vod_media and VOD's answer in vod_raw.
PARTS = (
    Part("mezzanine", tables.mezzanine),
    Part("audio_streams", tables.audio_stream, key="stream_index"),
    Part("video_streams", tables.video_stream, key="stream_index"),
    Part("play_infos", tables.play_info, key="job_id"),
)
