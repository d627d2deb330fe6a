"""One medium whole, as it stands in the database: for people and programs that ask for it by id."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, select

from worker.core import lenient
from worker.store import tables

#: Notifications shown as a medium's history, newest first.
_HISTORY = 20

_CHILDREN = {
    "audio_streams": (tables.audio_stream, "stream_index"),
    "video_streams": (tables.video_stream, "stream_index"),
    "play_infos": (tables.play_info, "job_id"),
}


def find(connection: Connection, source: str, media_id: str) -> dict[str, Any] | None:
    """Everything stored of a medium: its columns, `mezzanine`, streams, what was unreadable, what is due, and its notifications.

    None where neither a row nor a sync request nor a notification knows the id.
    """
    media = _one(connection, tables.media, source, media_id)
    request = _one(connection, tables.sync_request, source, media_id)
    history = _history(connection, source, media_id)
    if media is None and request is None and not history:
        return None
    record: dict[str, Any] = media or {"source": source, "media_id": media_id, "state": None}
    record["mezzanine"] = _one(connection, tables.mezzanine, source, media_id, whole=False)
    for name, (table, order) in _CHILDREN.items():
        record[name] = _many(connection, table, source, media_id, order)
    raw = _one(connection, tables.raw, source, media_id)
    record["unreadable"] = raw["unreadable"] if raw else []
    record["sync_request"] = request
    record["notifications"] = history
    return record


def _one(connection: Connection, table: Table, source: str, media_id: str, *, whole: bool = True) -> dict[str, Any] | None:
    columns = table.columns if whole else _inner(table)
    row = connection.execute(select(*columns).where(table.c.source == source, table.c.media_id == media_id)).one_or_none()
    return None if row is None else dict(row._mapping)


def _many(connection: Connection, table: Table, source: str, media_id: str, order: str) -> list[dict[str, Any]]:
    query = select(*_inner(table)).where(table.c.source == source, table.c.media_id == media_id).order_by(table.c[order])
    return [dict(row._mapping) for row in connection.execute(query)]


def _inner(table: Table) -> list[Any]:
    return [column for column in table.columns if column.name not in ("source", "media_id")]


def _history(connection: Connection, source: str, media_id: str) -> list[dict[str, Any]]:
    table = tables.notification
    query = (
        select(table.c.event_type, table.c.event_time, table.c.status, table.c.received_at, table.c.deliveries, table.c.body)
        .where(table.c.source == source, table.c.media_id == media_id)
        .order_by(table.c.received_at.desc(), table.c.id.desc())
        .limit(_HISTORY)
    )
    rows = [dict(row._mapping) for row in connection.execute(query)]
    return [row | {"error": _error(row.pop("body")) if row["status"] == "fail" else None} for row in rows]


def _error(body: str) -> str | None:
    """What VOD said of a failure: code and message, of itself or of its parts (vod-protocol 2.5)."""
    try:
        said = lenient.loads(body, constant=str)
    except (ValueError, RecursionError):
        return None
    streams = said.get("StreamInfos") if isinstance(said, dict) else None
    found = []
    for part in [said, *(streams if isinstance(streams, list) else [])]:
        if isinstance(part, dict):
            found.append(" ".join(str(part[name]) for name in ("ErrorCode", "ErrorMessage") if part.get(name)))
    return "; ".join(dict.fromkeys(filter(None, found))) or None
