"""From VOD's notification to rows that hold every documented field, on each pair of database and broker."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tests.system.installation import Installation, analysed
from tests.system.processes import eventually

UPLOADS = 60

Reader = Callable[[Any], Any]


# The data dictionary (vod-protocol 9.2 to 9.6), read once more: what was sent -> what should stand in the column.


def text(said: Any) -> str | None:
    return None if said is None else str(said).strip() or None


def whole(said: Any) -> int | None:
    return None if text(said) is None else int(str(said))


def exact(said: Any) -> Decimal | None:
    written = text(said)
    if written is None or written == "0/0":
        return None
    value = Fraction(written) * 10**6
    return Decimal(round(value)).scaleb(-6)


def switch(said: Any) -> bool | None:
    return None if text(said) is None else str(said) in ("1", "True", "true")


def instant(said: Any) -> datetime | None:
    written = text(said)
    return None if written is None else datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def tag_list(said: Any) -> list[str] | None:
    return None if text(said) is None else [part.strip() for part in said.split(",") if part.strip()]


def url_list(said: Any) -> list[str] | None:
    if said is None:
        return None
    packed = len(said) == 1 and said[0].startswith("[")
    return json.loads(said[0]) if packed else said


MEDIA_INFO: dict[str, tuple[str, Reader]] = {
    "MediaId": ("media_id", text),
    "Title": ("title", text),
    "Description": ("description", text),
    "Status": ("status", text),
    "CateId": ("cate_id", whole),
    "CateName": ("cate_name", text),
    "Tags": ("tags", tag_list),
    "CoverURL": ("cover_url", text),
    "Snapshots": ("snapshots", url_list),
    "CreationTime": ("created_at", instant),
    "ModificationTime": ("modified_at", instant),
    "StorageLocation": ("storage_location", text),
    "StorageClass": ("storage_class", text),
    "RestoreStatus": ("restore_status", text),
    "RestoreExpiration": ("restore_expiration", instant),
    "DownloadSwitch": ("download_switch", text),
    "TemplateGroupId": ("template_group_id", text),
    "AppId": ("app_id", text),
    "UserData": ("user_data", text),
    "ReferenceId": ("reference_id", text),
}

#: Without MediaId, which the outer one overrules (vod-protocol 7.15), and the two lists, which are tables.
MEZZANINE_INFO: dict[str, tuple[str, Reader]] = {
    "Status": ("status", text),
    "FileName": ("file_name", text),
    "FileURL": ("file_url", text),
    "FileMD5": ("file_md5", text),
    "CreationTime": ("created_at", instant),
    "Size": ("size", whole),
    "Width": ("width", whole),
    "Height": ("height", whole),
    "Duration": ("duration", exact),
    "Bitrate": ("bitrate", exact),
    "Fps": ("fps", exact),
}

AUDIO_STREAM: dict[str, tuple[str, Reader]] = {
    "Index": ("stream_index", text),
    "CodecName": ("codec_name", text),
    "CodecLongName": ("codec_long_name", text),
    "CodecTag": ("codec_tag", text),
    "CodecTagString": ("codec_tag_string", text),
    "CodecTimeBase": ("codec_time_base", text),
    "Timebase": ("time_base", text),
    "StartTime": ("start_time", exact),
    "Duration": ("duration", exact),
    "Bitrate": ("bitrate", exact),
    "SampleRate": ("sample_rate", whole),
    "SampleFmt": ("sample_fmt", text),
    "Channels": ("channels", whole),
    "ChannelLayout": ("channel_layout", text),
    "NumFrames": ("num_frames", whole),
    "Lang": ("lang", text),
}

VIDEO_STREAM: dict[str, tuple[str, Reader]] = {
    "Index": ("stream_index", text),
    "CodecName": ("codec_name", text),
    "CodecLongName": ("codec_long_name", text),
    "CodecTag": ("codec_tag", text),
    "CodecTagString": ("codec_tag_string", text),
    "CodecTimeBase": ("codec_time_base", text),
    "Timebase": ("time_base", text),
    "Profile": ("profile", text),
    "Level": ("level", whole),
    "PixFmt": ("pix_fmt", text),
    "Width": ("width", whole),
    "Height": ("height", whole),
    "Rotate": ("rotate", whole),
    "Sar": ("sar", text),
    "Dar": ("dar", text),
    "HasBFrames": ("has_b_frames", whole),
    "Fps": ("fps", exact),
    "AvgFPS": ("avg_fps", exact),
    "NumFrames": ("num_frames", whole),
    "StartTime": ("start_time", exact),
    "Duration": ("duration", exact),
    "Bitrate": ("bitrate", exact),
    "Lang": ("lang", text),
    "HDRType": ("hdr_type", text),
}

PLAY_INFO: dict[str, tuple[str, Reader]] = {
    "JobId": ("job_id", text),
    "Status": ("status", text),
    "StreamType": ("stream_type", text),
    "Format": ("format", text),
    "Definition": ("definition", text),
    "Specification": ("specification", text),
    "NarrowBandType": ("narrow_band_type", text),
    "Width": ("width", whole),
    "Height": ("height", whole),
    "Size": ("size", whole),
    "Duration": ("duration", exact),
    "Bitrate": ("bitrate", exact),
    "Fps": ("fps", exact),
    "CodecName": ("codec_name", text),
    "HDRType": ("hdr_type", text),
    "BitDepth": ("bit_depth", whole),
    "Encrypt": ("encrypt", switch),
    "EncryptType": ("encrypt_type", text),
    "EncryptMode": ("encrypt_mode", text),
    "PlayURL": ("play_url", text),
    "WatermarkId": ("watermark_id", text),
    "JobType": ("job_type", text),
    "JobExt": ("job_ext", text),
    "TemplateId": ("template_id", text),
    "TemplateGroupId": ("template_group_id", text),
    "CreationTime": ("created_at", instant),
    "ModificationTime": ("modified_at", instant),
}


def expected(said: dict[str, Any], fields: dict[str, tuple[str, Reader]]) -> dict[str, Any]:
    # Transcode reports write Samplerate (vod-protocol 7.13).
    said = said | ({"SampleRate": said["Samplerate"]} if "Samplerate" in said else {})
    return {column: read(said.get(name)) for name, (column, read) in fields.items()}


def stored(row: dict[str, Any], fields: dict[str, tuple[str, Reader]]) -> dict[str, Any]:
    return {column: _comparable(row[column], read) for column, read in fields.values()}


def _comparable(value: Any, read: Reader) -> Any:
    """A value as the database gave it, in the types that the readers give: the three databases differ in these."""
    if value is None:
        return None
    if read is instant:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if read is exact:
        return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if read is switch:
        return bool(value)
    if read in (tag_list, url_list):
        return as_json(value)
    return value


def as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


# Tests


@pytest.fixture(scope="module")
def uploaded(installation: Installation) -> dict[str, dict[str, Any]]:
    """The emulator's record of media that were uploaded, told about and synced, by their ids."""
    media_ids = installation.emulator.post("/uploads", json={"count": UPLOADS}).json()["media_ids"]
    installation.wait_until_synced()
    return record(installation, media_ids)


