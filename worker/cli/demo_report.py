"""Compare the emulator's library with the database, and print the table at the end of a demo."""

from __future__ import annotations

from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy import func, select

from worker.cli.table import Table, shorten
from worker.store import Store
from worker.store.tables import audio_stream, media, mezzanine, play_info, sync_request, video_stream

SAMPLE_SIZE = 8  # rows of the printed table
MAX_TITLE_WIDTH = 16  # terminal columns; a long title would leave no room for the other columns

#: An asset as the emulator returns it. Any: JSON.
_Element = dict[str, Any]

#: For each list of an asset: its table, and the column that identifies a row of one asset.
_STREAM_TABLES = {
    "audio": (audio_stream, "stream_index"),
    "video": (video_stream, "stream_index"),
    "play": (play_info, "job_id"),
}


class Library:
    """The media of the emulator, and what is stored of them."""

    def __init__(self, store: Store, api: httpx.Client) -> None:
        self._store = store
        self._api = api

    def stored_count(self) -> int:
        """Return how many media are stored and final."""
        with self._store.reading() as connection:
            stored = select(func.count()).where(media.c.state == "ok", media.c.status == "Normal")
            return int(connection.execute(stored).scalar_one())

    def is_idle(self) -> bool:
        """Return True if no notification and no first fetch is pending."""
        if self._api.get("/emulator/deliveries").json()["pending"]:
            return False
        with self._store.reading() as connection:
            pending = select(func.count()).where(sync_request.c.waits == 0)
            return not connection.execute(pending).scalar_one()

    def incomplete(self, media_ids: list[str]) -> list[str]:
        """Return the ids whose title or streams differ from those in the emulator."""
        elements = self._api.post("/emulator/record", json=media_ids).raise_for_status().json()["media"]
        with self._store.reading() as connection:
            streams = {name: _stored_keys(connection, rows, key) for name, (rows, key) in _STREAM_TABLES.items()}
            titles = {row.media_id: row.title for row in connection.execute(select(media.c.media_id, media.c.title))}
        return [
            media_id
            for media_id in media_ids
            if titles.get(media_id) != _title(elements[media_id])
            or any(streams[name].get(media_id, set()) != keys for name, keys in _sent_keys(elements[media_id]).items())
        ]


def _title(element: _Element) -> str | None:
    return (element["MediaInfo"].get("Title") or "").strip() or None


def _sent_keys(element: _Element) -> dict[str, set[str]]:
    source_file = element.get("MezzanineInfo") or {}
    return {
        "audio": {str(stream["Index"]) for stream in source_file.get("AudioStreamList") or []},
        "video": {str(stream["Index"]) for stream in source_file.get("VideoStreamList") or []},
        "play": {info["JobId"] for info in element.get("PlayInfoList") or []},
    }


def _stored_keys(connection: sa.Connection, streams: sa.Table, key: str) -> dict[str, set[str]]:
    keys: dict[str, set[str]] = {}
    for media_id, value in connection.execute(select(streams.c.media_id, streams.c[key])):
        keys.setdefault(media_id, set()).add(value)
    return keys


def print_report(store: Store, api: httpx.Client) -> None:
    """Print some of the stored media, the number of rows, and how many calls to VOD they took."""
    calls = api.get("/emulator/calls").json()["BatchGetMediaInfos"]
    deliveries = api.get("/emulator/deliveries").json()
    title = "Some of the media, read from the database"
    sample = Table("title", "codec", "size", "fps", "seconds", "audio", "play", title=title)
    with store.reading() as connection:
        for media_title, *values in connection.execute(_SAMPLE):
            sample.add(media_title and shorten(media_title, MAX_TITLE_WIDTH), *values)
        counts = [
            connection.execute(select(func.count()).select_from(rows)).scalar_one()
            for rows in (media, video_stream, audio_stream, play_info)
        ]
    sample.print()
    print(f"{counts[0]} media, {counts[1]} video streams, {counts[2]} audio streams, {counts[3]} play streams")
    print(
        f"{deliveries['delivered']} notifications delivered, {calls['calls']} calls to BatchGetMediaInfos "
        f"for {calls['media_ids']} media ids, at most {calls['largest_batch']} per call"
    )


def _rows_of_asset(streams: sa.Table) -> sa.ScalarSelect[int]:
    same_asset = (streams.c.source == media.c.source) & (streams.c.media_id == media.c.media_id)
    return select(func.count()).select_from(streams).where(same_asset).scalar_subquery()


_SAMPLE = (
    select(
        media.c.title,
        video_stream.c.codec_name,
        video_stream.c.width.concat("x").concat(video_stream.c.height),
        video_stream.c.fps,
        mezzanine.c.duration,
        _rows_of_asset(audio_stream),
        _rows_of_asset(play_info),
    )
    .join(mezzanine, (mezzanine.c.source == media.c.source) & (mezzanine.c.media_id == media.c.media_id))
    .outerjoin(video_stream, (video_stream.c.source == media.c.source) & (video_stream.c.media_id == media.c.media_id))
    .order_by(media.c.created_at, media.c.media_id)
    .limit(SAMPLE_SIZE)
)
