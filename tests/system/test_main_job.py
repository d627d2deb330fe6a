"""From VOD's notification to rows with every documented field, on each pair of database and broker."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.data_dictionary import (
    AUDIO_STREAM,
    MEDIA_INFO,
    MEZZANINE_INFO,
    PLAY_INFO,
    VIDEO_STREAM,
    Fields,
    as_json,
    expected,
    stored,
)
from tests.system.installation import Installation, analysed
from tests.system.processes import eventually

UPLOADS = 60


@pytest.fixture(scope="module")
def uploaded(installation: Installation) -> dict[str, dict[str, Any]]:
    """The emulator's record of assets that were uploaded, notified and synced, by id."""
    media_ids = installation.emulator.post("/uploads", json={"count": UPLOADS}).json()["media_ids"]
    installation.wait_until_synced()
    return record(installation, media_ids)


def record(installation: Installation, media_ids: list[str]) -> dict[str, dict[str, Any]]:
    elements: dict[str, dict[str, Any]] = installation.emulator.post("/record", json=media_ids).json()["media"]
    return elements


def test_data_dictionary_has_all_documented_fields() -> None:
    fields = (MEDIA_INFO, MEZZANINE_INFO, AUDIO_STREAM, VIDEO_STREAM, PLAY_INFO)

    assert [len(table) for table in fields] == [20, 14 - 3, 16, 24, 27]


def test_every_field_of_media_info_is_stored_in_its_column(installation: Installation, uploaded: dict[str, Any]) -> None:
    rows = {row["media_id"]: row for row in installation.database.table("vod_media")}

    assert rows.keys() == uploaded.keys()
    assert {media_id: stored(row, MEDIA_INFO) for media_id, row in rows.items()} == {
        media_id: expected(element["MediaInfo"], MEDIA_INFO) for media_id, element in uploaded.items()
    }
    assert {(row["source"], row["state"], row["deleted_at"]) for row in rows.values()} == {("default", "ok", None)}


def test_every_field_of_the_source_file_is_stored_in_its_column(installation: Installation, uploaded: dict[str, Any]) -> None:
    rows = {row["media_id"]: row for row in installation.database.table("vod_mezzanine")}

    assert {media_id: stored(row, MEZZANINE_INFO) for media_id, row in rows.items()} == {
        media_id: expected(element["MezzanineInfo"], MEZZANINE_INFO) for media_id, element in uploaded.items()
    }


@pytest.mark.parametrize(
    ("table", "fields", "streams", "key"),
    [
        ("vod_audio_stream", AUDIO_STREAM, lambda element: element["MezzanineInfo"].get("AudioStreamList"), "Index"),
        ("vod_video_stream", VIDEO_STREAM, lambda element: element["MezzanineInfo"].get("VideoStreamList"), "Index"),
        ("vod_play_info", PLAY_INFO, lambda element: element.get("PlayInfoList"), "JobId"),
    ],
    ids=["audio", "video", "play"],
)
def test_every_field_of_every_stream_is_stored_and_no_other_stream(
    installation: Installation,
    uploaded: dict[str, Any],
    table: str,
    fields: Fields,
    streams: Callable[[dict[str, Any]], list[dict[str, Any]] | None],
    key: str,
) -> None:
    column = fields[key][0]

    rows = {(row["media_id"], row[column]): stored(row, fields) for row in installation.database.table(table)}

    assert rows
    assert rows == {
        (media_id, str(stream[key])): expected(stream, fields)
        for media_id, element in uploaded.items()
        for stream in streams(element) or []
    }


def test_raw_answer_is_stored_without_signatures(installation: Installation, uploaded: dict[str, Any]) -> None:
    rows = {row["media_id"]: row for row in installation.database.table("vod_raw")}

    assert {media_id: as_json(row["answer"]) for media_id, row in rows.items()} == uploaded
    assert {json.dumps(as_json(row["unreadable"])) for row in rows.values()} == {"[]"}


def test_large_numbers_and_all_alphabets_are_stored(installation: Installation, uploaded: dict[str, Any]) -> None:
    sizes = [row["size"] for row in installation.database.table("vod_mezzanine")]
    media = installation.database.table("vod_media")

    assert max(sizes) > 2**31
    assert max(row["cate_id"] or 0 for row in media) == 9_876_543_210
    assert any("👩‍👩‍👧‍👦" in row["title"] for row in media)
    assert any("DROP TABLE" in row["title"] for row in media)


def test_uploads_are_fetched_in_full_calls_without_repeated_ids(installation: Installation, uploaded: dict[str, Any]) -> None:
    calls = installation.calls()

    assert calls["largest_batch"] == 20
    assert (calls["repeated_in_call"], calls["throttled"], calls["errors"]) == (0, 0, 0)


def test_every_notification_is_stored(installation: Installation, uploaded: dict[str, Any]) -> None:
    delivered = installation.emulator.get("/deliveries").json()
    rows = [row for row in installation.database.table("vod_notification") if row["media_id"] in uploaded]

    event_types: dict[str, Counter[str]] = {media_id: Counter() for media_id in uploaded}
    for row in rows:
        event_types[row["media_id"]][row["event_type"]] += 1

    assert (delivered["delivered"], delivered["dropped"], delivered["attempts"]) == (len(rows), 0, len(rows))
    assert {row["deliveries"] for row in rows} == {1}
    assert {(row["source"], row["status"]) for row in rows} == {("default", "success")}
    for media_id, element in uploaded.items():
        streams = len(element.get("PlayInfoList") or [])
        once = dict.fromkeys(("MediaBaseChangeComplete", "FileUploadComplete", "VideoAnalysisComplete"), 1)
        snapshot = {"SnapshotComplete": 1} if element["MediaInfo"].get("CoverURL") else {}
        transcoded = {"StreamTranscodeComplete": streams, "TranscodeComplete": 1} if streams else {}
        assert event_types[media_id] == once | snapshot | transcoded


