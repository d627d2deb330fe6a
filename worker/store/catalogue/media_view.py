"""One medium whole, as it stands in the database or in VOD's answer: for people and programs that ask for it by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Table, select

from worker.core import lenient_json
from worker.core.media import Media
from worker.store import tables
from worker.store.catalogue.assets import MEDIA_FIELDS

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
    record["video_info"] = _one(connection, tables.video_info, source, media_id, whole=False)
    record["sync_request"] = request
    record["notifications"] = history
    return record


@dataclass(frozen=True, slots=True)
class Difference:
    """One field, or a whole row where only one side has it (`video_streams[0]`)."""

    field: str
    stored: Any
    at_vod: Any


def answered(media: Media) -> dict[str, Any]:
    """The record that `media` would become, as far as VOD says it; keys and values are those of `find`."""
    record: dict[str, Any] = {name: getattr(media, name) for name in MEDIA_FIELDS}
    record |= {name: None if (said := getattr(media, name)) is None else list(said) for name in ("tags", "snapshots")}
    record["mezzanine"] = None if media.mezzanine is None else _row(tables.mezzanine, media.mezzanine)
    for name, (table, _) in _CHILDREN.items():
        record[name] = [_row(table, child) for child in getattr(media, name)]
    return record


def differences(record: Mapping[str, Any], said: Mapping[str, Any]) -> list[Difference]:
    """Where `record`, as `find` gives it, differs from what VOD `said`, as `answered` gives it. Streams are paired by their key."""
    stored = {name: record.get(name) for name in said}
    return list(_differences(_by_key(stored), _by_key(said)))


def _by_key(record: Mapping[str, Any]) -> dict[str, Any]:
    """Plain fields as they are; a row of another table as a dict under its own name."""
    flat = {name: value for name, value in record.items() if name not in _CHILDREN}
    for name, (_, key) in _CHILDREN.items():
        flat |= {f"{name}[{row[key]}]": row for row in record.get(name) or ()}
    return flat


def _differences(stored: Mapping[str, Any], said: Mapping[str, Any], place: str = "") -> Iterator[Difference]:
    for name in dict.fromkeys([*said, *stored]):
        ours, theirs = stored.get(name), said.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from _differences(ours, theirs, f"{place}{name}.")
        elif not _equal(ours, theirs):
            yield Difference(f"{place}{name}", _said(ours), _said(theirs))


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Decimal) and isinstance(theirs, Decimal):
        # SQLite keeps the digits that a float has.
        return ours == theirs or float(ours) == float(theirs)
    return bool(ours == theirs)


def _said(value: Any) -> Any:
    return {name: inner for name, inner in value.items() if inner is not None} if isinstance(value, dict) else value


def _row(table: Table, value: object) -> dict[str, Any]:
    return {column.name: getattr(value, column.name) for column in _inner(table)}


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
        said = lenient_json.loads(body, constant=str)
    except (ValueError, RecursionError):
        return None
    streams = said.get("StreamInfos") if isinstance(said, dict) else None
    found = []
    for part in [said, *(streams if isinstance(streams, list) else [])]:
        if isinstance(part, dict):
            found.append(" ".join(str(part[name]) for name in ("ErrorCode", "ErrorMessage") if part.get(name)))
    return "; ".join(dict.fromkeys(filter(None, found))) or None
