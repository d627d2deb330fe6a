"""Is everything that was answered 200 there, and as VOD has it?"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tests.chaos.senders import Ledger
from tests.system.installation import Database, Installation

#: Media whose record is asked for at once; each is some 20 KB.
_PAGE = 200

_STREAMS = {
    "vod_audio_stream": ("stream_index", lambda element: element.get("MezzanineInfo", {}).get("AudioStreamList"), "Index"),
    "vod_video_stream": ("stream_index", lambda element: element.get("MezzanineInfo", {}).get("VideoStreamList"), "Index"),
    "vod_play_info": ("job_id", lambda element: element.get("PlayInfoList"), "JobId"),
}


def due(database: Database) -> int:
    """Requests that nobody has worked off yet; those on which VOD itself is still at work do not count."""
    return int(database.value("SELECT count(*) FROM vod_sync_request WHERE state = 'due' AND waits = 0"))


def dead_letters(database: Database) -> dict[str, str]:
    """Why media were given up on, by their ids."""
    return {
        row["media_id"]: row["last_error"]
        for row in database.rows("SELECT media_id, last_error FROM vod_sync_request WHERE state = 'dead'")
    }


def broken(installation: Installation, ledger: Ledger) -> list[str]:
    """One sentence for everything that was lost or is not as VOD has it; empty where the promise was kept."""
    database = installation.database
    return [*_notifications(database, ledger), *_media(installation, ledger, dead_letters(database))]


def _notifications(database: Database, ledger: Ledger) -> Iterator[str]:
    serials = Counter(json.loads(row["body"])["Serial"] for row in database.rows("SELECT body FROM vod_notification"))
    for serial in sorted(ledger.answered - serials.keys()):
        yield f"notification {serial} was answered 200 and is not in vod_notification"
    for serial, rows in serials.items():
        if rows > 1:
            yield f"notification {serial} is {rows} times in vod_notification"


def _media(installation: Installation, ledger: Ledger, dead: dict[str, str]) -> Iterator[str]:
    database = installation.database
    media = {row["media_id"]: row for row in database.rows("SELECT media_id, state, title FROM vod_media")}
    raw = {row["media_id"]: row["answer"] for row in database.rows("SELECT media_id, answer FROM vod_raw")}
    streams = {table: _keys(database, table, column) for table, (column, _, _) in _STREAMS.items()}
    promised = sorted(media_id for media_id, told in ledger.media.items() if told.answered and media_id not in dead)
    for media_id, element in _record(installation, promised):
        row = media.get(media_id)
        if row is None or row["state"] != "ok":
            yield f"{media_id} was told of and its row is {row}"
        elif ledger.media[media_id].current:
            shown = (element["MediaInfo"].get("Title") or "").strip() or None
            if row["title"] != shown:
                yield f"{media_id} has the title {row['title']!r} and not {shown!r}"
            if _as_json(raw[media_id]) != element:
                yield f"{media_id} is not stored as the emulator has it: {_as_json(raw[media_id])} and not {element}"
            for table, (_, listed, key) in _STREAMS.items():
                expected = {str(stream[key]) for stream in listed(element) or []}
                if streams[table][media_id] != expected:
                    yield f"{media_id} has in {table} {sorted(streams[table][media_id])} and not {sorted(expected)}"


def _keys(database: Database, table: str, column: str) -> dict[str, set[str]]:
    keys: dict[str, set[str]] = defaultdict(set)
    for row in database.rows(f"SELECT media_id, {column} AS name FROM {table}"):
        keys[row["media_id"]].add(row["name"])
    return keys


def _record(installation: Installation, media_ids: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for first in range(0, len(media_ids), _PAGE):
        answer = installation.emulator.post("/record", json=media_ids[first : first + _PAGE]).raise_for_status()
        yield from answer.json()["media"].items()


def _as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
