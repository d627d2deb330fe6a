"""Read everything that is stored of one asset, and compare it with VOD's answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Connection, Table, select

from worker.core import lenient_json
from worker.core.media import Media
from worker.store import tables
from worker.store.asset_rows import asset_key, data_columns, is_asset
from worker.store.catalogue.assets import media_columns
from worker.store.catalogue.parts import PARTS
from worker.store.types import as_sqlite

MAX_HISTORY = 20  # notifications shown as the history of an asset, newest first


def find(connection: Connection, source: str, media_id: str) -> dict[str, Any] | None:
    """Return everything stored of an asset; None if neither a row nor a sync request nor a notification has the id.

    The keys are the columns of vod_media, the names of the parts, `unreadable`, `video_info`, `sync_request` and `notifications`.
    """
    media = _one(connection, tables.media, source, media_id)
    request = _one(connection, tables.sync_request, source, media_id)
    history = _history(connection, source, media_id)
    if media is None and request is None and not history:
        return None
    record: dict[str, Any] = media or {"source": source, "media_id": media_id, "state": None}
    for part in PARTS:
        if part.key is None:
            record[part.name] = _one(connection, part.table, source, media_id, columns=part.columns)
        else:
            record[part.name] = _many(connection, part.table, source, media_id, part.columns, order=part.key)
    raw = _one(connection, tables.raw, source, media_id)
    record["unreadable"] = raw["unreadable"] if raw else []
    record["video_info"] = _one(connection, tables.video_info, source, media_id, columns=data_columns(tables.video_info))
    record["sync_request"] = request
    record["notifications"] = history
    return record


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs, or a whole row that only one side has (`video_streams[0]`)."""

    field: str
    stored: Any
    at_vod: Any


def answered(asset: Media) -> dict[str, Any]:
    """Return the part of `find`'s record that an answer of VOD would store, with the same keys and values."""
    record = media_columns(asset)
    for part in PARTS:
        records = part.records(asset)
        record[part.name] = records if part.key is not None else next(iter(records), None)
    return record


def differences(record: Mapping[str, Any], answer: Mapping[str, Any]) -> list[Difference]:
    """Return how a `record` from `find` differs from an `answer` from `answered`. Rows of parts are paired by their key.

    Only the fields of `answer` are compared.
    """
    stored = {name: record.get(name) for name in answer}
    return list(_differences(_flatten(stored), _flatten(answer)))


def _flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with one entry for each row of a part, named by its key."""
    lists = {part.name: part.key for part in PARTS if part.key is not None}
    flat = {name: value for name, value in record.items() if name not in lists}
    for name, key in lists.items():
        flat |= {f"{name}[{row[key]}]": row for row in record.get(name) or ()}
    return flat


def _differences(stored: Mapping[str, Any], answer: Mapping[str, Any], prefix: str = "") -> Iterator[Difference]:
    for name in dict.fromkeys([*answer, *stored]):
        ours = stored.get(name)
        theirs = answer.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from _differences(ours, theirs, f"{prefix}{name}.")
        elif not _are_equal(ours, theirs):
            yield Difference(f"{prefix}{name}", _without_nulls(ours), _without_nulls(theirs))


def _are_equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Decimal) and isinstance(theirs, Decimal):
        # On every database, a difference that SQLite could not store is no difference.
        return as_sqlite(ours) == as_sqlite(theirs)
    return bool(ours == theirs)


def _without_nulls(value: Any) -> Any:
    return {name: inner for name, inner in value.items() if inner is not None} if isinstance(value, dict) else value


def _one(
    connection: Connection, table: Table, source: str, media_id: str, *, columns: list[Column[Any]] | None = None
) -> dict[str, Any] | None:
    """Return the asset's only row of a table, with all columns or with these."""
    query = select(*(table.columns if columns is None else columns)).where(is_asset(table))
    row = connection.execute(query, asset_key(source, media_id)).one_or_none()
    return None if row is None else dict(row._mapping)


def _many(
    connection: Connection, table: Table, source: str, media_id: str, columns: list[Column[Any]], *, order: str
) -> list[dict[str, Any]]:
    query = select(*columns).where(is_asset(table)).order_by(table.c[order])
    return [dict(row._mapping) for row in connection.execute(query, asset_key(source, media_id))]


def _history(connection: Connection, source: str, media_id: str) -> list[dict[str, Any]]:
    table = tables.notification
    query = (
        select(table.c.event_type, table.c.event_time, table.c.status, table.c.received_at, table.c.deliveries, table.c.body)
        .where(is_asset(table))
        .order_by(table.c.received_at.desc(), table.c.id.desc())
        .limit(MAX_HISTORY)
    )
    rows = [dict(row._mapping) for row in connection.execute(query, asset_key(source, media_id))]
    return [row | {"error": _error(row.pop("body")) if row["status"] == "fail" else None} for row in rows]


def _error(body: str) -> str | None:
    """Return the code and message of a failed event, from the body itself or from its streams (vod-protocol 2.5)."""
    try:
        event = lenient_json.loads(body, constant=str)
    except (ValueError, RecursionError):
        return None
    streams = event.get("StreamInfos") if isinstance(event, dict) else None
    errors = []
    for part in [event, *(streams if isinstance(streams, list) else [])]:
        if isinstance(part, dict):
            errors.append(" ".join(str(part[name]) for name in ("ErrorCode", "ErrorMessage") if part.get(name)))
    return "; ".join(dict.fromkeys(filter(None, errors))) or None