def record(installation: Installation, media_ids: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = installation.emulator.post("/record", json=media_ids).json()["media"]
    return found


def test_the_data_dictionary_is_whole() -> None:
    fields = (MEDIA_INFO, MEZZANINE_INFO, AUDIO_STREAM, VIDEO_STREAM, PLAY_INFO)

    assert [len(each) for each in fields] == [20, 14 - 3, 16, 24, 27]


def test_every_field_of_media_info_stands_in_its_column(installation: Installation, uploaded: dict[str, Any]) -> None:
    rows = {row["media_id"]: row for row in installation.database.table("vod_media")}

    assert rows.keys() == uploaded.keys()
    assert {media_id: stored(row, MEDIA_INFO) for media_id, row in rows.items()} == {
        media_id: expected(element["MediaInfo"], MEDIA_INFO) for media_id, element in uploaded.items()
    }
    assert {(row["source"], row["state"], row["deleted_at"]) for row in rows.values()} == {("default", "ok", None)}


def test_every_field_of_the_source_file_stands_in_its_column(installation: Installation, uploaded: dict[str, Any]) -> None:
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
def test_every_field_of_every_stream_stands_in_its_column_and_no_other_stream(
    installation: Installation,
    uploaded: dict[str, Any],
    table: str,
    fields: dict[str, tuple[str, Reader]],
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


def test_the_answer_is_kept_whole_but_for_signatures(installation: Installation, uploaded: dict[str, Any]) -> None:
    rows = {row["media_id"]: row for row in installation.database.table("vod_raw")}

    assert {media_id: as_json(row["answer"]) for media_id, row in rows.items()} == uploaded
    assert {json.dumps(as_json(row["unreadable"])) for row in rows.values()} == {"[]"}


def test_large_sizes_and_all_alphabets_survive(installation: Installation, uploaded: dict[str, Any]) -> None:
    sizes = [row["size"] for row in installation.database.table("vod_mezzanine")]
    media = installation.database.table("vod_media")

    assert max(sizes) > 2**31
    assert max(row["cate_id"] or 0 for row in media) == 9_876_543_210
    assert any("👩‍👩‍👧‍👦" in row["title"] for row in media)
    assert any("DROP TABLE" in row["title"] for row in media)


def test_an_upload_costs_full_calls_and_asks_for_no_medium_twice(installation: Installation, uploaded: dict[str, Any]) -> None:
    calls = installation.calls()

    assert calls["largest_batch"] == 20
    assert (calls["repeated_in_call"], calls["throttled"], calls["errors"]) == (0, 0, 0)


def test_every_notification_is_written_down(installation: Installation, uploaded: dict[str, Any]) -> None:
    delivered = installation.emulator.get("/deliveries").json()
    rows = [row for row in installation.database.table("vod_notification") if row["media_id"] in uploaded]

    types: dict[str, Counter[str]] = {media_id: Counter() for media_id in uploaded}
    for row in rows:
        types[row["media_id"]][row["event_type"]] += 1

    assert (delivered["delivered"], delivered["dropped"], delivered["attempts"]) == (len(rows), 0, len(rows))
    assert {row["deliveries"] for row in rows} == {1}
    assert {(row["source"], row["status"]) for row in rows} == {("default", "success")}
    for media_id, element in uploaded.items():
        streams = len(element.get("PlayInfoList") or [])
        once = dict.fromkeys(("MediaBaseChangeComplete", "FileUploadComplete", "VideoAnalysisComplete"), 1)
        pictured = {"SnapshotComplete": 1} if element["MediaInfo"].get("CoverURL") else {}
        transcoded = {"StreamTranscodeComplete": streams, "TranscodeComplete": 1} if streams else {}
        assert types[media_id] == once | pictured | transcoded


def test_a_repeated_notification_changes_nothing_but_its_deliveries(installation: Installation, uploaded: dict[str, Any]) -> None:
    repeated = installation.database.rows("SELECT * FROM vod_notification ORDER BY id")[0]
    query = "SELECT * FROM vod_media WHERE media_id = :id"
    before = installation.database.rows(query, id=repeated["media_id"])
    others = installation.database.count("vod_notification")
    calls = installation.calls()["calls"]

    answers = [installation.notify(repeated["body"].encode()) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert installation.database.rows("SELECT * FROM vod_notification WHERE id = :id", id=repeated["id"]) == [
        repeated | {"deliveries": 3}
    ]
    assert installation.database.count("vod_notification") == others
    assert installation.database.count("vod_sync_request") == 0
    assert installation.database.rows(query, id=repeated["media_id"]) == before
    assert installation.calls()["calls"] == calls


def test_a_changed_title_changes_the_row(installation: Installation, uploaded: dict[str, Any]) -> None:
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


def test_an_equal_answer_moves_only_the_time_of_asking(installation: Installation, uploaded: dict[str, Any]) -> None:
    media_id = list(uploaded)[1]
    before = _media(installation, media_id)

    installation.notify(analysed(media_id, Note="equal"))
    eventually(
        lambda: _media(installation, media_id)["observed_at"] != before["observed_at"], within=10, missing=f"a look at {media_id}"
    )

    after = _media(installation, media_id)
    assert after["observed_at"] > before["observed_at"]
    assert after == before | {"observed_at": after["observed_at"]}


@pytest.mark.usefixtures("uploaded")
def test_an_unknown_medium_is_missing_and_a_forbidden_one_forbidden(installation: Installation) -> None:
    unknown, forbidden = "dead0000000000000000000000000001", "dead0000000000000000000000000002"
    installation.emulator.put("/faults", json={"forbidden": [forbidden]}).raise_for_status()

    for media_id in (unknown, forbidden):
        installation.notify(analysed(media_id))
    installation.wait_until_synced()
    installation.emulator.delete("/faults")

    states = {media_id: _media(installation, media_id)["state"] for media_id in (unknown, forbidden)}
    assert states == {unknown: "missing", forbidden: "forbidden"}


@pytest.mark.usefixtures("uploaded")
def test_a_damaged_file_is_stored_as_far_as_vod_knows_it(installation: Installation) -> None:
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
def test_notifications_of_other_things_are_stored_and_closed(installation: Installation) -> None:
    calls, owed = installation.calls()["calls"], installation.database.count("vod_sync_request")
    other = {"EventType": "ImageUploadComplete", "EventTime": "2025-11-24T16:00:05Z", "Status": "success", "ImageId": "img-0001"}

    answer = installation.notify(other)

    assert (answer.status_code, answer.text) == (200, "ok")
    assert installation.database.value("SELECT count(*) FROM vod_notification WHERE event_type = 'ImageUploadComplete'") == 1
    assert installation.database.count("vod_sync_request") == owed
    assert installation.calls()["calls"] == calls


def _media(installation: Installation, media_id: str) -> dict[str, Any]:
    found = installation.database.rows("SELECT * FROM vod_media WHERE media_id = :id", id=media_id)
    return found[0] if found else {"title": None, "state": None, "observed_at": None}
