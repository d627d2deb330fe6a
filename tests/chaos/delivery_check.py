"""Check that every notification answered with 200 is stored and that the rows equal the emulator's record."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.chaos.senders import DeliveryRecord
from tests.system.installation import Database, Installation

_PAGE = 200  # assets whose record is fetched at once; each has about 20 KB

_Streams = Callable[[dict[str, Any]], list[dict[str, Any]] | None]

#: For each table of streams: its key column, the list in VOD's answer, and the field with the key.
_STREAMS: dict[str, tuple[str, _Streams, str]] = {
    "vod_audio_stream": ("stream_index", lambda element: element.get("MezzanineInfo", {}).get("AudioStreamList"), "Index"),
    "vod_video_stream": ("stream_index", lambda element: element.get("MezzanineInfo", {}).get("VideoStreamList"), "Index"),
    "vod_play_info": ("job_id", lambda element: element.get("PlayInfoList"), "JobId"),
}


def due(database: Database) -> int:
    """Return the number of open requests. Requests that wait for VOD do not count."""
    return int(database.value("SELECT count(*) FROM vod_sync_request WHERE state = 'due' AND waits = 0"))


def dead_letters(database: Database) -> dict[str, str]:
    """Return the last error of each dead letter by media id."""
    return {
        row["media_id"]: row["last_error"]
        for row in database.rows("SELECT media_id, last_error FROM vod_sync_request WHERE state = 'dead'")
    }


def find_losses(installation: Installation, record: DeliveryRecord) -> list[str]:
    """Return one sentence for each loss and each difference from the emulator's record."""
    database = installation.database
    return [*_lost_notifications(database, record), *_wrong_assets(installation, record, dead_letters(database))]


def _lost_notifications(database: Database, record: DeliveryRecord) -> Iterator[str]:
    serials = Counter(json.loads(row["body"])["Serial"] for row in database.rows("SELECT body FROM vod_notification"))
    for serial in sorted(record.accepted - serials.keys()):
        yield f"notification {serial} was answered 200 and is not in vod_notification"
    for serial, rows in serials.items():
        if rows > 1:
            yield f"notification {serial} is stored {rows} times in vod_notification"


def _wrong_assets(installation: Installation, record: DeliveryRecord, dead: dict[str, str]) -> Iterator[str]:
    database = installation.database
    media = {row["media_id"]: row for row in database.rows("SELECT media_id, state, title FROM vod_media")}
    raw = {row["media_id"]: row["answer"] for row in database.rows("SELECT media_id, answer FROM vod_raw")}
    streams = {table: _keys(database, table, column) for table, (column, _, _) in _STREAMS.items()}
    notified = sorted(media_id for media_id, asset in record.assets.items() if asset.accepted and media_id not in dead)
    for media_id, element in _elements(installation, notified):
        row = media.get(media_id)
        if row is None or row["state"] != "ok":
            yield f"{media_id} had an accepted notification and its row is {row}"
        elif record.assets[media_id].is_current:
            title = (element["MediaInfo"].get("Title") or "").strip() or None
            if row["title"] != title:
                yield f"{media_id} has the title {row['title']!r} and not {title!r}"
            if _as_json(raw[media_id]) != element:
                yield f"{media_id} differs from the emulator's record: {_as_json(raw[media_id])} and not {element}"
            for table, (_, streams_of, key) in _STREAMS.items():
                expected = {str(stream[key]) for stream in streams_of(element) or []}
                if streams[table][media_id] != expected:
                    yield f"{media_id} has in {table} {sorted(streams[table][media_id])} and not {sorted(expected)}"


def _keys(database: Database, table: str, column: str) -> dict[str, set[str]]:
    keys: dict[str, set[str]] = defaultdict(set)
    for row in database.rows(f"SELECT media_id, {column} AS name FROM {table}"):
        keys[row["media_id"]].add(row["name"])
    return keys


def _elements(installation: Installation, media_ids: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for first in range(0, len(media_ids), _PAGE):
        response = installation.emulator.post("/record", json=media_ids[first : first + _PAGE]).raise_for_status()
        yield from response.json()["media"].items()


def _as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
