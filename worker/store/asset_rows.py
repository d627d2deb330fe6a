"""Select the rows of media assets: the conditions and columns that all tables with the key source, media_id share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, bindparam


def is_asset(table: Table) -> ColumnElement[bool]:
    """Return the condition that a row belongs to one asset; its parameters come from `asset_key`."""
    return and_(table.c.source == bindparam("key_source"), table.c.media_id == bindparam("key_media_id"))


def asset_key(source: str, media_id: str) -> dict[str, Any]:
    """Return the parameters of `is_asset`."""
    return {"key_source": source, "key_media_id": media_id}


def is_any_asset(table: Table) -> ColumnElement[bool]:
    """Return the condition that a row belongs to one of several assets; its parameters come from `asset_keys`."""
    return and_(table.c.source == bindparam("key_source"), table.c.media_id.in_(bindparam("key_media_ids", expanding=True)))


def asset_keys(source: str, media_ids: Collection[str]) -> dict[str, Any]:
    """Return the parameters of `is_any_asset`."""
    return {"key_source": source, "key_media_ids": sorted(media_ids)}


def data_columns(table: Table) -> list[Column[Any]]:
    """Return all columns except source and media_id, in the order of the table."""
    return [column for column in table.columns if column.name not in ("source", "media_id")]