def test_repeated_notification_changes_only_its_delivery_count(installation: Installation, uploaded: dict[str, Any]) -> None:
    repeated = installation.database.rows("SELECT * FROM vod_notification ORDER BY id")[0]
    query = "SELECT * FROM vod_media WHERE media_id = :id"
    before = installation.database.rows(query, id=repeated["media_id"])
    notification_count = installation.database.count("vod_notification")
    calls = installation.calls()["calls"]

    responses = [installation.notify(repeated["body"].encode()) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 200]
    assert installation.database.rows("SELECT * FROM vod_notification WHERE id = :id", id=repeated["id"]) == [
        repeated | {"deliveries": 3}
    ]
    assert installation.database.count("vod_notification") == notification_count
    assert installation.database.count("vod_sync_request") == 0
    assert installation.database.rows(query, id=repeated["media_id"]) == before
    assert installation.calls()["calls"] == calls


def test_changed_title_updates_the_row(installation: Installation, uploaded: dict[str, Any]) -> None:
    media_id = next(iter(uploaded))
    title = "新标题 🎬 O'Brien"
    before = _media(installation, media_id)

    installation.emulator.post(f"/media/{media_id}/change", json={"Title": title}).raise_for_status()
    eventually(lambda: _media(installation, media_id)["title"] == title, within=10, missing=f"the new title of {media_id}")
    installation.wait_until_synced()

    after = _media(installation, media_id)
    assert after["changed_at"] > before["changed_at"]
    assert after["content_hash"] != before["content_hash"]
    assert after["first_seen_at"] == before["first_seen_at"]
    assert stored(after, MEDIA_INFO) == expected(record(installation, [media_id])[media_id]["MediaInfo"], MEDIA_INFO)


def test_unchanged_answer_updates_only_observed_at(installation: Installation, uploaded: dict[str, Any]) -> None:
    media_id = list(uploaded)[1]
    before = _media(installation, media_id)

    installation.notify(analysed(media_id, Note="equal"))
    eventually(
        lambda: _media(installation, media_id)["observed_at"] != before["observed_at"], within=10, missing=f"a fetch of {media_id}"
    )

    after = _media(installation, media_id)
    assert after["observed_at"] > before["observed_at"]
    assert after == before | {"observed_at": after["observed_at"]}


@pytest.mark.usefixtures("uploaded")
def test_unknown_asset_is_missing_and_forbidden_asset_is_forbidden(installation: Installation) -> None:
    unknown, forbidden = "dead0000000000000000000000000001", "dead0000000000000000000000000002"
    installation.emulator.put("/faults", json={"forbidden": [forbidden]}).raise_for_status()

    for media_id in (unknown, forbidden):
        installation.notify(analysed(media_id))
    installation.wait_until_synced()
    installation.emulator.delete("/faults")

    states = {media_id: _media(installation, media_id)["state"] for media_id in (unknown, forbidden)}
    assert states == {unknown: "missing", forbidden: "forbidden"}


@pytest.mark.usefixtures("uploaded")
def test_damaged_file_is_stored_with_what_vod_knows(installation: Installation) -> None:
    (media_id,) = installation.emulator.post("/uploads", json={"count": 1, "damaged": True}).json()["media_ids"]
    installation.wait_until_synced()

    row = _media(installation, media_id)
    assert stored(row, MEDIA_INFO) == expected(record(installation, [media_id])[media_id]["MediaInfo"], MEDIA_INFO)
    assert installation.database.value(
        "SELECT status FROM vod_notification WHERE media_id = :id AND event_type = 'VideoAnalysisComplete'", id=media_id
    ) == ("fail")
    (analysis,) = (
        event
        for event in json.loads(installation.run("show", media_id, "--json").stdout)["notifications"]
        if event["event_type"] == "VideoAnalysisComplete"
    )
    assert analysis["error"]


@pytest.mark.usefixtures("uploaded")
def test_notifications_without_media_id_are_stored_and_cause_no_fetch(installation: Installation) -> None:
    calls, request_count = installation.calls()["calls"], installation.database.count("vod_sync_request")
    other = {"EventType": "ImageUploadComplete", "EventTime": "2025-11-24T16:00:05Z", "Status": "success", "ImageId": "img-0001"}

    response = installation.notify(other)

    assert (response.status_code, response.text) == (200, "ok")
    assert installation.database.value("SELECT count(*) FROM vod_notification WHERE event_type = 'ImageUploadComplete'") == 1
    assert installation.database.count("vod_sync_request") == request_count
    assert installation.calls()["calls"] == calls


def _media(installation: Installation, media_id: str) -> dict[str, Any]:
    rows = installation.database.rows("SELECT * FROM vod_media WHERE media_id = :id", id=media_id)
    return rows[0] if rows else {"title": None, "state": None, "observed_at": None}
